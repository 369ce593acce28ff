"""`grid sync`: another try to store what could not be stored in time, and newer credentials for what is under way."""

from __future__ import annotations

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import echo, message, printable
from gridkeep.cli.targets import live_line, show_waiting
from gridkeep.errors import GridError
from gridkeep.model import Experiment
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.pick import pick
from gridkeep.runs.stop import wait_until
from gridkeep.runs.sync import failed_to_sync, hand_on_credentials, sync
from gridkeep.terminal import many, size


@click.command(short_help="Try again to store files that could not be stored in time.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_experiment)
@click.option("--follow", is_flag=True, help="Wait until all is stored, or the time is up again.")
def command(names: tuple[str, ...], follow: bool) -> int:
    """Try again to store the files of runs or experiments NAME that failed as their store was away or full for too long.
    Their files are kept in the home until then.

    Runs with files in a cloud go on with the credentials of this shell, if the store takes them: so those that expired are
    renewed, also of runs that are still under way. With --follow, exit status 0 when all of them are stored; how the script
    ended is another matter, and stands in `grid status`.
    """
    with open_context() as context:
        chosen = list(pick(context, names).experiments.values())
        answers = hand_on_credentials(context, chosen)
        again = sync(context, chosen)
        retried = {one.experiment_id for one in again}
        for one in chosen:
            echo(f"{printable(one.name)}: {_what_happens(one, one.experiment_id in retried)}")
        for cluster, refusal in answers.items():
            message(_what_of_credentials(cluster, refusal))
        return _follow(context, again) if follow else 0


def _what_happens(one: Experiment, retried: bool) -> str:
    if retried:
        return "syncing again."
    if one.state.active or failed_to_sync(one):  # the latter: another was faster
        return f"is {one.state}, and syncing as it goes."
    if one.missing:
        return f"{one.state}; {many(one.missing, 'file')} missing, the others are stored already."
    return f"{one.state}; all its files are stored already."


def _what_of_credentials(cluster: str, refusal: GridError | None) -> str:
    if refusal is None:
        return f"The store of {cluster} is used with the credentials of this shell from now on."
    why = f"{refusal.message} {refusal.hint or ''}".strip()
    return f"The credentials of this shell were not handed on, those of the run stay. {cluster}: {why}"


def _follow(context: Context, again: list[Experiment]) -> int:
    try:
        with live_line() as live:
            ended = wait_until(context, again, lambda one: not one.state.active, show_waiting(live))
    except KeyboardInterrupt:
        message("Detached; the sync goes on. `grid status` shows how it stands.")
        return 130
    for one in sorted(ended, key=lambda one: (one.run, one.index)):
        reason = f": {one.reason}" if one.reason else ""
        echo(
            f"{printable(one.name)} {one.state}{printable(reason)} ({many(one.artifacts, 'file')}, {size(one.bytes)})"
        )
    return 1 if len(ended) < len(again) or any(map(failed_to_sync, ended)) else 0
