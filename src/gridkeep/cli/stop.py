"""`grid stop`: ends scripts; what they wrote is kept."""

from __future__ import annotations

import click

from gridkeep.cli.output import echo, printable
from gridkeep.cli.targets import complete_target, live_line, show_waiting, split_targets
from gridkeep.model import Experiment, State
from gridkeep.runs.context import open_context
from gridkeep.runs.pick import pick
from gridkeep.runs.stop import stop


@click.command(short_help="Stop runs or experiments; their files are kept.")
@click.argument(
    "names", nargs=-1, required=True, metavar="[run|experiment] NAME...", shell_complete=complete_target
)
def command(names: tuple[str, ...]) -> None:
    """Stop runs, with all their experiments, or single experiments.

    The script gets SIGTERM, and SIGKILL after a grace period. What it wrote is kept, as after any other end.
    """
    kind, wanted = split_targets(names)
    with open_context() as context:
        chosen = pick(context, wanted, kind).experiments.values()
        with live_line() as live:
            stopped = stop(context, chosen, waiting=show_waiting(live))
        gone = {one.experiment_id for one in stopped}
        for one in chosen:
            if one.experiment_id not in gone:
                echo(f"{printable(one.name)} had already ended ({_as_it_is(one)}).")
        for one in stopped:
            echo(f"{printable(one.name)}: {_what_follows(one)}")


def _as_it_is(one: Experiment) -> str:
    return "its files are being synced" if one.state is State.SYNCING else str(one.state)


def _what_follows(one: Experiment) -> str:
    if one.started_at is None:
        return "stopped before it had started."
    if one.state is State.SYNCING:
        return "the script is gone; its files are being kept."
    return f"{one.state}; its files are kept."
