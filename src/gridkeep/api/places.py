"""Where an artifact belongs: its experiment, run and cluster, looked up once, as none of it ever changes.

Whether the experiment is still there is another question, which the catalog answers each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from gridkeep.catalog.base import Catalog
from gridkeep.stores.keys import artifacts_prefix

_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """Of one experiment."""

    experiment: str  # its name
    run: str
    run_id: str
    cluster: str
    prefix: str  # of its artifacts in the store
    task_id: str | None  # for Skyvern's client: the run_id of a browser run
    workflow_run_id: str | None  # and that of a script run


class Places:
    """Remembers those that were asked for of late. May be used from several threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, Place] = OrderedDict()

    def of(self, experiment_ids: Iterable[str]) -> dict[str, Place]:
        """Those of the experiments that are there."""
        found: dict[str, Place] = {}
        for experiment_id in experiment_ids:
            if experiment_id not in found and (place := self._place(experiment_id)):
                found[experiment_id] = place
        return found

    def _place(self, experiment_id: str) -> Place | None:
        place = self._known.get(experiment_id)
        if place is None:
            place = self._look_up(experiment_id)
            if place is not None:
                self._known[experiment_id] = place
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return place

    def _look_up(self, experiment_id: str) -> Place | None:
        experiment = self._catalog.experiment(experiment_id)
        if experiment is None or (run := self._catalog.run(experiment.run_id)) is None:
            return None
        script = run.kind == "script"
        return Place(
            experiment=experiment.name,
            run=run.name,
            run_id=run.run_id,
            cluster=run.cluster,
            prefix=artifacts_prefix(experiment_id),
            task_id=None if script else run.run_id,
            workflow_run_id=run.run_id if script else None,
        )
