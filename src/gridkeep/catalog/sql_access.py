"""Keys, sessions, login codes and audit lines in SQL."""

from __future__ import annotations

import json
from typing import Any

from gridkeep.catalog.access import AuditLine, Key, Role, Session
from gridkeep.catalog.database import Row
from gridkeep.catalog.rows import columns, marks, plain
from gridkeep.catalog.sql_base import Records

_KEY = ("key_id", "name", "role", "owner", "digest", "created_at", "last_used_at", "revoked_at")
_SESSION = ("digest", "owner", "role", "key_id", "created_at", "expires_at")
_CODE = ("digest", "owner", "role", "key_id", "expires_at")
_AUDIT = ("number", "at", "who", "action", "subject", "detail")


class AccessRecords(Records):
    """The part of the contract on who may come in."""

    def add_key(self, key: Key) -> None:
        self._insert("keys", _KEY, key)

    def key(self, key_id: str) -> Key | None:
        rows = self._db.rows(f"SELECT {columns(_KEY)} FROM keys WHERE key_id = ?", (key_id,))
        return _key_from(rows[0]) if rows else None

    def api_keys(self) -> list[Key]:
        sql = f"SELECT {columns(_KEY)} FROM keys ORDER BY created_at, key_id"
        return [_key_from(row) for row in self._db.rows(sql)]

    def touch_key(self, key_id: str, at: float) -> None:
        with self._db.writing():
            self._db.run("UPDATE keys SET last_used_at = ? WHERE key_id = ?", (at, key_id))

    def revoke_key(self, key_id: str, at: float) -> bool:
        with self._db.writing():
            sql = "UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
            revoked = self._db.run(sql, (at, key_id))
            for table in ("sessions", "login_codes"):
                self._db.run(f"DELETE FROM {table} WHERE key_id = ?", (key_id,))
        return revoked > 0

    def add_session(self, session: Session) -> None:
        self._insert("sessions", _SESSION, session, expired_by=session.created_at)

    def session(self, digest: str, now: float) -> Session | None:
        sql = f"SELECT {columns(_SESSION)} FROM sessions WHERE digest = ? AND expires_at > ?"
        rows = self._db.rows(sql, (digest, now))
        return _session_from(_SESSION, rows[0]) if rows else None

    def end_session(self, digest: str) -> None:
        with self._db.writing():
            self._db.run("DELETE FROM sessions WHERE digest = ?", (digest,))

    def add_login_code(self, code: Session) -> None:
        self._insert("login_codes", _CODE, code, expired_by=code.created_at)

    def take_login_code(self, digest: str, now: float) -> Session | None:
        with self._db.writing():
            sql = f"SELECT {columns(_CODE)} FROM login_codes WHERE digest = ? AND expires_at > ?"
            rows = self._db.rows(sql, (digest, now))
            self._db.run("DELETE FROM login_codes WHERE digest = ?", (digest,))
        return _session_from(_CODE, rows[0]) if rows else None

    def note(self, line: AuditLine) -> None:
        detail = json.dumps(line.detail)
        with self._db.writing():
            [[last]] = self._db.rows("SELECT COALESCE(max(number), 0) FROM audit")
            self._db.run(
                f"INSERT INTO audit ({columns(_AUDIT)}) VALUES ({marks(len(_AUDIT))})",
                (last + 1, line.at, plain(line.who), line.action, plain(line.subject), detail),
            )

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditLine]:
        where = "" if before is None else "WHERE number < ? "
        sql = f"SELECT {columns(_AUDIT)} FROM audit {where}ORDER BY number DESC LIMIT ?"
        rows = self._db.rows(sql, (limit,) if before is None else (before, limit))
        shapes = (dict(zip(_AUDIT, row, strict=True)) for row in rows)
        return [AuditLine(**shape | {"detail": json.loads(shape["detail"])}) for shape in shapes]

    def _insert(
        self, table: str, names: tuple[str, ...], item: Any, *, expired_by: float | None = None
    ) -> None:
        values = (getattr(item, name) for name in names)
        with self._db.writing():
            if expired_by is not None:
                self._db.run(f"DELETE FROM {table} WHERE expires_at <= ?", (expired_by,))
            self._db.run(
                f"INSERT INTO {table} ({columns(names)}) VALUES ({marks(len(names))})",
                [plain(str(value)) if isinstance(value, str) else value for value in values],
            )


def _key_from(row: Row) -> Key:
    shape = dict(zip(_KEY, row, strict=True))
    return Key(**shape | {"role": Role(shape["role"])})


def _session_from(names: tuple[str, ...], row: Row) -> Session:
    shape = dict(zip(names, row, strict=True))
    return Session(**shape | {"role": Role(shape["role"])})
