"""The query for one page of an experiment's artifacts.

Every page costs about the same, whatever the filter and wherever it lies: the query is put together from
branches that each read one stretch of one index in order, at most a page of it. Knows the indexes of the
table `artifacts`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from gridkeep.catalog.rows import ARTIFACT_COLUMNS, columns, marks
from gridkeep.model import ArtifactState

_COLUMNS = columns(ARTIFACT_COLUMNS)
_VISIBLE = "EXISTS (SELECT 1 FROM experiments AS e WHERE e.experiment_id = ? AND NOT e.deleting)"


def page_query(
    experiment_id: str,
    *,
    after: tuple[bytes, str] | None,
    limit: int | None,
    states: Iterable[ArtifactState] | None,
    types: Iterable[str] | None,
    under: bytes | None,
) -> tuple[str, list[Any]] | None:
    """The SQL and its parameters, for what `Catalog.artifacts` promises; None when there can be nothing."""
    ordered = " ORDER BY path, artifact_id" + ("" if limit is None else " LIMIT ?")
    cap = [] if limit is None else [limit]
    branches: list[str] = []
    parameters: list[Any] = []
    for (stretch, bounds), (choice, chosen) in product(_stretches(under, after), _choices(states, types)):
        where = " AND ".join(["experiment_id = ?", *stretch, *choice, _VISIBLE])
        branches.append(f"SELECT {_COLUMNS} FROM artifacts WHERE {where}{ordered}")
        parameters += [experiment_id, *bounds, *chosen, experiment_id, *cap]
    if len(branches) < 2:
        return (branches[0], parameters) if branches else None
    union = " UNION ALL ".join(f"SELECT * FROM ({branch}) AS b{i}" for i, branch in enumerate(branches))
    return union + ordered, parameters + cap


_Terms = tuple[list[str], list[Any]]


def _stretches(under: bytes | None, after: tuple[bytes, str] | None) -> list[_Terms]:
    """The parts of the order by path that are asked for. `under` has two, the path itself and what lies in
    it; others lie between them, as `a-b` between `a` and `a/x`."""
    folder = under.rstrip(b"/") if under else b""
    if not folder:
        return [(["(path, artifact_id) > (?, ?)"], [*after]) if after else ([], [])]
    parts: list[_Terms] = []
    for first, end in ((folder, folder + b"\0"), (folder + b"/", folder + b"0")):  # "0" follows "/"
        if after is None or after[0] < first:
            parts.append((["path >= ?", "path < ?"], [first, end]))
        elif after[0] < end:
            parts.append((["(path, artifact_id) > (?, ?)", "path < ?"], [*after, end]))
    return parts


def _choices(states: Iterable[ArtifactState] | None, types: Iterable[str] | None) -> list[_Terms]:
    """A branch for each rare type, else for each state; the other filter is left to it. To filter what the
    index by path gives would mean to read everything to find the few."""
    state_list = None if states is None else [str(state) for state in dict.fromkeys(states)]
    type_list = None if types is None else list(dict.fromkeys(types))
    if state_list == [] or type_list == []:
        return []
    if type_list is not None and "file" not in type_list:
        terms, values = _among("state", state_list)
        return [(["type = ?", "type <> 'file'", *terms], [name, *values]) for name in type_list]
    terms, values = _among("type", type_list)
    if state_list is None:
        return [(terms, values)]
    return [(["state = ?", *terms], [state, *values]) for state in state_list]


def _among(column: str, values: list[str] | None) -> _Terms:
    """Said so that no index is looked for: the order must come from the branch's own."""
    return ([], []) if values is None else ([f"({column} || '') IN ({marks(len(values))})"], list(values))
