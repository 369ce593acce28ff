"""Which artifacts are meant: names of runs and experiments, and the filters of a download or a listing.

Knows the catalog only; reads it page by page, so that a million artifacts need no memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gridkeep.catalog.base import Catalog
from gridkeep.errors import GridError, NotFound, UsageError
from gridkeep.model import ARTIFACT_TYPES, Artifact, Experiment, Run
from gridkeep.runs.context import Context

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """An experiment whose artifacts are meant, and the folder (relative) that a download gives it."""

    run: Run
    experiment: Experiment
    folder: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an experiment is meant. `match` is searched in the path as text; no `types` means all of
    them."""

    match: re.Pattern[str] | None = None
    types: frozenset[str] = frozenset()
    removed: bool = False  # those that the run removed again, too

    @classmethod
    def parse(
        cls, match: str | None = None, types: Iterable[str] = (), *, removed: bool = False
    ) -> Selection:
        """From what a user wrote. Raises GridError for a pattern that is no regular expression, and for a type that there
        is not."""
        try:
            pattern = None if match is None else re.compile(match)
        except re.error as error:
            raise GridError(
                f"{match!r} is not a regular expression: {error}.",
                "Quote special characters with a backslash.",
            ) from None
        wanted = frozenset(types)
        if unknown := sorted(wanted.difference(ARTIFACT_TYPES)):
            from difflib import get_close_matches  # only for a slip: commands start without it

            near = get_close_matches(unknown[0], ARTIFACT_TYPES)
            raise UsageError(
                f"There is no artifact type {unknown[0]}.",
                f"Did you mean {' or '.join(near)}?"
                if near
                else f"The types are {', '.join(ARTIFACT_TYPES)}.",
            )
        return cls(pattern, wanted, removed)

    @property
    def everything(self) -> bool:
        return self.match is None and not self.types

    def takes(self, artifact: Artifact) -> bool:
        """Whether the filters let it through. A loss of unknown path passes every pattern: it may have been
        the one."""
        if self.types and artifact.type not in self.types:
            return False
        if self.match is None or artifact.path is None:
            return True
        return bool(self.match.search(artifact.path.decode(errors="replace")))


def find_targets(context: Context, names: Iterable[str], purpose: str = "get artifacts") -> Iterator[Target]:
    """The experiments that the names mean, each folder once. Raises NotFound before it gives any."""
    found: dict[tuple[str, ...], tuple[Run, Experiment | None]] = {}
    for name in names:
        place = context.find(name)
        if place is None:
            raise NotFound(
                f"{name} does not exist - can not {purpose}",
                "`grid status` and `grid history` show your runs.",
            )
        run, experiment = place
        found[(run.name,) if experiment is None else (run.name, experiment.name)] = place
    return _targets(context.catalog, found.values())


def _targets(catalog: Catalog, places: Iterable[tuple[Run, Experiment | None]]) -> Iterator[Target]:
    for run, experiment in places:
        if experiment is not None:
            yield Target(run, experiment, (experiment.name,))
            continue
        after = -1
        while page := catalog.experiments(run.run_id, after=after, limit=PAGE):
            for each in page:
                yield Target(run, each, (run.name, each.name))
            after = page[-1].index


def find_experiment(context: Context, name: str, purpose: str) -> Target:
    """The one experiment that a name means; a run's name means its only one. Raises NotFound, UsageError."""
    target, *others = itertools.islice(find_targets(context, [name], purpose), 2)
    if others:
        raise UsageError(
            f"{name} has {target.run.experiments} experiments - can not {purpose}",
            f"Name one of them, as in {target.experiment.name}.",
        )
    return target


def each_artifact(
    catalog: Catalog, experiment_id: str, selection: Selection, *, under: bytes | None = None
) -> Iterator[Artifact]:
    """The artifacts in every state that the filters let through, in order of path."""
    after: tuple[bytes, str] | None = None
    types = selection.types or None
    while page := catalog.artifacts(experiment_id, after=after, limit=PAGE, types=types, under=under):
        for artifact in page:
            if selection.takes(artifact):
                yield artifact
        after = (page[-1].path or b"", page[-1].artifact_id)
