"""The part of a catalog's contract on who may come in to a server: keys, sessions, login codes, and the audit lines.

What opens a door is never here, only its SHA-256: whoever reads the catalog can come in no more than before. Knows nothing
of HTTP, nor how keys are made and compared. What all calls share is said in `base`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gridkeep.model import JSON


class Role(StrEnum):
    """What a key may do. Each may do all that the ones before it may."""

    READ = "read"  # look and download
    WRITE = "write"  # run, share, and end or delete one's own
    ADMIN = "admin"  # also what is others'

    def allows(self, needed: Role) -> bool:
        return _RANK[self] >= _RANK[needed]


_RANK = {Role.READ: 0, Role.WRITE: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key without its secret."""

    key_id: str
    name: str
    role: Role
    owner: str  # as whom it acts
    digest: str
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that was let in, or (as a login code) may be, once. It ends with the key that it came from."""

    digest: str
    owner: str
    role: Role
    expires_at: float
    created_at: float = 0.0
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """Who did what to what, of the things that one may have to answer for."""

    at: float
    who: str
    action: str  # "key.create", "key.revoke", "run.delete", …
    subject: str
    detail: JSON = field(default_factory=dict)
    number: int = 0


class AccessCatalog(Protocol):
    """See the module's docstring."""

    def add_key(self, key: Key) -> None: ...

    def key(self, key_id: str) -> Key | None:
        """Also one that was revoked."""
        ...

    def api_keys(self) -> list[Key]:
        """All, oldest first."""
        ...

    def touch_key(self, key_id: str, at: float) -> None:
        """Notes its last use."""
        ...

    def revoke_key(self, key_id: str, at: float) -> bool:
        """It, its sessions and its login codes are no good any more, at once. False when it was not, or no more, there."""
        ...

    def add_session(self, session: Session) -> None:
        """Drops those that have expired by the way."""
        ...

    def session(self, digest: str, now: float) -> Session | None:
        """Unless it has expired."""
        ...

    def end_session(self, digest: str) -> None:
        """Idempotent."""
        ...

    def add_login_code(self, code: Session) -> None:
        """Drops those that have expired by the way."""
        ...

    def take_login_code(self, digest: str, now: float) -> Session | None:
        """The code, unless it has expired, to one caller only: it is gone then."""
        ...

    def note(self, line: AuditLine) -> None:
        """Adds the line; its number is the next."""
        ...

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditLine]:
        """Newest first, those with a smaller number than `before`."""
        ...
