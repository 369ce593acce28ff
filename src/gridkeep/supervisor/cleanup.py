"""What an experiment leaves in the home, and when it may go: working copy, journal, environment.

Nothing goes that is not in the store, and nothing that the catalog does not know: it may be the catalog that was lost. Only
what a submission left that was killed half-way is removed without it: a mark of its own and a lock tell.
"""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gridkeep.catalog.base import Catalog
from gridkeep.errors import GridError
from gridkeep.files import is_locked, take_lock, write_file
from gridkeep.model import Experiment, Outcome
from gridkeep.settings import Home
from gridkeep.supervisor.copying import remove_tree
from gridkeep.supervisor.marks import marked
from gridkeep.supervisor.record import ULID, kept_submission, note_ended

_LOCK = "supervisor.lock"


def clean(home: Home, catalog: Catalog, experiment: Experiment, *, keep_tree: bool = False) -> None:
    """Removes an ended experiment's working copy and journal, and its run's with the last experiment. Repeating does no
    harm. `keep_tree`: something in the working copy could not be stored. One that was not proven complete, and had begun,
    keeps everything."""
    if not _needs_nothing(home, experiment):
        return
    note_ended(home, experiment.run_ulid, [experiment.experiment_id])
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
    if has_begun(home, run.ulid):  # also one that the catalog does not know
        return
    if all(_needs_nothing(home, one) or _is_elsewhere(home, one) for one in catalog.experiments(run_id)):
        remove_tree(home.work(run.ulid))
        remove_tree(home.journal(run.ulid))


def clean_run_of(home: Home, catalog: Catalog, ulid: str) -> None:
    """The same by the run's ULID: somebody was killed between its last experiment and this."""
    for run_id in _run_ids(ulid):
        clean_run(home, catalog, run_id)


def has_begun(home: Home, run_ulid: str) -> bool:
    """Whether any experiment of the run has a journal here, as far as its submission tells."""
    with suppress(GridError):
        submitted = kept_submission(home, run_ulid)
        return submitted is not None and any(
            os.path.exists(home.journal(one.experiment_id)) for one in submitted.experiments
        )
    return False


def is_over(home: Home, run_ulid: str) -> bool:
    """Whether no experiment of the run will be executed any more, nor has a journal here, whatever a catalog says."""
    with suppress(GridError):
        submitted = kept_submission(home, run_ulid)
        return submitted is not None and all(
            one.experiment_id in submitted.ended and not os.path.exists(home.journal(one.experiment_id))
            for one in submitted.experiments
        )
    return False


def _needs_nothing(home: Home, experiment: Experiment) -> bool:
    """Whether it has ended, and left nothing in the home that is not in the store. That it never began is not for the
    catalog alone to say, which may be an older copy."""
    if experiment.state.active or experiment.manifest_sha256 is not None:
        return not experiment.state.active
    if experiment.started_at is not None or experiment.outcome in (Outcome.SYNC, Outcome.LOST):
        return False
    return not glob.glob(
        os.path.join(glob.escape(home.journal(experiment.experiment_id)), "capture-*/started.json")
    )


def _is_elsewhere(home: Home, experiment: Experiment) -> bool:
    """Whether it has ended and nothing of it is in this home."""
    ulid = experiment.experiment_id
    return not (
        experiment.state.active or os.path.exists(home.journal(ulid)) or os.path.exists(home.work(ulid))
    )


# ------------------------------------------------------------------------------------------------------ submissions


