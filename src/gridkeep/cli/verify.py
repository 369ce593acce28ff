"""`grid verify`: what the store holds against the manifest."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import echo, print_json_array
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.select import Selection, each_artifact, find_targets
from gridkeep.runs.verify import Verification, verify
from gridkeep.terminal import LiveLine, many, printable


@click.command(short_help="Check what the store holds against the manifest.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_experiment)
@click.option("--deep", is_flag=True, help="Re-hash the bytes of every file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object for each experiment.")
def command(names: tuple[str, ...], deep: bool, as_json: bool) -> int:
    """Check that the store holds what the manifests of runs or experiments NAME say, and nothing else.

    Exit status 1 when there is any difference, or an experiment has not finished: its manifest is written last of all.
    """
    failed = False

    def noted(results: Iterator[Verification]) -> Iterator[Verification]:
        nonlocal failed
        for result in results:
            failed = failed or not result.ok
            yield result

    with open_context() as context:
        results = noted(_verified(context, names, deep))
        if as_json:
            print_json_array(result.to_json() for result in results)
        else:
            for result in results:
                echo(_lines(result))
    return 1 if failed else 0


def _verified(context: Context, names: tuple[str, ...], deep: bool) -> Iterator[Verification]:
    with LiveLine(sys.stderr) as live:
        for target in find_targets(context, names, "verify"):
            live.show(f"Verifying {target.experiment.name} …")
            store = context.store(target.run.cluster)
            listed = each_artifact(context.catalog, target.experiment.experiment_id, Selection())
            jobs = context.settings.transfer_threads
            result = verify(store, target.experiment, listed, deep=deep, jobs=jobs)
            live.clear()
            yield result


def _lines(result: Verification) -> Iterator[str]:
    name = result.experiment.name
    if result.experiment.state.active:
        yield f"{name}: not finished ({result.experiment.state}): its manifest is written last of all"
        return
    if result.experiment.started_at is None and not result.differences:
        yield f"{name}: 0 of 0 verified (it never started)"
        return
    losses = f" ({many(result.missing, 'file')} named as missing by the manifest)" if result.missing else ""
    yield f"{name}: {result.verified:,} of {result.total:,} verified{losses}"
    for difference in result.differences:
        what = difference.path if difference.path is not None else difference.key or "manifest"
        yield f"  {difference.problem}: {printable(what)}: {difference.detail}"
