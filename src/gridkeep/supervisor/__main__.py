"""The supervisor's process: `python -m gridkeep.supervisor HOME ULID`. One per experiment; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import sys

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.errors import GridError
from gridkeep.files import read_json, take_lock
from gridkeep.settings import Home, load
from gridkeep.stores import open_store
from gridkeep.supervisor.cleanup import clean
from gridkeep.supervisor.life import Life, Withdrawn
from gridkeep.supervisor.prepare import environ_file


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
    life = Life(home, settings, catalog, open_store(cluster), run, experiment)
    try:
        life.run()
    except Withdrawn:
        pass
    finally:
        life.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
