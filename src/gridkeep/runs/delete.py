"""Deleting: everything of an experiment goes, nothing of another, and the reply says how much went.

First it is hidden in the catalog, at once, and marked in the home; then objects, working copy and journal go; the records
go last. So a deletion that was cut off anywhere is finished by whoever looks next (`finish_deletions`), by the marks also
when the catalog was lost meanwhile, and with the credentials of whoever asked for it, which are in them; where these serve
no more, with those of whoever asks again. A lock lets one process of the home delete at a time; a supervisor that still
lives is let finish first, or it would put back what has gone.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gridkeep.errors import Conflict, GridError, NoCredentials, NotFound, StoreDenied, StoreError
from gridkeep.files import is_locked, take_lock
from gridkeep.model import Experiment
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context
from gridkeep.runs.pick import Picked
from gridkeep.runs.stop import stop
from gridkeep.stores import open_store
from gridkeep.stores.base import ObjectInfo, Store
from gridkeep.stores.keys import experiment_prefix
from gridkeep.supervisor.cleanup import has_begun, is_over
from gridkeep.supervisor.copying import remove_tree
from gridkeep.supervisor.marks import Mark, clear_mark, make_mark, marked, read_mark
from gridkeep.supervisor.record import ULID, note_ended

_BATCH = 1000
_LOOK_EVERY = 0.1  # seconds


@dataclass(slots=True)
class Erased:
    """What went: experiments, objects of the store (files, logs and manifests), and their bytes."""

    experiments: int = 0
    objects: int = 0
    bytes: int = 0


def begun(context: Context, name: str, kind: str | None = None) -> list[Experiment]:
    """What a name or an id of a run or an experiment (`kind`) meant before its deletion began, as long as that is not over;
    nothing where it means another by now."""
    if context.find(name) is not None:
        return []
    return [
        one
        for one in context.catalog.deleting()
        if (kind != "experiment" and name in (one.run, one.run_id))
        or (kind != "run" and name in (one.name, one.experiment_id))
    ]


def delete(
    context: Context,
    picked: Picked,
    *,
    again: Sequence[Experiment] = (),
    force: bool = False,
    waiting: Callable[[list[Experiment]], None] = lambda _: None,
    progress: Callable[[Erased], None] = lambda _: None,
) -> Erased:
    """Deletes the picked experiments, and each run with its last one, and goes on with those of `again`, which were `begun`;
    returns when store and home are clean of them. `waiting` is told now and then what is still being stopped, `progress`
    what has gone.

    Raises Conflict when one is active, unless `force`: then it is stopped first. Raises StoreError when the store does
    not take part; the rest is then done later (`finish_deletions`), unless the store lets nothing be seen: then nothing
    was begun.
    """
    active = [one for one in picked.experiments.values() if one.state.active]
    if active and not force:
        raise still_active(active)
    ids = [*picked.experiments, *(one.experiment_id for one in again)]
    _look_in(context, [*picked.experiments.values(), *again])
    stop(context, active, waiting=waiting)
    erased = Erased()
    while True:
        with _alone(
            context
        ) as alone:  # before it begins: nobody else shall do, and count, what is asked of us
            if alone:
                context.catalog.begin_delete(ids)
                left = _begun(context, ids)
                _mark(context, left)
                while left:
                    try:
                        _erase_all(context, left, erased, progress)
                    except StoreError as error:
                        raise _with_what_is_left(error, left[0].run) from None
                    if left := _begun(context, ids):  # their supervisors still live
                        waiting(left)
                        time.sleep(_LOOK_EVERY)
                return erased
        time.sleep(_LOOK_EVERY)


def _with_what_is_left(error: StoreError, name: str) -> StoreError:
    """The error, and how what it has cut off is finished."""
    how = f"`grid delete {name}` goes on with what is left, with the credentials of its shell."
    error.hint = f"{error.hint} {how}" if error.hint else how
    return error


def begin(context: Context, picked: Picked) -> None:
    """Hides the picked experiments, and leaves the rest to the engine, which it wakes. Raises Conflict when one is active,
    StoreDenied or NoCredentials where nothing could be removed."""
    if active := [one for one in picked.experiments.values() if one.state.active]:
        raise still_active(active)
    _look_in(context, picked.experiments.values())
    context.catalog.begin_delete(list(picked.experiments))
    _mark(context, picked.experiments.values())
    dispatch.wake(context.home, context.catalog)


def _look_in(context: Context, experiments: Iterable[Experiment]) -> None:
    """Raises StoreDenied or NoCredentials where these would end every deletion; what passes is for later."""
    for one in {one.run_id: one for one in experiments}.values():
        for cluster in _clusters(context, one.experiment_id):
            try:
                next(iter(context.store(cluster).list(experiment_prefix(one.experiment_id))), None)
            except (StoreDenied, NoCredentials):
                raise
            except (StoreError, NotFound):
                continue


def finish_deletions(context: Context, told: Callable[[str], None] = lambda _: None) -> Erased:
    """Does what can be done now of deletions that were begun: not while another process is at it, not what a supervisor
    still works on, nor what a store or disk refuses, of which somebody is `told`. For whoever looks now and then; safe at
    any moment. This process then has the credentials of whoever asked (`credentials.adopt`)."""
    erased = Erased()
    with _alone(context) as alone:
        if alone:
            marks = marked(context.home)
            context.catalog.begin_delete(marks)  # what an older catalog shows again
            known = {one.experiment_id: one for one in context.catalog.deleting()}
            _mark(context, [one for ulid, one in known.items() if ulid not in marks])
            for asker, ulids in _by_asker(context, marked(context.home)):
                for ulid in ulids:
                    try:
                        if ulid in known:
                            _erase_all(asker, [known[ulid]], erased, lambda _: None)
                        else:
                            _erase_unknown(asker, read_mark(context.home, ulid), erased)
                    except (GridError, OSError) as error:
                        told(f"{known[ulid].name if ulid in known else ulid} is not deleted yet: {error}")
    return erased


def _by_asker(context: Context, ulids: Iterable[str]) -> Iterator[tuple[Context, list[str]]]:
    """What is marked by whose credentials the marks bear, each with a context that opens stores with these."""
    found: dict[frozenset[tuple[str, str]], list[str]] = {}
    for ulid in ulids:
        found.setdefault(frozenset(read_mark(context.home, ulid).environ.items()), []).append(ulid)
    for environ, of_one in found.items():
        yield replace(context, environ=dict(environ), _stores={}) if environ else context, of_one


def still_active(active: list[Experiment]) -> GridError:
    """The refusal, which names the first of them."""
    first, more = active[0], len(active) - 1
    others = f", and {more} more" if more else ""
    return Conflict(
        f"{first.name} is still {first.state}{others}: what is active is not deleted.",
        f"Stop it first with `grid stop run {first.run}`, or say `--force`.",
    )


@contextmanager
def _alone(context: Context) -> Iterator[bool]:
    """Whether this process is the one that deletes, until the end of the block."""
    lock = take_lock(context.home.delete_lock)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _begun(context: Context, ids: Collection[str]) -> list[Experiment]:
    """Those of `ids` that are hidden and not yet gone."""
    return [one for one in context.catalog.deleting() if one.experiment_id in ids]


def _mark(context: Context, experiments: Iterable[Experiment]) -> None:
    """Before anything of them goes; with what opens their stores here."""
    for one in experiments:
        name = context.catalog.cluster_of(one.experiment_id)
        make_mark(context.home, one, context.catalog.cluster(name) if name else None, context.environ)


def _erase_all(
    context: Context, experiments: list[Experiment], erased: Erased, progress: Callable[[Erased], None]
) -> None:
    """Those that no supervisor works on."""
    for one in experiments:
        if not is_locked(context.home.supervisor_lock(one.experiment_id)):
            _erase(context, one, erased, progress)


def _erase(
    context: Context, experiment: Experiment, erased: Erased, progress: Callable[[Erased], None]
) -> None:
    ulid, home = experiment.experiment_id, context.home
    _check(ulid)
    note_ended(home, experiment.run_ulid, [ulid])
    for cluster in _clusters(context, ulid):
        _erase_prefix(context.store(cluster), experiment_prefix(ulid), erased, progress)
    _erase_folders(home.work(ulid), f"{home.work(ulid)}.partial", home.journal(ulid))
    if _is_last(context, experiment):
        run_ulid = experiment.run_ulid
        if ULID.fullmatch(run_ulid) and not has_begun(
            home, run_ulid
        ):  # else others that the catalog does not know
            _erase_folders(home.work(run_ulid), home.journal(run_ulid))
    context.catalog.finish_delete(ulid)
    clear_mark(home, ulid)
    erased.experiments += 1
    progress(erased)


def _erase_unknown(context: Context, mark: Mark, erased: Erased) -> None:
    """What the catalog knows nothing of, as it was lost since the deletion began."""
    ulid, home = mark.experiment_id, context.home
    _check(ulid)
    if is_locked(home.supervisor_lock(ulid)):
        return
    stores = (
        [open_store(mark.cluster, environ=context.environ)]
        if mark.cluster
        else [context.store(cluster.name) for cluster in context.catalog.clusters()]
    )
    for store in stores:
        _erase_prefix(store, experiment_prefix(ulid), erased, lambda _: None)
    _erase_folders(home.work(ulid), f"{home.work(ulid)}.partial", home.journal(ulid))
    if mark.run_ulid is not None:
        _check(mark.run_ulid)
        note_ended(home, mark.run_ulid, [ulid])
        if is_over(home, mark.run_ulid):
            _erase_folders(home.work(mark.run_ulid), home.journal(mark.run_ulid))
    clear_mark(home, ulid)
    erased.experiments += 1


def _check(ulid: str) -> None:
    if not ULID.fullmatch(ulid):
        raise Conflict(f"{ulid!r} is no ULID: nothing is deleted under it.", "Report this, please.")


def _clusters(context: Context, ulid: str) -> list[str]:
    """Where its objects lie: its run's cluster, so that no other store that is away holds it up; where that is not known,
    all of them, as the ULID is no other's in any store."""
    known = context.catalog.cluster_of(ulid)
    if known is not None and context.catalog.cluster(known) is not None:
        return [known]
    return [cluster.name for cluster in context.catalog.clusters()]


def _is_last(context: Context, experiment: Experiment) -> bool:
    """Whether its run has no other experiment left, neither visible nor being deleted."""
    if context.catalog.experiments(experiment.run_id, limit=1):
        return False
    return all(
        other.run_id != experiment.run_id or other.experiment_id == experiment.experiment_id
        for other in context.catalog.deleting()
    )


def _erase_prefix(store: Store, prefix: str, erased: Erased, progress: Callable[[Erased], None]) -> None:
    before: list[ObjectInfo] = []
    while batch := list(itertools.islice(store.list(prefix), _BATCH)):
        if batch == before:
            raise StoreError(
                f"The store {store.uri} keeps {batch[0].key} although it was deleted.", "Check its rules."
            )
        store.delete(item.key for item in batch)
        erased.bytes += sum(item.size for item in batch)
        erased.objects += len(batch)
        before = batch
        progress(erased)
    store.abandon(prefix)


def _erase_folders(*paths: str) -> None:
    for path in paths:
        while os.path.lexists(path):  # again where others remove it too
            remove_tree(path)
