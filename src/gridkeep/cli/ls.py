"""`grid ls`: the files of an experiment, as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import echo, print_json_array
from gridkeep.cli.places import split_place
from gridkeep.errors import NotFound
from gridkeep.model import Artifact
from gridkeep.runs.context import open_context
from gridkeep.runs.select import Selection, each_artifact, find_experiment
from gridkeep.terminal import printable, size


@click.command(short_help="List the files of an experiment.")
@click.argument("place", metavar="EXPERIMENT[:PATH]", shell_complete=complete_experiment)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def command(place: str, as_json: bool) -> None:
    """Show the files of EXPERIMENT as a tree, with size and state; with PATH, only what lies there.

    The name of a run that has one experiment means that one.
    """
    name, path = split_place(place)
    with open_context() as context:
        experiment = find_experiment(context, name, "list").experiment
        found = each_artifact(context.catalog, experiment.experiment_id, Selection(), under=path)
        first = next(found, None)
        if first is None and path is not None:
            raise NotFound(
                f"{experiment.name} has nothing at {printable(path)}.",
                f"`grid ls {experiment.name}` shows its files.",
            )
        listed = _with_first(first, found)
        if as_json:
            print_json_array(artifact.to_json(experiment.name) for artifact in listed)
        else:
            echo(_tree(experiment.name, listed))


def _with_first(first: Artifact | None, rest: Iterator[Artifact]) -> Iterator[Artifact]:
    if first is not None:
        yield first
        yield from rest


def _tree(title: str, artifacts: Iterable[Artifact]) -> Iterator[str]:
    """A line for each folder and file. What lies in a folder comes in one piece in the order of paths, so a line
    depends only on the one before, and a million files are listed without holding them."""
    yield _line("", "", title)
    folders: list[bytes] = []
    for artifact in artifacts:
        if artifact.path is None:
            yield _line("", artifact.state, f"  (path unknown: {artifact.reason or 'no reason given'})")
            continue
        *above, name = artifact.path.split(b"/")
        same = 0
        while same < min(len(above), len(folders)) and above[same] == folders[same]:
            same += 1
        for depth in range(same, len(above)):
            yield _line("", "", "  " * (depth + 1) + printable(above[depth]) + "/")
        folders = above
        note = f" ({artifact.count:,} files)" if artifact.count != 1 else ""
        note += f" ({artifact.reason})" if artifact.reason else ""
        bytes_ = "" if artifact.size is None else size(artifact.size)
        yield _line(bytes_, artifact.state, "  " * (len(above) + 1) + printable(name) + printable(note))


def _line(bytes_: str, state: str, text: str) -> str:
    return f"{bytes_:>9}  {state:<8}  {text}"
