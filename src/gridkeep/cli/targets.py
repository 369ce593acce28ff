"""The words `run NAME…` and `experiment NAME…` that some commands begin with, and how experiments that are waited for
are shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.errors import UsageError
from gridkeep.model import Experiment
from gridkeep.terminal import LiveLine, many

_KINDS = {"run": "run", "runs": "run", "experiment": "experiment", "experiments": "experiment"}


def split_targets(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """`["run", "a", "b"]` -> `("run", ["a", "b"])`; without such a word in front the kind is None. Raises
    UsageError."""
    if words and words[0] in _KINDS:
        kind, names = _KINDS[words[0]], list(words[1:])
        if not names:
            raise UsageError(f"The name of the {kind} is missing.", f"Say `{kind} NAME`.")
        return kind, names
    return None, list(words)


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """First `run` or `experiment`, then names."""
    kinds = [kind for kind in ("run", "experiment") if kind.startswith(incomplete)]
    return ([] if ctx.params.get(param.name or "") else kinds) + complete_experiment(ctx, param, incomplete)


def show_waiting(live: LiveLine) -> Callable[[list[Experiment]], None]:
    """Shows on a terminal which experiments are still waited for."""

    def show(left: list[Experiment]) -> None:
        first = left[0]
        for_what = f" ({first.waiting_for})" if first.waiting_for else ""
        more = f" and {many(len(left) - 1, 'more')}" if len(left) > 1 else ""
        live.show(f"{first.name} is {first.state}{for_what}{more} …")

    return show


def live_line() -> LiveLine:
    return LiveLine(sys.stderr)
