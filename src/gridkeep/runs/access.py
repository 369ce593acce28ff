"""Who may come in to a server: making keys, sessions and login codes, and telling whose they are.

What opens a door is shown once and kept as its SHA-256; with 256 random bits behind it a slow hash would add nothing. Knows
the catalog and nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

from gridkeep.catalog.access import AccessCatalog, AuditLine, Key, Role, Session
from gridkeep.errors import Conflict, NotFound
from gridkeep.model import Run

_PREFIX = "gk"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 12
_LONGEST = 200  # characters; nothing that opens a door is as long
_NOTED_EVERY = 60.0  # seconds between two notes of a key's use


@dataclass(frozen=True, slots=True)
class Caller:
    """Who it is that asks."""

    user: str
    role: Role
    key_id: str | None = None
    by_cookie: bool = False

    def may_change(self, run: Run) -> bool:
        """Whether it may end or delete the run: its owner may, and an admin."""
        return self.role is Role.ADMIN or (self.role is Role.WRITE and run.created_by == self.user)


# --------------------------------------------------------------------------------------------------------------- keys


def make_key(catalog: AccessCatalog, *, name: str, role: Role, owner: str) -> tuple[Key, str]:
    """A new key, and its text, which nobody can be told again. Raises Conflict when the name is that of a key in use."""
    if any(key.name == name and key.revoked_at is None for key in catalog.api_keys()):
        raise Conflict(f"A key named {name} exists already.", f"Revoke it with `grid key revoke {name}`.")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    text = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    key = Key(
        key_id=key_id, name=name, role=role, owner=owner, digest=digest_of(text), created_at=time.time()
    )
    catalog.add_key(key)
    note(catalog, owner, "key.create", key_id, name=name, role=str(role))
    return key, text


def revoke_key(catalog: AccessCatalog, name: str, *, who: str) -> Key:
    """Ends the key of that id or name, and every session that it opened. Raises NotFound."""
    for key in catalog.api_keys():
        if name in (key.key_id, key.name) and catalog.revoke_key(key.key_id, time.time()):
            note(catalog, who, "key.revoke", key.key_id, name=key.name)
            return key
    raise NotFound(f"There is no key {name} in use.", "`grid key list` shows the keys.")


def caller_with_key(catalog: AccessCatalog, text: str) -> Caller | None:
    """Whose key that is; None when it is no key, or a revoked one. Takes the same time for each wrong one."""
    parts = text.split("_", 2) if len(text) <= _LONGEST and text.isascii() else []
    key = catalog.key(parts[1]) if len(parts) == 3 else None
    right = hmac.compare_digest(digest_of(text), key.digest if key else digest_of(""))
    if key is None or not right or key.revoked_at is not None:
        return None
    now = time.time()
    if key.last_used_at is None or now - key.last_used_at > _NOTED_EVERY:
        catalog.touch_key(key.key_id, now)
    return Caller(key.owner, key.role, key.key_id)


# ------------------------------------------------------------------------------------------------------ sessions, codes


def open_session(catalog: AccessCatalog, caller: Caller, ttl: float) -> str:
    """Lets a browser in for `ttl` seconds; what its cookie is to hold."""
    token, session = _new(caller, ttl)
    catalog.add_session(session)
    return token


def caller_with_session(catalog: AccessCatalog, token: str) -> Caller | None:
    """Whose session that is, if it lasts."""
    session = catalog.session(digest_of(token), time.time()) if len(token) <= _LONGEST else None
    return _caller_of(session, by_cookie=True)


def end_session(catalog: AccessCatalog, token: str) -> None:
    catalog.end_session(digest_of(token))


def make_login_code(catalog: AccessCatalog, caller: Caller, ttl: float) -> str:
    """A code that lets one browser in as `caller`, once, within `ttl` seconds."""
    code, session = _new(caller, ttl)
    catalog.add_login_code(session)
    return code


def caller_with_code(catalog: AccessCatalog, code: str) -> Caller | None:
    """Whom that code lets in; it is used up then."""
    session = catalog.take_login_code(digest_of(code), time.time()) if len(code) <= _LONGEST else None
    return _caller_of(session)


def _new(caller: Caller, ttl: float) -> tuple[str, Session]:
    token, now = secrets.token_urlsafe(32), time.time()
    return token, Session(
        digest=digest_of(token),
        owner=caller.user,
        role=caller.role,
        key_id=caller.key_id,
        created_at=now,
        expires_at=now + ttl,
    )


def _caller_of(session: Session | None, *, by_cookie: bool = False) -> Caller | None:
    if session is None:
        return None
    return Caller(session.owner, session.role, session.key_id, by_cookie)


# --------------------------------------------------------------------------------------------------------------- both


def note(catalog: AccessCatalog, who: str, action: str, subject: str, **detail: Any) -> None:
    """Writes an audit line: of sharing, revoking, deleting, changes of keys."""
    catalog.note(AuditLine(at=time.time(), who=who, action=action, subject=subject, detail=detail))


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
