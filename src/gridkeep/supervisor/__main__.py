"""The supervisor's process: `python -m gridkeep.supervisor HOME ULID`. One per experiment; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.errors import CatalogError, GridError, HomeError, StoreError
from gridkeep.files import read_json, take_lock
from gridkeep.model import ACTIVE_STATES, Experiment, Outcome, State
from gridkeep.settings import Home, load
from gridkeep.stores.base import Store
from gridkeep.supervisor import restore
from gridkeep.supervisor.cleanup import clean, leave
from gridkeep.supervisor.credentials import open_run_store
from gridkeep.supervisor.finish import has_manifest
from gridkeep.supervisor.life import Life, Withdrawn
from gridkeep.supervisor.prepare import environ_file

_PATIENCE = 5.0  # seconds for the store to answer before the script begins


def main(path: str, ulid: str) -> None:
    """Carries the experiment to its end, and leaves nothing of it in the home that is in the store."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease of ours being broken
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    home = Home(path)
    os.makedirs(home.journal(ulid), mode=0o700, exist_ok=True)
    lock = take_lock(home.supervisor_lock(ulid))
    if lock is None:
        return
    catalog = open_catalog(home.catalog)
    try:
        carry(home, catalog, ulid)
        if (ended := catalog.experiment(ulid)) is not None:
            clean(home, catalog, ended, keep_tree=ended.missing > 0)
        else:
            leave(home, ulid)
    except (
        OSError,
        sqlite3.OperationalError,
    ) as error:  # the disk is full, or fails: another of us tries again
        with suppress(GridError):
            catalog.update_experiment(ulid, only_from=ACTIVE_STATES, waiting_for=f"the home: {error}")
        raise
    finally:
        catalog.close()


def carry(home: Home, catalog: Catalog, ulid: str) -> None:
    """Raises GridError when its cluster is not known any more."""
    experiment = catalog.experiment(ulid)
    run = experiment and catalog.run(experiment.run_id)
    if not experiment or not run or not experiment.state.active:
        return
    cluster = catalog.cluster(run.cluster)
    if cluster is None:
        raise GridError(f"There is no cluster named {run.cluster}.")
    settings = load(home, read_json(environ_file(home, run.ulid)) or os.environ)
    store = open_run_store(home, settings, cluster, run.ulid)
    if _is_past(home, store, experiment):
        with suppress(StoreError, CatalogError):
            if restore.bring_back(catalog, store, run, experiment):
                return
        catalog.update_experiment(
            ulid,
            state=State.FAILED,
            outcome=str(Outcome.LOST),
            reason=f"the catalog is older than it; `grid catalog rebuild {store.uri}` says how it ended",
            finished_at=time.time(),
        )
        return
    life = Life(home, settings, catalog, store, run, experiment)
    try:
        life.run()
    except Withdrawn:
        pass
    finally:
        life.close()


def _is_past(home: Home, store: Store, experiment: Experiment) -> bool:
    """Whether the experiment has begun or ended without a trace in this home's journal: the catalog tells of a time before,
    and to execute it (again) would write over what was kept. A store that is silent is not waited for."""
    if os.path.exists(home.ledger(experiment.experiment_id)):
        return False
    if experiment.state is not State.QUEUED:
        return True
    asking = ThreadPoolExecutor(1, thread_name_prefix="past")
    try:
        return asking.submit(has_manifest, store, experiment.experiment_id).result(_PATIENCE)
    except (StoreError, TimeoutError):
        return False
    finally:
        asking.shutdown(wait=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (
        HomeError
    ) as error:  # above all, the catalog was taken away: whoever has another starts another of us
        sys.exit(f"{sys.argv[2]}: {error.message}")
