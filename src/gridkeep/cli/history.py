"""`grid history`: the finished runs, newest first."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from gridkeep.cli.output import echo, paint_state, print_json_array, table
from gridkeep.cli.status import runs
from gridkeep.model import Run, State
from gridkeep.runs.context import open_context
from gridkeep.terminal import size

_COUNTED = (State.COMPLETED, State.FAILED, State.STOPPED)


@click.command(short_help="Show finished runs, newest first.")
@click.option("--global", "everyone", is_flag=True, help="Show everyone's runs, not only your own.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def command(everyone: bool, as_json: bool) -> None:
    """Show all your finished runs, newest first. Times are UTC."""
    with open_context() as context:
        found = runs(context, active=False, owner=None if everyone else context.user)
        if as_json:
            print_json_array(run.to_json() for run in found)
            return
        words = [str(state).capitalize() for state in _COUNTED]
        headers = ["Run", "Status", "Created By", "Created At", "Experiments", *words, "Size"]
        numbers = ["Experiments", *words, "Size"]
        echo(table(headers, (_row(run) for run in found), right=numbers, paint={"Status": paint_state}))


def _row(run: Run) -> list[str]:
    created = datetime.fromtimestamp(run.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    counts = [str(run.counts.get(state, 0)) for state in _COUNTED]
    return [run.name, str(run.state), run.created_by, created, str(run.experiments), *counts, size(run.bytes)]
