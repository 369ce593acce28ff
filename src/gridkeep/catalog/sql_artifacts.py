"""Artifacts in SQL: recording them with the totals of their experiment, and finding them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gridkeep.catalog.ages import page_by_age
from gridkeep.catalog.pages import page_query
from gridkeep.catalog.rows import (
    ARTIFACT_COLUMNS,
    artifact_from,
    artifact_row,
    chunks,
    columns,
    marks,
    replaced,
)
from gridkeep.catalog.sql_base import Records
from gridkeep.catalog.totals import SUMS, TOTALS, sums
from gridkeep.errors import Conflict
from gridkeep.model import Artifact, ArtifactState, Listed

_TOGETHER = 50  # rows of one statement: between two of them other threads take the interpreter


def _put(count: int) -> str:
    return (
        f"INSERT INTO artifacts ({columns(ARTIFACT_COLUMNS)}) "
        f"VALUES {', '.join([f'({marks(len(ARTIFACT_COLUMNS))})'] * count)} "
        f"ON CONFLICT (artifact_id) DO UPDATE SET {replaced(ARTIFACT_COLUMNS[1:])}"
    )


_PUT_ONE, _PUT_MANY = _put(1), _put(_TOGETHER)
_ADD_TO_TOTALS = (
    f"UPDATE experiments SET {', '.join(f'{name} = {name} + ?' for name in TOTALS)}, change = ? "
    "WHERE experiment_id = ?"
)
_FOUND = (
    f"SELECT {columns(ARTIFACT_COLUMNS, 'artifacts')} FROM artifacts JOIN experiments "
    "ON experiments.experiment_id = artifacts.experiment_id WHERE NOT experiments.deleting AND artifacts."
)


class ArtifactRecords(Records):
    """The part of the contract on artifacts."""

    def record_artifacts(
        self, experiment_id: str, artifacts: Sequence[Artifact], forget: Sequence[str] = ()
    ) -> None:
        """The experiment takes a change number too, after its artifacts: its totals are new, and of a
        forgotten artifact nothing else would tell."""
        dropped = set(forget)
        new = {
            artifact.artifact_id: artifact for artifact in artifacts if artifact.artifact_id not in dropped
        }
        with self._db.writing():
            if self._state(experiment_id) is None:
                return
            known, old_sums = self._known(experiment_id, [*new, *dropped])
            if not new and not known:
                return
            self._db.run_many("DELETE FROM artifacts WHERE artifact_id = ?", [(gone,) for gone in dropped])
            first = self._take_changes(len(new) + 1)
            rows = [
                artifact_row(artifact, experiment_id, first + i) for i, artifact in enumerate(new.values())
            ]
            whole = len(rows) - len(rows) % _TOGETHER
            for at in range(0, whole, _TOGETHER):
                self._db.run(_PUT_MANY, [value for row in rows[at : at + _TOGETHER] for value in row])
            self._db.run_many(_PUT_ONE, rows[whole:])
            differences = [now - before for now, before in zip(sums(new.values()), old_sums, strict=True)]
            self._db.run(_ADD_TO_TOTALS, (*differences, first + len(new), experiment_id))

    def _known(self, experiment_id: str, artifact_ids: Sequence[str]) -> tuple[int, list[int]]:
        """How many of these are there, and what they add to the totals."""
        count, totals = 0, [0] * len(TOTALS)
        for ids in chunks(artifact_ids):
            [[found, strange, *part]] = self._db.rows(
                f"SELECT count(*), count(*) FILTER (WHERE experiment_id <> ?), {SUMS} FROM artifacts "
                f"WHERE artifact_id IN ({marks(len(ids))})",
                [experiment_id, *ids],
            )
            if strange:
                raise Conflict("An artifact with that id belongs to another experiment.")
            count += found
            totals = [total + more for total, more in zip(totals, part, strict=True)]
        return count, totals

    def artifacts(
        self,
        experiment_id: str,
        *,
        after: tuple[bytes, str] | None = None,
        limit: int | None = None,
        states: Iterable[ArtifactState] | None = None,
        types: Iterable[str] | None = None,
        under: bytes | None = None,
    ) -> list[Artifact]:
        query = page_query(experiment_id, after=after, limit=limit, states=states, types=types, under=under)
        return [] if query is None else [artifact_from(row) for row in self._db.rows(*query)]

    def artifacts_by_age(
        self,
        of: str,
        *,
        after: str = "",
        limit: int,
        kept: bool = True,
        types: Iterable[str] | None = None,
    ) -> list[Listed]:
        with self._db.reading():
            rows = page_by_age(self._db.rows, of, after=after, limit=limit, kept=kept, types=types)
        return [Listed._make(row) for row in rows]

    def artifact(self, artifact_id: str) -> Artifact | None:
        rows = self._db.rows(f"{_FOUND}artifact_id = ?", (artifact_id,))
        return artifact_from(rows[0]) if rows else None

    def artifacts_by_id(self, artifact_ids: Sequence[str]) -> list[Artifact]:
        found: list[Artifact] = []
        for ids in chunks(list(dict.fromkeys(artifact_ids))):
            found += map(artifact_from, self._db.rows(f"{_FOUND}artifact_id IN ({marks(len(ids))})", ids))
        return found

    def artifact_at(self, experiment_id: str, path: bytes) -> Artifact | None:
        """Of several (one removed, one written after it) the newest that is not removed, else the newest."""
        rows = self._db.rows(
            f"{_FOUND}experiment_id = ? AND artifacts.path = ? AND NOT artifacts.path_unknown "
            "ORDER BY artifacts.state = 'removed', artifacts.change DESC LIMIT 1",
            (experiment_id, path),
        )
        return artifact_from(rows[0]) if rows else None
