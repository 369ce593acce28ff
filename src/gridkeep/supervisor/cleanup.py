"""What an experiment leaves in the home, and when it may go: working copy, journal, environment.

Nothing goes that is not in the store. What the catalog does not know is being submitted just now, or was given up half-way:
a lock tells which.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gridkeep.catalog.base import Catalog
from gridkeep.files import is_locked, take_lock
from gridkeep.model import Experiment, Outcome
from gridkeep.settings import Home
from gridkeep.supervisor.copying import remove_tree


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
    """Removes what a run's experiments shared, once none needs it: its copy of the code, the submitter's environment."""
    run = catalog.run(run_id)
    if run is None or run.state.active:
        return
    if not any(one.outcome == Outcome.SYNC for one in catalog.experiments(run_id)):
        remove_tree(home.work(run.ulid))
        remove_tree(home.journal(run.ulid))


@contextmanager
def submitting(home: Home) -> Iterator[None]:
    """Until the end of the block nothing is taken for given up."""
    lock = os.open(home.submit_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def clean_abandoned(home: Home, catalog: Catalog) -> None:
    """Removes what submissions left that were killed half-way; not while one is going on."""
    lock = take_lock(home.submit_lock)
    if lock is None:
        return
    try:
        for folder in (home.work(""), home.journal("")):
            for name in os.listdir(folder):
                ulid = name.removesuffix(".partial")
                known = catalog.experiment(ulid) or catalog.run(f"wr_{ulid}")
                if not known and not is_locked(home.supervisor_lock(ulid)):
                    remove_tree(os.path.join(folder, name))
    finally:
        os.close(lock)
