"""Experiments in SQL: finding them, and every change of their state."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from gridkeep.catalog.rows import UPDATABLE, experiment_from, experiment_value
from gridkeep.catalog.sql_base import BY_SUBMISSION, EXPERIMENTS, UNFINISHED, Records
from gridkeep.model import EXPERIMENT_SUFFIX, Experiment, Outcome, State

_NEVER_SO_MANY = 18  # digits; more would not fit into a column


class ExperimentRecords(Records):
    """The part of the contract on experiments."""

    def experiment(self, name: str) -> Experiment | None:
        suffix = EXPERIMENT_SUFFIX.search(name)
        if suffix is None:
            rows = self._db.rows(f"{EXPERIMENTS}experiment_id = ? AND NOT experiments.deleting", (name,))
        elif len(suffix[1]) > _NEVER_SO_MANY or suffix[1] != str(int(suffix[1])):
            return None  # -exp007 names nothing
        else:
            rows = self._db.rows(
                f"{EXPERIMENTS}number = ? AND NOT experiments.deleting AND runs.name = ? AND NOT runs.deleting",
                (int(suffix[1]), name[: suffix.start()]),
            )
        return experiment_from(rows[0]) if rows else None

    def experiments(self, run_id: str, *, after: int = -1, limit: int | None = None) -> list[Experiment]:
        sql = f"{EXPERIMENTS}run_id = ? AND number > ? AND NOT experiments.deleting ORDER BY number"
        parameters: list[Any] = [run_id, after]
        if limit is not None:
            sql += " LIMIT ?"
            parameters.append(limit)
        return [experiment_from(row) for row in self._db.rows(sql, parameters)]

    def unfinished(self) -> list[Experiment]:
        where = UNFINISHED.replace("deleting", "experiments.deleting")
        return [experiment_from(row) for row in self._db.rows(f"{EXPERIMENTS}{where} {BY_SUBMISSION}")]

    def has_unfinished(self) -> bool:
        return bool(self._db.rows(f"SELECT 1 FROM experiments WHERE {UNFINISHED} LIMIT 1"))

    def update_experiment(
        self, experiment_id: str, *, only_from: Iterable[State] | None = None, **changes: Any
    ) -> bool:
        if unknown := changes.keys() - set(UPDATABLE):
            raise TypeError(f"an experiment's {', '.join(sorted(unknown))} cannot be set")
        is_final = "state" in changes and not State(changes["state"]).active
        with self._db.writing(durable=is_final):  # what the home has of it goes then
            state = self._state(experiment_id)
            if state is None or (only_from is not None and state not in only_from):
                return False
            self._set(experiment_id, changes)
        return True

    def request_stop(self, experiment_id: str, reason: str) -> bool:
        with self._db.writing():
            state = self._state(experiment_id)
            if state is State.QUEUED:
                stopped = {"state": State.STOPPED, "outcome": Outcome.TERMINATED, "finished_at": time.time()}
                self._set(experiment_id, stopped | {"reason": reason})
            elif state is State.RUNNING:
                self._set(experiment_id, {"stop_requested": reason})
        return state in (State.QUEUED, State.RUNNING)

    def _set(self, experiment_id: str, changes: dict[str, Any]) -> None:
        """Inside `writing`."""
        names = ", ".join(f"{name} = ?" for name in (*changes, "change"))
        values = [experiment_value(name, value) for name, value in changes.items()]
        self._db.run(
            f"UPDATE experiments SET {names} WHERE experiment_id = ?",
            [*values, self._take_changes(1), experiment_id],
        )
