"""What an experiment leaves in the home, and when it may go: working copy, journal, environment.

Nothing goes that is not in the store.
"""

from __future__ import annotations

import os
import time

from gridkeep.catalog.base import Catalog
from gridkeep.model import Experiment, Outcome
from gridkeep.settings import Home
from gridkeep.supervisor.copying import remove_tree

_BEING_SUBMITTED = 86400.0  # seconds


def clean(home: Home, catalog: Catalog, experiment: Experiment, *, keep_tree: bool = False) -> None:
    """Removes an ended experiment's working copy and journal, and its run's with the last experiment. Repeating does no
    harm. `keep_tree`: something in the working copy could not be stored."""
    if experiment.state.active or experiment.outcome == Outcome.SYNC:
        return
    if not keep_tree:
        remove_tree(home.work(experiment.experiment_id))
        remove_tree(home.work(experiment.experiment_id) + ".partial")
    remove_tree(home.journal(experiment.experiment_id))
    clean_run(home, catalog, experiment.run_id)


def clean_run(home: Home, catalog: Catalog, run_id: str) -> None:
    """Removes what a run's experiments shared, once none needs it: its copy of the code, the submitter's environment.
    A run that the catalog does not know may be one that is being submitted: it gets a day."""
    ulid = run_id.partition("_")[2]
    run = catalog.run(run_id)
    if run is None:
        try:
            if time.time() - os.stat(home.journal(ulid)).st_mtime < _BEING_SUBMITTED:
                return
        except FileNotFoundError:
            return
    elif run.state.active or any(one.outcome == Outcome.SYNC for one in catalog.experiments(run_id)):
        return
    remove_tree(home.work(ulid))
    remove_tree(home.journal(ulid))
