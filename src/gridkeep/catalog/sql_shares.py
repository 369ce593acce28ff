"""Share links in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridkeep.catalog.database import Row
from gridkeep.catalog.rows import columns, marks, plain
from gridkeep.catalog.shares import Share
from gridkeep.catalog.sql_base import Records

_COLUMNS = (
    *("share_id", "digest", "run_id", "experiment_id", "path", "folder", "created_by", "created_at"),
    *("expires_at", "revoked_at", "opens", "last_opened_at"),
)
# Those of which nothing is being deleted; a condition follows.
_SHARES = (
    f"SELECT {columns(_COLUMNS, 'shares')} FROM shares JOIN runs ON runs.run_id = shares.run_id "
    "LEFT JOIN experiments AS e ON e.experiment_id = shares.experiment_id "
    "WHERE NOT runs.deleting AND (shares.experiment_id IS NULL OR NOT e.deleting)"
)
_RUN = "SELECT 1 FROM runs WHERE run_id = ? AND NOT deleting"
_EXPERIMENT = "SELECT 1 FROM experiments WHERE run_id = ? AND experiment_id = ? AND NOT deleting"


class ShareRecords(Records):
    """The part of the contract on share links."""

    def add_share(self, share: Share) -> bool:
        place = (share.run_id,) if share.experiment_id is None else (share.run_id, share.experiment_id)
        values = [getattr(share, name) for name in _COLUMNS]
        with self._db.writing():
            if not self._db.rows(_RUN if share.experiment_id is None else _EXPERIMENT, place):
                return False
            self._db.run(
                f"INSERT INTO shares ({columns(_COLUMNS)}) VALUES ({marks(len(_COLUMNS))})",
                [plain(value) if isinstance(value, str) else value for value in values],
            )
        return True

    def share(self, share_id: str) -> Share | None:
        return next(iter(self._shares(" AND share_id = ?", [share_id])), None)

    def share_with(self, digest: str) -> Share | None:
        return next(iter(self._shares(" AND digest = ?", [digest])), None)

    def shares(
        self,
        *,
        user: str | None = None,
        run_id: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Share]:
        where, values = "", list[Any]()
        if user is not None:
            where += " AND (shares.created_by = ? OR runs.created_by = ?)"
            values += [user, user]
        if run_id is not None:
            where += " AND shares.run_id = ?"
            values.append(run_id)
        if before is not None:
            where += " AND share_id < ?"
            values.append(before)
        return self._shares(f"{where} ORDER BY share_id DESC LIMIT ?", [*values, limit])

    def revoke_share(self, share_id: str, at: float) -> bool:
        with self._db.writing():
            sql = "UPDATE shares SET revoked_at = ? WHERE share_id = ? AND revoked_at IS NULL"
            return self._db.run(sql, (at, share_id)) > 0

    def note_open(self, share_id: str, at: float) -> None:
        with self._db.writing():
            sql = "UPDATE shares SET opens = opens + 1, last_opened_at = ? WHERE share_id = ?"
            self._db.run(sql, (at, share_id))

    def _shares(self, condition: str, values: Sequence[Any]) -> list[Share]:
        return [_share_from(row) for row in self._db.rows(f"{_SHARES}{condition}", values)]


def _share_from(row: Row) -> Share:
    shape = dict(zip(_COLUMNS, row, strict=True))
    path = None if shape["path"] is None else bytes(shape["path"])
    return Share(**shape | {"path": path, "folder": bool(shape["folder"])})
