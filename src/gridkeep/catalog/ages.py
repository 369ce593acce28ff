"""The artifacts of a run or an experiment in the order that they were made in, a page at a time.

A run may have thousands of experiments, and an index gives the order of one only. So a page is merged: one query finds where
each experiment would go on, and only those that may have a part in the page are read. Any page costs about the same.
Knows the indexes `artifacts_by_age` and `artifacts_by_type_and_age`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gridkeep.catalog.database import Row
from gridkeep.catalog.rows import LISTED_COLUMNS, columns, marks

_SPARE = 8  # rows that are read of an experiment at least: more may follow each other than an even share
_PAGE = f"SELECT {columns(LISTED_COLUMNS)} FROM artifacts WHERE {{where}} ORDER BY artifact_id LIMIT ?"
_HEADS = (
    "SELECT experiment_id, (SELECT min(artifact_id) FROM artifacts WHERE {where}) AS head "
    "FROM experiments AS e WHERE e.{column} = ? AND NOT e.deleting"
)
_RANGE = "artifacts.experiment_id = {experiment} AND {choice} AND artifact_id > ?"

Query = Callable[[str, Sequence[Any]], list[Row]]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One stretch of one index: its condition, and the values for it."""

    where: str
    values: tuple[Any, ...]


def page_by_age(
    query: Query, of: str, *, after: str, limit: int, kept: bool, types: Iterable[str] | None
) -> list[Row]:
    """Rows of LISTED_COLUMNS, for what `Catalog.artifacts_by_age` promises."""
    heads: list[tuple[str, str, _Choice]] = []
    for choice in _choices(kept, types):
        where = _RANGE.format(experiment="e.experiment_id", choice=choice.where)
        column = "run_id" if "_" in of else "experiment_id"  # no ULID has an underscore, every run_id has one
        sql = _HEADS.format(where=where, column=column)
        sql = f"SELECT * FROM ({sql}) AS h WHERE head IS NOT NULL ORDER BY head LIMIT ?"
        rows = query(sql, [*choice.values, after, of, limit])
        heads += [(head, experiment_id, choice) for experiment_id, head in rows]
    first = heapq.nsmallest(limit, heads, key=lambda each: each[0])  # no other has a part in this page
    share = limit if len(first) < 2 else min(limit, limit // len(first) + _SPARE)
    streams = [_stream(query, experiment_id, choice, after, share) for _, experiment_id, choice in first]
    return list(islice(heapq.merge(*streams, key=lambda row: str(row[0])), limit))


def _stream(query: Query, experiment_id: str, choice: _Choice, after: str, share: int) -> Iterator[Row]:
    sql = _PAGE.format(where=_RANGE.format(experiment="?", choice=choice.where))
    while True:
        rows = query(sql, [experiment_id, *choice.values, after, share])
        yield from rows
        if len(rows) < share:
            return
        after = rows[-1][0]


def _choices(kept: bool, types: Iterable[str] | None) -> list[_Choice]:
    """Rare types have an index of their own; to filter would mean to read everything to find the few. Where ordinary files
    are asked for as well, the other types are filtered: there are few of them beside those."""
    names = None if types is None else list(dict.fromkeys(types))
    if names is not None and "file" not in names:
        bytes_there = " AND sha256 IS NOT NULL" if kept else ""
        return [_Choice(f"type = ? AND type <> 'file'{bytes_there}", (name,)) for name in names]
    among = "" if names is None else f" AND (type || '') IN ({marks(len(names))})"
    stretches = (False,) if kept else (False, True)
    return [_Choice(f"(sha256 IS NULL) = ?{among}", (lacking, *(names or ()))) for lacking in stretches]
