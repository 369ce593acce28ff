"""Clusters and runs in SQL. What a run says of itself beyond its submission is summed up from its
experiments, when read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gridkeep.catalog.database import Row
from gridkeep.catalog.rows import (
    CLUSTER_COLUMNS,
    EXPERIMENT_COLUMNS,
    RUN_COLUMNS,
    chunks,
    cluster_from,
    cluster_row,
    columns,
    experiment_row,
    marks,
    replaced,
    run_from,
    run_row,
)
from gridkeep.catalog.sql_base import UNFINISHED, Records
from gridkeep.errors import Conflict, NameTaken
from gridkeep.model import Cluster, Experiment, Run, State, derive_state

_CLUSTERS = f"SELECT {columns(CLUSTER_COLUMNS)} FROM clusters"
_ADD_CLUSTER = (
    f"INSERT INTO clusters ({columns(CLUSTER_COLUMNS)}) VALUES ({marks(len(CLUSTER_COLUMNS))}) "
    "ON CONFLICT (name) DO"
)
_ADD_RUN = f"INSERT INTO runs ({columns(RUN_COLUMNS)}, ulid) VALUES ({marks(len(RUN_COLUMNS) + 1)})"
_ADD_EXPERIMENT = (
    f"INSERT INTO experiments ({columns(EXPERIMENT_COLUMNS)}, change) "
    f"VALUES ({marks(len(EXPERIMENT_COLUMNS) + 1)})"
)
# `run_from` reads what follows the run_id; the last tells which experiment gives the reason, the two before it whether all
# have one outcome.
_SUMMED_UP = (
    "SELECT run_id, state, count(*), min(started_at), max(finished_at), CAST(sum(artifacts) AS BIGINT), "
    "CAST(sum(bytes) AS BIGINT), CAST(sum(missing) AS BIGINT), min(COALESCE(outcome, '')), max(outcome), "
    "min(number) FILTER (WHERE reason IS NOT NULL) "
    "FROM experiments WHERE NOT deleting AND run_id IN ({ids}) GROUP BY run_id, state"
)


class RunRecords(Records):
    """The part of the contract on clusters and runs."""

    def put_cluster(self, cluster: Cluster) -> None:
        with self._db.writing():
            self._db.run(f"{_ADD_CLUSTER} UPDATE SET {replaced(CLUSTER_COLUMNS)}", cluster_row(cluster))

    def add_cluster(self, cluster: Cluster) -> Cluster:
        with self._db.writing():
            self._db.run(f"{_ADD_CLUSTER} NOTHING", cluster_row(cluster))
            return self.cluster(cluster.name) or cluster

    def delete_cluster(self, name: str) -> int:
        with self._db.writing():
            if not (on_it := self.runs_on(name)):
                self._db.run("DELETE FROM clusters WHERE name = ?", (name,))
        return on_it

    def runs_on(self, name: str) -> int:
        [[count]] = self._db.rows("SELECT count(*) FROM runs WHERE cluster = ?", (name,))
        return int(count)

    def cluster(self, name: str) -> Cluster | None:
        rows = self._db.rows(f"{_CLUSTERS} WHERE name = ?", (name,))
        return cluster_from(rows[0]) if rows else None

    def clusters(self) -> list[Cluster]:
        return [cluster_from(row) for row in self._db.rows(f"{_CLUSTERS} ORDER BY name")]

    def create_run(self, run: Run, experiments: Sequence[Experiment]) -> None:
        with self._db.writing(durable=True):
            if self._taken(run.name):
                message = f"A Run with the name {run.name} already exists"
                raise NameTaken(message, f"Try the name {self._free(run.name)}.")
            self._db.run(_ADD_RUN, (*run_row(run), run.ulid))
            first = self._take_changes(len(experiments))
            rows = [(*experiment_row(experiment), first + i) for i, experiment in enumerate(experiments)]
            self._db.run_many(_ADD_EXPERIMENT, rows)
            self._resurrect(run.run_id, *(experiment.experiment_id for experiment in experiments))

    def restore(self, run: Run, experiments: Sequence[Experiment]) -> Run:
        with self._db.writing():
            if not self._is_there("run", run.run_id):
                name = self._free(run.name) if self._taken(run.name) else run.name
                self._db.run(_ADD_RUN, (*run_row(replace(run, name=name)), run.ulid))
                self._resurrect(run.run_id)
            new = [one for one in experiments if not self._is_there("experiment", one.experiment_id)]
            if new:
                first = self._take_changes(len(new))
                rows = [(*experiment_row(one), first + i) for i, one in enumerate(new)]
                self._db.run_many(_ADD_EXPERIMENT, rows)
                self._resurrect(*(one.experiment_id for one in new))
        return self._runs("run_id = ?", [run.run_id])[0]

    def _is_there(self, kind: str, id_: str) -> bool:
        """Raises Conflict when it is being deleted."""
        rows = self._db.rows(f"SELECT deleting FROM {kind}s WHERE {kind}_id = ?", (id_,))
        if rows and rows[0][0]:
            raise Conflict(f"The {kind} {id_} is being deleted.", "Try again when that has finished.")
        return bool(rows)

    def _resurrect(self, *ids: str) -> None:
        """What was deleted once, and is there again. Inside `writing`."""
        self._db.run_many("DELETE FROM tombstones WHERE id = ?", [(id_,) for id_ in ids])

    def cluster_of(self, experiment_id: str) -> str | None:
        sql = "SELECT cluster FROM runs JOIN experiments ON experiments.run_id = runs.run_id"
        rows = self._db.rows(f"{sql} WHERE experiments.experiment_id = ?", (experiment_id,))
        return str(rows[0][0]) if rows else None

    def _taken(self, name: str) -> bool:
        return bool(self._db.rows("SELECT 1 FROM runs WHERE name = ? AND NOT deleting", (name,)))

    def _free(self, name: str) -> str:
        number = 2
        while self._taken(free := name[: 62 - len(str(number))].rstrip("-") + f"-{number}"):
            number += 1
        return free

    def run(self, name: str) -> Run | None:
        found = self._runs(_called(name), [name])
        return found[0] if found else None

    def run_id(self, name: str) -> str | None:
        rows = self._db.rows(f"SELECT run_id FROM runs WHERE {_called(name)}", (name,))
        return str(rows[0][0]) if rows else None

    def runs(
        self,
        *,
        active: bool | None = None,
        owner: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        where, parameters = _listed(active, owner)
        if before is not None:
            where += " AND ulid < ?"
            parameters.append(before.partition("_")[2])
        return self._runs(f"{where} ORDER BY ulid DESC LIMIT ?", [*parameters, limit])

    def count_runs(self, *, active: bool, owner: str | None = None) -> int:
        where, parameters = _listed(active, owner)
        [[count]] = self._db.rows(f"SELECT count(*) FROM runs WHERE {where}", parameters)
        return int(count)

    def _runs(self, where: str, parameters: Sequence[Any]) -> list[Run]:
        with self._db.reading():
            rows = self._db.rows(f"SELECT {columns(RUN_COLUMNS)} FROM runs WHERE {where}", parameters)
            groups: dict[str, list[Row]] = {row[0]: [] for row in rows}
            for ids in chunks(list(groups)):
                for run_id, *group in self._db.rows(_SUMMED_UP.format(ids=marks(len(ids))), ids):
                    groups[run_id].append(tuple(group))
            reasons = {run_id: self._reason(run_id, of_run) for run_id, of_run in groups.items()}
        return [run_from(row, groups[row[0]], reasons[row[0]]) for row in rows]

    def _reason(self, run_id: str, groups: Sequence[Row]) -> str | None:
        """That of the first experiment with one, among those whose state decides the run's."""
        decisive = derive_state({State(group[0]): group[1] for group in groups})
        number = next((group[-1] for group in groups if group[0] == decisive), None)
        sql = "SELECT reason FROM experiments WHERE run_id = ? AND number = ?"
        return None if number is None else str(self._db.rows(sql, (run_id, number))[0][0])


def _called(name: str) -> str:
    """The condition that a run has this name or run_id."""
    column = "run_id" if "_" in name else "name"  # no name has an underscore, every run_id has one
    return f"{column} = ? AND NOT deleting"


def _listed(active: bool | None, owner: str | None) -> tuple[str, list[Any]]:
    """The condition of a listing of runs, and its parameters."""
    where, parameters = "NOT deleting", []
    if owner is not None:
        where += " AND created_by = ?"
        parameters.append(owner)
    if active is not None:
        among = "IN" if active else "NOT IN"
        where += f" AND run_id {among} (SELECT run_id FROM experiments WHERE {UNFINISHED})"
    return where, parameters
