"""`--input RUN-expN[:path]`: an earlier run's artifacts, readable under `inputs/` of a working copy.

They are downloaded and verified like any others, by `collect`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gridkeep.errors import Conflict, GridError, NotFound
from gridkeep.model import Experiment
from gridkeep.runs.collect import collect
from gridkeep.runs.context import Context
from gridkeep.runs.select import Selection, find_experiment


@dataclass(frozen=True, slots=True)
class Input:
    """An experiment, and the file or folder of it that is wanted; "" is all."""

    experiment: Experiment
    path: str


def find_inputs(context: Context, texts: Iterable[str]) -> list[Input]:
    """What the options mean. Raises NotFound for an unknown experiment, or a path that it has no artifact at."""
    found = []
    for text in texts:
        name, _, path = text.partition(":")
        experiment = find_experiment(context, name, "use it as an input").experiment
        path = path.strip("/")
        if path and not context.catalog.artifacts(experiment.experiment_id, under=os.fsencode(path), limit=1):
            raise NotFound(
                f"{experiment.name} has no artifact at {path}.",
                f"`grid ls {experiment.name}` lists what it has.",
            )
        found.append(Input(experiment, path))
    return found


def fetch_inputs(context: Context, inputs: Sequence[Input], folder: str) -> list[str]:
    """Puts them into `inputs/RUN-expN/` of `folder`; returns what there is to remark.

    Raises GridError when one cannot be had.
    """
    notes: list[str] = []
    if not inputs:
        return notes
    target = os.path.join(folder, "inputs")
    if os.path.islink(target):
        raise Conflict(
            "The working copy's `inputs` is a link to a folder of your project, which must not change.",
            "Leave it out with .gridignore.",
        )
    for each in inputs:
        name = each.experiment.name
        if each.experiment.state.active:
            notes.append(
                f"{name} is still {each.experiment.state}: what it has stored so far is used as input."
            )
        report = collect(context, [name], target, Selection(match=_at_or_below(each.path)))
        if report.failed:
            problem = report.failed[0]
            path = (problem.path or b"?").decode(errors="replace")
            raise GridError(
                f"The input {name}:{path} cannot be had: {problem.reason}.",
                f"`grid verify {name}` tells more.",
            )
        notes += [
            f"The input {name} lacks {(problem.path or b'a file').decode(errors='replace')}: {problem.reason}."
            for problem in report.missing
        ]
    return notes


def _at_or_below(path: str) -> re.Pattern[str] | None:
    """The filter of a download for that path; filters see paths as text."""
    shown = os.fsencode(path).decode(errors="replace")
    return re.compile(rf"\A{re.escape(shown)}(?:/|\Z)") if path else None
