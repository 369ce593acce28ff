"""Deletion in SQL, and the changes that readers follow: what is hidden leaves them, and a tombstone tells
of it."""

from __future__ import annotations

from collections.abc import Sequence

from gridkeep.catalog.rows import chunks, experiment_from, marks
from gridkeep.catalog.sql_base import BY_SUBMISSION, EXPERIMENTS, Records
from gridkeep.model import Experiment

_DELETED_AT_ONCE = 5000  # artifacts in a transaction
_NEWER = "change > ? ORDER BY change LIMIT ?"
_CHANGES = (
    "SELECT * FROM (SELECT change, 'experiment' AS kind, experiment_id AS id FROM experiments "
    f"WHERE NOT deleting AND {_NEWER}) AS e UNION ALL "
    "SELECT * FROM (SELECT change, 'artifact' AS kind, artifact_id AS id FROM artifacts "
    f"WHERE experiment_id NOT IN (SELECT experiment_id FROM experiments WHERE deleting) AND {_NEWER}) AS a "
    f"UNION ALL SELECT * FROM (SELECT change, kind, id FROM tombstones WHERE {_NEWER}) AS t "
    "ORDER BY change LIMIT ?"
)


class Deletion(Records):
    """The part of the contract on changes and deletion."""

    def changes(self, after: int, limit: int = 1000) -> list[tuple[int, str, str]]:
        rows = self._db.rows(_CHANGES, [*(after, limit) * 3, limit])
        return [(int(number), str(kind), str(thing)) for number, kind, thing in rows]

    def begin_delete(self, experiment_ids: Sequence[str]) -> None:
        with self._db.writing():
            shown: dict[str, str] = {}
            for ids in chunks(experiment_ids):
                sql = "SELECT experiment_id, run_id FROM experiments WHERE NOT deleting AND experiment_id IN"
                shown.update(self._db.rows(f"{sql} ({marks(len(ids))})", ids))
            self._hide("experiment", list(shown))
            left = "SELECT 1 FROM experiments WHERE run_id = ? AND NOT deleting LIMIT 1"
            run_ids = dict.fromkeys(shown.values())
            self._hide("run", [run_id for run_id in run_ids if not self._db.rows(left, (run_id,))])

    def _hide(self, kind: str, ids: Sequence[str]) -> None:
        first = self._take_changes(len(ids))
        self._db.run_many(f"UPDATE {kind}s SET deleting = TRUE WHERE {kind}_id = ?", [(id_,) for id_ in ids])
        self._db.run_many(
            "INSERT INTO tombstones (id, kind, change) VALUES (?, ?, ?)",
            [(id_, f"{kind}_deleted", first + i) for i, id_ in enumerate(ids)],
        )

    def deleting(self) -> list[Experiment]:
        rows = self._db.rows(f"{EXPERIMENTS}deleting {BY_SUBMISSION}")
        return [experiment_from(row) for row in rows]

    def finish_delete(self, experiment_id: str) -> None:
        self.begin_delete([experiment_id])  # nobody may see it in parts
        removed = 1
        while removed:  # in parts: others wait for milliseconds, not for a million rows
            with self._db.writing():
                removed = self._db.run(
                    "DELETE FROM artifacts WHERE artifact_id IN "
                    "(SELECT artifact_id FROM artifacts WHERE experiment_id = ? LIMIT ?)",
                    (experiment_id, _DELETED_AT_ONCE),
                )
        with self._db.writing(durable=True):
            rows = self._db.rows("SELECT run_id FROM experiments WHERE experiment_id = ?", (experiment_id,))
            for table in ("shares", "experiments"):
                self._db.run(f"DELETE FROM {table} WHERE experiment_id = ?", (experiment_id,))
            self._db.run_many(
                "DELETE FROM runs WHERE run_id = ? AND NOT EXISTS (SELECT 1 FROM experiments WHERE run_id = ?)",
                [(run_id, run_id) for (run_id,) in rows],
            )
            self._db.run_many(
                "DELETE FROM shares WHERE run_id = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE run_id = ?)",
                [(run_id, run_id) for (run_id,) in rows],
            )
