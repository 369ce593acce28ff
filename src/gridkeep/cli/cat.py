"""`grid cat`: one file of an experiment to stdout."""

from __future__ import annotations

import hashlib
import sys

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.places import split_place
from gridkeep.errors import Conflict, NotFound, StoreError, UsageError
from gridkeep.model import Artifact
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.select import find_experiment
from gridkeep.terminal import printable


@click.command(short_help="Write one file of an experiment to stdout.")
@click.argument("place", metavar="EXPERIMENT:PATH", shell_complete=complete_experiment)
def command(place: str) -> int:
    """Write the file PATH of EXPERIMENT to stdout, byte for byte, whatever its size.

    The name of a run that has one experiment means that one. The bytes are hashed as they go by: exit status 1 when
    they were not those that were recorded.
    """
    name, path = split_place(place)
    if path is None:
        raise UsageError(f"{place} names no file.", "Write EXPERIMENT:PATH, as in my-run-exp0:out/model.pt.")
    with open_context() as context:
        target = find_experiment(context, name, "show a file")
        artifact = _artifact(context, target.experiment.experiment_id, target.experiment.name, path)
        digest = hashlib.sha256()
        out = sys.stdout.buffer
        try:
            for chunk in context.store(target.run.cluster).get(artifact.key or ""):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
        except BrokenPipeError:
            return _enough()
        if digest.hexdigest() != artifact.sha256:
            raise StoreError(
                f"The bytes of {printable(path)} are not those that were recorded.",
                "If it is still being written, try again; else `grid verify --deep` says more.",
            )
    return 0


def _artifact(context: Context, experiment_id: str, name: str, path: bytes) -> Artifact:
    found = context.catalog.artifact_at(experiment_id, path)
    if found is None:
        if context.catalog.artifacts(experiment_id, under=path, limit=1):
            raise NotFound(
                f"{printable(path)} is a folder of {name}.", f"`grid ls {name}:{printable(path)}` shows it."
            )
        raise NotFound(f"{name} has no file {printable(path)}.", f"`grid ls {name}` shows its files.")
    if not found.downloadable:
        reason = f" ({found.reason})" if found.reason else ""
        raise Conflict(f"{printable(path)} of {name} has no bytes in the store: it is {found.state}{reason}.")
    return found


def _enough() -> int:
    """The reader of our output went away, as `head` does: no error. What the interpreter flushes at its end goes
    nowhere."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