@contextmanager
def submitting(home: Home, run_ulid: str) -> Iterator[None]:
    """Makes the run's journal, and marks it as not yet recorded until the end of the block, which records the run or
    removes the journal. Until then nothing is taken for given up."""
    lock = os.open(home.submit_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.mkdir(home.journal(run_ulid), 0o700)
        try:
            write_file(_mark(home, run_ulid), b"")
        except BaseException:
            remove_tree(home.journal(run_ulid))
            raise
        yield
        with suppress(FileNotFoundError):  # it has run to its end already
            os.unlink(_mark(home, run_ulid))
    finally:
        os.close(lock)


def clean_abandoned(home: Home, catalog: Catalog) -> None:
    """Removes what submissions left that were killed half-way; not while one is going on."""
    lock = take_lock(home.submit_lock)
    if lock is None:
        return
    try:
        for ulid in os.listdir(home.journal("")):
            if _is_bare(home, ulid) and catalog.experiment(ulid) is None and not _knows_run(catalog, ulid):
                remove_tree(home.journal(ulid))
                continue
            if not is_submitted_now(home, ulid):
                continue
            if _knows_run(catalog, ulid) or has_begun(home, ulid):
                os.unlink(_mark(home, ulid))  # killed just after it was recorded
                continue
            remove_tree(home.work(ulid) + ".partial")
            remove_tree(home.work(ulid))
            remove_tree(home.journal(ulid))
    finally:
        os.close(lock)


def _is_bare(home: Home, ulid: str) -> bool:
    """Whether there is nothing of it but a mark that its submission was about to make, or the lock of a supervisor that
    came when it was deleted."""
    if os.path.exists(home.work(ulid)) or os.path.exists(home.work(ulid) + ".partial"):
        return False
    names = os.listdir(home.journal(ulid))
    return all(name == _LOCK or name.startswith("submitting.") for name in names) and not is_locked(
        home.supervisor_lock(ulid)
    )


def leave(home: Home, ulid: str) -> None:
    """For a supervisor that finds nothing to do: takes away what it has made itself, if there is nothing else."""
    with suppress(OSError):
        if os.listdir(home.journal(ulid)) == [_LOCK]:
            os.unlink(home.supervisor_lock(ulid))
            os.rmdir(home.journal(ulid))


def _knows_run(catalog: Catalog, ulid: str) -> bool:
    return any(catalog.run(run_id) is not None for run_id in _run_ids(ulid))


def _run_ids(ulid: str) -> list[str]:
    return [f"{kind}_{ulid}" for kind in ("wr", "tsk")]


def is_submitted_now(home: Home, run_ulid: str) -> bool:
    """Whether its submission is going on, or was killed before the run was recorded."""
    return os.path.exists(_mark(home, run_ulid))


def _mark(home: Home, run_ulid: str) -> str:
    return os.path.join(home.journal(run_ulid), "submitting")


# -------------------------------------------------------------------------------------------------------- leftovers


def leftovers(home: Home, catalog: Catalog) -> set[str]:
    """The ULIDs of the experiments that the home knows and the catalog does not, as when it was lost or is older than they.
    Those that are being deleted or submitted are none."""
    found: set[str] = set()
    for ulid in _unknown(home, catalog):
        submitted = None
        with suppress(GridError):
            submitted = kept_submission(home, ulid)
        if submitted is not None:
            found.update(one.experiment_id for one in submitted.experiments)
        elif not os.path.exists(
            os.path.join(home.journal(ulid), "environ.json")
        ):  # else a run's, not an experiment's
            found.add(ulid)
    return found


def _unknown(home: Home, catalog: Catalog) -> Iterator[str]:
    """The ULIDs in the names of folders in the home that mean nothing to the catalog."""
    hidden = {ulid for one in catalog.deleting() for ulid in (one.experiment_id, one.run_ulid)}
    hidden.update(marked(home))
    names = {name for part in (home.journal(""), home.work("")) for name in os.listdir(part)}
    for ulid in {name.removesuffix(".partial") for name in names} - hidden:
        if not ULID.fullmatch(ulid) or is_submitted_now(home, ulid):
            continue
        if catalog.experiment(ulid) is None and not _knows_run(catalog, ulid) and _holds_anything(home, ulid):
            yield ulid


def _holds_anything(home: Home, ulid: str) -> bool:
    """More than a lock, or what is left of a submission that was killed as it began."""
    found: list[str] = []
    for folder in (home.work(ulid), home.work(ulid) + ".partial", home.journal(ulid)):
        with suppress(FileNotFoundError):
            found += os.listdir(folder)
    return any(name != _LOCK and not name.startswith("submitting") for name in found)
