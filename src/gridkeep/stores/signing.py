"""Links that a cloud itself checks: how each is signed, so that any name of an object comes through.

Uses obstore where it does that right. It escapes nothing for Google, so names are handed to it escaped; for Azure it signs
names as they are escaped, where Azure compares them as they are, so we sign with the account's key ourselves.
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import obstore

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, GCSStore, S3Store

# Links to these paths, good for so many seconds; None when there are none to give.
Signer = Callable[[Sequence[str], float], Sequence[str] | None]

_PLAIN = re.compile(r"[\w./~-]*", re.ASCII)
_VERSION = "2021-12-02"


def s3_signer(store: S3Store) -> Signer:
    return lambda paths, expires: obstore.sign(store, "GET", paths, timedelta(seconds=expires))


def gcs_signer(store: GCSStore) -> Signer:
    def sign(paths: Sequence[str], expires: float) -> Sequence[str]:
        escaped = [quote(path, safe="/~") for path in paths]
        return obstore.sign(store, "GET", escaped, timedelta(seconds=expires))

    return sign


def azure_signer(store: AzureStore, container: str, config: AzureConfig) -> Signer:
    """Without the account's key obstore signs, by what its credentials allow, but plain names only."""
    account, key = config.get("account_name"), config.get("account_key")

    def sign(paths: Sequence[str], expires: float) -> Sequence[str] | None:
        if account and key:
            address = config.get("endpoint") or f"https://{account}.blob.core.windows.net"
            return [f"{address.rstrip('/')}/{container}/{_shared_access(path, expires)}" for path in paths]
        if not all(_PLAIN.fullmatch(path) for path in paths):
            return None
        return obstore.sign(store, "GET", paths, timedelta(seconds=expires))

    def _shared_access(path: str, expires: float) -> str:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + expires))
        fields = ["r", "", until, f"/blob/{account}/{container}/{path}", "", "", "", _VERSION, "b", *[""] * 7]
        signature = hmac.digest(base64.b64decode(key or ""), "\n".join(fields).encode(), "sha256")
        query = {
            "sp": "r",
            "se": until,
            "sv": _VERSION,
            "sr": "b",
            "sig": base64.b64encode(signature).decode(),
        }
        return f"{quote(path, safe='/~')}?{urlencode(query)}"

    return sign
