"""Is the engine's background process alive, and starting it when work lies waiting.

One per home, held by a lock for its life; it leaves when idle. The process itself is `dispatcher`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gridkeep.catalog.base import Catalog
from gridkeep.files import is_locked
from gridkeep.settings import Home
from gridkeep.supervisor.marks import marked

if TYPE_CHECKING:
    import subprocess


def engine_alive(home: Home) -> bool:
    return is_locked(home.engine_lock)


def wake(home: Home, catalog: Catalog, environ: Mapping[str, str] | None = None) -> bool:
    """Starts the engine if there is work and none alive, without waiting for it. Tells whether it did.

    Inside a run of the same home it never does: a process of the run's own tree would end with it; the outer engine
    takes the work.
    """
    if is_inside_run(home, os.environ if environ is None else environ) or engine_alive(home):
        return False
    if not has_work(home, catalog):
        return False
    start(home)
    return True


def has_work(home: Home, catalog: Catalog) -> bool:
    """Whether there are experiments to be executed, or deletions to be finished."""
    return catalog.has_unfinished() or bool(deletions(home, catalog))


def deletions(home: Home, catalog: Catalog) -> frozenset[str]:
    """The ULIDs of the experiments whose deletion was begun and is not finished."""
    return frozenset((*(one.experiment_id for one in catalog.deleting()), *marked(home)))


def start(home: Home) -> None:
    """Starts the process, detached; a second one leaves at once."""
    _start(home, "dispatcher")


def start_deleter(home: Home) -> subprocess.Popen[bytes]:
    """Starts the process that goes on with deletions (`deleter`)."""
    return _start(home, "deleter")


def _start(home: Home, module: str) -> subprocess.Popen[bytes]:
    import subprocess  # only where it is needed: it takes a tenth of a command's start

    with open(os.path.join(home.log, "engine.log"), "ab", opener=_private) as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"gridkeep.runs.{module}", home.path],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


def is_inside_run(home: Home, environ: Mapping[str, str]) -> bool:
    """Whether this process belongs to an experiment of this home."""
    return environ.get("GRID_ARTIFACTS_SOCKET", "").startswith(os.path.join(home.path, "journal", ""))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
