"""What all parts of the SQL catalog share: the database, change numbers, and whether an experiment is there.

Every write is one short transaction that excludes the others, so what it has read before it writes is still
true when it does. Numbers are taken inside it from the one row that counts them, so they become visible in
order.
"""

from __future__ import annotations

from gridkeep.catalog.database import Database
from gridkeep.catalog.rows import EXPERIMENT_COLUMNS, columns
from gridkeep.catalog.totals import TOTALS
from gridkeep.model import State

# Word for word the condition of the index `experiments_unfinished`, else it would not be used.
UNFINISHED = "state IN ('queued', 'running', 'syncing') AND NOT deleting"

# `experiment_from` reads what this gives; a condition follows.
EXPERIMENTS = (
    f"SELECT {columns(EXPERIMENT_COLUMNS + TOTALS, 'experiments')}, runs.name FROM experiments "
    "JOIN runs ON runs.run_id = experiments.run_id WHERE experiments."
)
BY_SUBMISSION = "ORDER BY experiments.created_at, experiments.run_id, experiments.number"


class Records:
    """A part of the catalog."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def last_change(self) -> int:
        [[last]] = self._db.rows("SELECT last FROM change_counter")
        return int(last)

    def _take_changes(self, count: int) -> int:
        """The first of the next `count` change numbers. Inside `writing`."""
        self._db.run("UPDATE change_counter SET last = last + ?", (count,))
        return self.last_change() - count + 1

    def _state(self, experiment_id: str) -> State | None:
        """None if it is being deleted, or gone."""
        sql = "SELECT state FROM experiments WHERE experiment_id = ? AND NOT deleting"
        rows = self._db.rows(sql, (experiment_id,))
        return State(rows[0][0]) if rows else None
