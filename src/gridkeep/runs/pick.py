"""From names that a user gives to the runs and experiments that are meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gridkeep.errors import NotFound
from gridkeep.model import Experiment, Run
from gridkeep.runs.context import Context


@dataclass(frozen=True, slots=True)
class Picked:
    """What the names mean; nothing is in it twice, however often it was named."""

    runs: dict[str, Run]  # by run_id; also those of which only some experiments are meant
    experiments: dict[str, Experiment]  # by experiment_id


def pick(context: Context, names: Iterable[str], kind: str | None = None) -> Picked:
    """The experiments that `names` mean, a run's name all of its. `kind` (`run` or `experiment`) is what each must
    be. Raises NotFound before anything is done when one of them is unknown."""
    picked = Picked({}, {})
    for name in names:
        found = context.find(name)
        if found is None:
            raise NotFound(
                f"There is no {kind or 'Run or experiment'} named {name}.",
                "`grid status` and `grid history` list your Runs.",
            )
        run, experiment = found
        is_a = "run" if experiment is None else "experiment"
        if kind not in (None, is_a):
            raise NotFound(
                f"There is no {kind} named {name}: it is a name of {a(is_a)}.", f"Say `{is_a} {name}`."
            )
        chosen = context.catalog.experiments(run.run_id) if experiment is None else [experiment]
        picked.runs[run.run_id] = run
        picked.experiments.update({one.experiment_id: one for one in chosen})
    return picked


def a(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
