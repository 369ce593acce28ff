"""What an experiment leaves in the home, and when it may go: working copy, journal, environment.

Nothing goes that is not in the store.
"""

from __future__ import annotations

import os
import shutil

from gridkeep.catalog.base import Catalog
from gridkeep.model import Experiment, Outcome
from gridkeep.settings import Home


def clean(home: Home, catalog: Catalog, experiment: Experiment, *, keep_tree: bool = False) -> None:
    """Removes an ended experiment's working copy and journal, and its run's with the last experiment. Repeating does no
    harm. `keep_tree`: something in the working copy could not be stored."""
    if experiment.state.active or experiment.outcome == Outcome.SYNC:
        return
    if not keep_tree:
        _remove(home.work(experiment.experiment_id))
        _remove(home.work(experiment.experiment_id) + ".partial")
    _remove(home.journal(experiment.experiment_id))
    run = catalog.run(experiment.run_id)
    if run is not None and not run.state.active and not _any_kept(catalog, experiment.run_id):
        _remove(home.work(run.ulid))
        _remove(home.journal(run.ulid))


def _any_kept(catalog: Catalog, run_id: str) -> bool:
    """Whether an experiment of the run may still be synced by hand."""
    return any(experiment.outcome == Outcome.SYNC for experiment in catalog.experiments(run_id))


def _remove(path: str) -> None:
    """A tree, also where the script took the rights of its folders away."""
    if not os.path.lexists(path):
        return
    shutil.rmtree(path, onerror=_force)


def _force(function: object, path: str, _: object) -> None:
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass
