"""`grid catalog`: bringing back a catalog that was lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from gridkeep.cli.output import echo, message, print_json
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.rebuild import Rebuilt, RebuiltRun, rebuild
from gridkeep.terminal import LiveLine, many, printable, size

_ENGINE_PATIENCE = 2.0  # seconds for an engine that served the lost catalog to leave


@click.group(short_help="Bring back a catalog that was lost.")
def command() -> None:
    """The record of runs, experiments and files, in the home's `catalog.db`."""


@command.command("rebuild", short_help="Rebuild the catalog from a store.")
@click.argument("store_uri", metavar="STORE_URI")
@click.option(
    "--endpoint", metavar="URL", help="As in `grid cluster add`, where no cluster here has that store."
)
@click.option("--region", metavar="R", help="The same for the bucket's region.")
@click.option("--json", "as_json", is_flag=True, help="Print the runs as a JSON array.")
def rebuild_command(store_uri: str, endpoint: str | None, region: str | None, as_json: bool) -> int:
    """Bring back the runs whose files lie in the store STORE_URI, as in `file:///home/me/.gridkeep/store` or
    `s3://bucket/prefix`.

    Adds what the catalog lacks, changes nothing that it has right, and deletes nothing; repeating it does no harm. Runs of
    that store that were under way in this home go on.

    Exit status 1 when something could not be brought back; it is named.
    """
    with open_context(start_engine=False) as context:
        with LiveLine(sys.stderr) as live:
            rebuilt = rebuild(
                context,
                store_uri,
                lambda text: live.show(f"Rebuilding: {text} …"),
                endpoint=endpoint,
                region=region,
            )
        if as_json:
            print_json([each.to_json() for each in rebuilt.runs])
        else:
            echo(_lines(rebuilt))
        for problem in rebuilt.problems:
            message(f"Not brought back: {printable(problem)}")
        if any(each.resumed for each in rebuilt.runs):
            _start_engine(context)
    return 1 if rebuilt.problems else 0


def _lines(rebuilt: Rebuilt) -> Iterator[str]:
    for each in rebuilt.runs:
        yield f"{each.run.name}: {_what(each)}"
    restored = sum(each.restored for each in rebuilt.runs)
    resumed = sum(each.resumed for each in rebuilt.runs)
    files = sum(each.run.artifacts for each in rebuilt.runs)
    kept = size(sum(each.run.bytes for each in rebuilt.runs))
    came = f"{many(restored + resumed, 'experiment')} brought back"
    yield f"{came}; {many(len(rebuilt.runs), 'run')} with {many(files, 'file')}, {kept}, of {rebuilt.store}"


def _what(each: RebuiltRun) -> str:
    parts = []
    if each.restored:
        parts.append(f"{many(each.restored, 'experiment')} brought back")
    if each.resumed:
        parts.append(f"{many(each.resumed, 'experiment')} brought back unfinished, going on")
    if each.unchanged:
        parts.append(f"{each.unchanged:,} as before")
    text = f"{', '.join(parts)}; {many(each.run.artifacts, 'file')}, {size(each.run.bytes)}"
    if each.name != each.run.name:
        text += f" (was {printable(each.name)}: another run has that name)"
    return text


def _start_engine(context: Context) -> None:
    """An engine that served the lost catalog still holds its lock for a moment."""
    give_up = time.monotonic() + _ENGINE_PATIENCE
    while not dispatch.wake(context.home, context.catalog) and time.monotonic() < give_up:
        time.sleep(0.1)
