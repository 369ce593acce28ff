"""How to serve, and which ways are refused. Imports nothing of the extra, so that a mistake is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from gridkeep.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to serve. `url`: the address that people use, where a proxy stands in front."""

    host: str = "127.0.0.1"
    port: int = 8787
    behind_proxy: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    url: str | None = None


def check(options: Options) -> None:
    """Raises UsageError for what would be open to listeners, or makes no sense."""
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("TLS needs both --tls-cert and --tls-key.")
    if options.host not in LOOPBACK and not options.tls_cert and not options.behind_proxy:
        raise UsageError(
            f"On {options.host} everyone on the network could listen to keys and files.",
            "Give --tls-cert and --tls-key, or --behind-proxy when a proxy in front of it speaks TLS.",
        )
    if options.url and (
        urlsplit(options.url).scheme not in ("http", "https") or not urlsplit(options.url).netloc
    ):
        raise UsageError(
            f"{options.url} is no address of a server.", "Write it as in https://grid.example.org."
        )
