"""Signatures that this home can check later: HMAC-SHA256 with a secret that can be changed for a new one.

The secrets lie in a 0600 file of the home, not in the catalog: so the catalog holds nothing that opens a door, and a copy of
it forges no link. Several servers of one catalog share the file. What an older secret signed is good until it ends by
itself, or until `rotate(at_once=True)`. Knows nothing of what is signed.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from dataclasses import asdict, dataclass
from functools import cached_property

from gridkeep.errors import HomeError
from gridkeep.files import read_json, take_lock, write_json
from gridkeep.settings import Home

LONGEST = 7 * 86400.0  # seconds that anything signed may be good for
_PATIENCE = 10.0  # seconds that another process is waited for


@dataclass(frozen=True)
class Secret:
    """One of them; `number` tells which one made a signature."""

    number: int
    secret: str  # hex
    made_at: float

    def sign(self, message: str) -> str:
        """A signature of 66 or a few more characters, fit for a URL."""
        mac = self._keyed.copy()
        mac.update(message.encode())
        return f"{self.number}.{mac.hexdigest()}"

    @cached_property
    def _keyed(self) -> hmac.HMAC:
        """To be copied: with it a signature costs half as much."""
        return hmac.new(bytes.fromhex(self.secret), digestmod="sha256")


class Signer:
    """Makes the first secret when it is needed, and notices when another process has changed them."""

    def __init__(self, home: Home) -> None:
        self._path = home.server_secrets
        self._seen: tuple[int, int] | None = None
        self._secrets: list[Secret] = []

    def secret(self) -> Secret:
        """The one in use."""
        return self._current()[-1]

    def verify(self, message: str, signature: str) -> bool:
        number, _, _ = signature.partition(".")
        secret = next((each for each in self._current() if str(each.number) == number), None)
        return (
            secret is not None
            and signature.isascii()
            and hmac.compare_digest(secret.sign(message), signature)
        )

    def rotate(self, *, at_once: bool = False) -> None:
        """From now on a new secret signs. With `at_once` nothing that was signed before is good any more; else the old one
        goes when all that it may have signed has ended."""
        self._change(keep=0.0 if at_once else LONGEST)

    def _current(self) -> list[Secret]:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._change(keep=LONGEST, only_first=True)
            found = os.stat(self._path)
        if (seen := (found.st_ino, found.st_mtime_ns)) != self._seen:
            self._secrets, self._seen = self._read(), seen
        return self._secrets

    def _read(self) -> list[Secret]:
        try:
            return [Secret(**shape) for shape in read_json(self._path) or []]
        except (ValueError, TypeError):
            raise HomeError(
                f"{self._path} cannot be read.", "Remove it: signed URLs of before then end at once."
            ) from None

    def _change(self, *, keep: float, only_first: bool = False) -> None:
        lock = take_lock(f"{self._path}.lock", _PATIENCE)
        if lock is None:
            raise HomeError(f"{self._path} is locked by another process.", "Look for one that hangs.")
        try:
            old, now = self._read(), time.time()
            if old and only_first:
                return  # another process was faster
            number = max((secret.number for secret in old), default=0) + 1
            # A secret was in use until the one after it was made.
            ended = [later.made_at for later in old[1:]] + [now for _ in old[-1:]]
            kept = [secret for secret, end in zip(old, ended, strict=True) if keep and now - end < keep]
            write_json(
                self._path,
                [asdict(each) for each in [*kept, Secret(number, secrets.token_hex(32), now)]],
            )
        finally:
            os.close(lock)
