"""`grid delete`: says what will go, asks, deletes, and says what went."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from gridkeep.cli.output import echo, message, print_json
from gridkeep.cli.targets import complete_target, live_line, show_waiting, split_targets
from gridkeep.errors import GridError
from gridkeep.model import Experiment
from gridkeep.runs.context import open_context
from gridkeep.runs.delete import Erased, begun, delete, still_active
from gridkeep.runs.pick import pick
from gridkeep.terminal import LiveLine, many, size


@click.command(short_help="Delete runs or experiments with all that was kept of them.")
@click.argument(
    "names", nargs=-1, required=True, metavar="[run|experiment] NAME...", shell_complete=complete_target
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Stop first what is still active.")
@click.option("--json", "as_json", is_flag=True, help="Print what went as a JSON object.")
def command(names: tuple[str, ...], yes: bool, force: bool, as_json: bool) -> int:
    """Delete runs, with all their experiments, or single experiments: artifacts, logs and records.

    Nothing else ever deletes, and nothing brings them back. A deletion that was cut off goes on by itself, with the
    credentials of its shell; where these do not serve any more, by deleting again.
    """
    kind, wanted = split_targets(names)
    with open_context() as context:
        again = {name: left for name in wanted if (left := begun(context, name, kind))}
        picked = pick(context, [name for name in wanted if name not in again], kind)
        active = [one for one in picked.experiments.values() if one.state.active]
        if active and not force:
            raise still_active(active)
        left = [one for each in again.values() for one in each]
        chosen = {one.experiment_id: one for one in [*picked.experiments.values(), *left]}
        message(_plan(list(chosen.values())))
        if not yes and not _agreed():
            message("Nothing was deleted.")
            return 1
        with live_line() as live:
            erased = delete(
                context,
                picked,
                again=left,
                force=force,
                waiting=show_waiting(live),
                progress=_show_progress(live),
            )
    if as_json:
        names_gone = sorted(one.name for one in chosen.values())
        print_json({"experiments": names_gone, "objects": erased.objects, "bytes": erased.bytes})
    else:
        gone = f"{many(erased.experiments, 'experiment')}, {many(erased.objects, 'object')}"
        echo(f"Deleted {gone}, {size(erased.bytes)} freed.")
    return 0


def _plan(experiments: list[Experiment]) -> str:
    files = sum(one.artifacts for one in experiments)
    kept = sum(one.bytes for one in experiments)
    runs = dict.fromkeys(one.run for one in experiments)
    of_runs = f"{many(len(experiments), 'experiment')} of {', '.join(runs)}"
    return f"This deletes {of_runs}: {many(files, 'file')}, {size(kept)}, with logs and records."


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise GridError("Nobody is there to be asked.", "Say `--yes` to delete without being asked.")
    return click.confirm("Delete them for good?", default=False, err=True)


def _show_progress(live: LiveLine) -> Callable[[Erased], None]:
    return lambda erased: live.show(f"{many(erased.objects, 'object')} deleted, {size(erased.bytes)} …")
