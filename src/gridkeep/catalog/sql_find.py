"""Looking for runs in SQL: by owner, kind, state and a part of the name, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gridkeep.catalog.rows import marks
from gridkeep.catalog.sql_runs import RunRecords
from gridkeep.model import STATE_PRECEDENCE, Run, State

_HAS = "EXISTS (SELECT 1 FROM experiments WHERE run_id = runs.run_id AND NOT deleting AND state{which})"


class FindRuns(RunRecords):
    """The part of the contract on finding runs."""

    def find_runs(
        self,
        *,
        owner: str | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State] | None = None,
        search: str | None = None,
        before: str | None = None,
        skip: int = 0,
        limit: int = 100,
    ) -> list[Run]:
        where, values = ["NOT deleting"], list[Any]()
        if owner is not None:
            where.append("created_by = ?")
            values.append(owner)
        if kinds is not None:
            names = list(kinds)
            where.append(f"(kind || '') IN ({marks(len(names))})")  # so that the order comes from an index
            values += names
        if search:
            where.append("(lower(name) LIKE ? ESCAPE '!' OR run_id LIKE ? ESCAPE '!')")
            values += [f"%{_literal(search.lower())}%"] * 2
        if states is not None:
            wanted = [_is_in(state) for state in states]
            where.append(f"({' OR '.join(wanted) or 'FALSE'})")
        if before is not None:
            where.append("ulid < ?")
            values.append(before.partition("_")[2])
        return self._runs(
            f"{' AND '.join(where)} ORDER BY ulid DESC LIMIT ? OFFSET ?", [*values, limit, skip]
        )


def _is_in(state: State) -> str:
    """The condition that a run is in that state, as `derive_state` says it."""
    if state is State.COMPLETED:
        return "NOT " + _HAS.format(which=" <> 'completed'")
    sooner = STATE_PRECEDENCE[: STATE_PRECEDENCE.index(state)]
    conditions = [_HAS.format(which=f" = '{state}'")]
    conditions += ["NOT " + _HAS.format(which=f" = '{one}'") for one in sooner]
    return f"({' AND '.join(conditions)})"


def _literal(text: str) -> str:
    """For LIKE, with nothing in it that stands for something else."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
