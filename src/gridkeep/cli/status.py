"""`grid status`: the active runs, or the experiments of one run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from gridkeep.cli.completion import complete_run
from gridkeep.cli.output import echo, paint_state, print_json_array, table
from gridkeep.errors import Conflict, NotFound, UsageError
from gridkeep.model import Experiment, Run, State
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.sight import blindness
from gridkeep.terminal import duration, is_terminal, many, printable, size, terminal_size

_COUNTED = (State.QUEUED, State.RUNNING, State.SYNCING, State.COMPLETED, State.FAILED, State.STOPPED)
_REFRESH_S = 1.0
_PAGE = 500
_NOTES = 20  # more remarks than this below a table help nobody


@click.command(short_help="Show active runs, or the experiments of a run.")
@click.argument("run", required=False, shell_complete=complete_run)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C or the end of RUN.")
@click.option("--global", "everyone", is_flag=True, help="Show everyone's runs, not only your own.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def command(run: str | None, watch: bool, everyone: bool, as_json: bool) -> None:
    """Show your active runs, or, with RUN, its experiments, active or not."""
    if watch and as_json:
        raise UsageError("--watch and --json exclude each other.", "Leave one of them out.")
    with open_context() as context:
        owner = None if everyone else context.user
        if watch:
            _watch(context, run, owner)
        elif as_json and run is None:
            print_json_array(one.to_json() for one in runs(context, active=True, owner=owner))
        elif as_json:
            print_json_array(one.to_json() for one in _experiments(context, _run(context, str(run))))
        else:
            echo(_screen(context, run, owner))


def runs(context: Context, *, active: bool, owner: str | None) -> Iterator[Run]:
    """All active runs, or all that are not, newest first, read a page at a time."""
    before = None
    while page := context.catalog.runs(active=active, owner=owner, before=before, limit=_PAGE):
        yield from page
        before = page[-1].run_id


def _run(context: Context, name: str) -> Run:
    found = context.find(name)
    if found is None:
        raise NotFound(f"There is no Run named {name}.", "`grid status` and `grid history` list your Runs.")
    run, experiment = found
    if experiment is not None:
        raise Conflict(
            f"{name} is an experiment, not a Run.", f"Use `grid status {run.name}` to see its Run."
        )
    return run


def _experiments(context: Context, run: Run) -> Iterator[Experiment]:
    after = -1
    while page := context.catalog.experiments(run.run_id, after=after, limit=_PAGE):
        yield from page
        after = page[-1].index


def _screen(context: Context, name: str | None, owner: str | None) -> list[str]:
    if name is not None:
        return _run_screen(list(_experiments(context, _run(context, name))))
    rest = context.catalog.count_runs(active=False, owner=owner)
    return [
        *_runs_table(runs(context, active=True, owner=owner)),
        "",
        f"{rest} Run(s) are not active. Use `grid history` to view your Run history.",
    ]


def _runs_table(found: Iterator[Run]) -> list[str]:
    words = [str(state).capitalize() for state in _COUNTED]
    rows = []
    for run in found:
        counts = [str(run.counts.get(state, 0)) for state in _COUNTED]
        head = [run.name, str(run.state), run.created_by, duration(run.to_json()["duration_s"])]
        rows.append([*head, str(run.experiments), *counts])
    headers = ["Run", "Status", "Created By", "Duration", "Experiments", *words]
    return table(headers, rows, right=["Experiments", *words], paint={"Status": paint_state})


def _run_screen(found: list[Experiment]) -> list[str]:
    headers = ["Experiment", "Status", "Queued Duration", "Run Duration", "Artifacts", "Size", "Command"]
    rows = []
    for one in found:
        times = one.to_json()
        waited, ran = duration(times["queued_s"]), duration(times["run_s"])
        rows.append([one.name, str(one.state), waited, ran, str(one.artifacts), size(one.bytes), one.command])
    lines = table(headers, rows, right=["Artifacts", "Size"], paint={"Status": paint_state})
    notes = [note for one in found for note in _remarks(one)]
    if len(notes) > _NOTES:
        notes = [*notes[:_NOTES], f"… and {len(notes) - _NOTES} more: `grid status RUN --json`"]
    if blind := blindness(found):
        notes.append(blind)
    return [*lines, *([""] if notes else []), *map(printable, notes)]


def _remarks(one: Experiment) -> Iterator[str]:
    """What a row does not say: why it failed, what it waits for, what is missing."""
    if one.state in (State.FAILED, State.STOPPED) and one.reason:
        yield f"{one.name} {one.state}: {one.reason}"
    elif one.stop_requested and one.state is State.RUNNING:
        yield f"{one.name} is being stopped: {one.stop_requested}"
    if one.waiting_for and one.state.active:
        yield f"{one.name} is waiting: {one.waiting_for}"
    if one.missing:
        yield f"{one.name}: {many(one.missing, 'file')} missing; `grid artifacts {one.name} --json` names them"


def _watch(context: Context, name: str | None, owner: str | None) -> None:
    """On a terminal the screen is written over; elsewhere it is printed when something has changed."""
    room = terminal_size(sys.stdout)
    seen = None
    while True:
        run = _run(context, name) if name is not None else None
        change = context.catalog.last_change()
        lines = _screen(context, name, owner)
        if is_terminal(sys.stdout) and (room := terminal_size(sys.stdout)):
            echo("\x1b[H\x1b[J" + "\n".join(_fit(lines, room[1])))
        elif change != seen:
            echo([*([""] if seen is not None else []), *lines])
        sys.stdout.flush()
        seen = change
        if run is not None and not run.state.active:
            return
        time.sleep(_REFRESH_S)


def _fit(lines: list[str], height: int) -> list[str]:
    if len(lines) < height:
        return lines
    return [*lines[: height - 2], f"… {len(lines) - height + 2} more lines"]
