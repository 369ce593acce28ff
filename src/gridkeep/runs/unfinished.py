"""What this home still holds of runs that a lost catalog does not know any more: how they come back.

The journal is the truth: an experiment whose ledger lies here is given to the engine as it stands, and a new supervisor goes
on from there, whether its script still runs, has ended, or was lost. One that never began is queued again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from gridkeep.capture.session import Session
from gridkeep.errors import GridError
from gridkeep.model import Cluster, Experiment, Run, State
from gridkeep.runs.context import Context
from gridkeep.settings import Home
from gridkeep.stores.base import Store
from gridkeep.supervisor.cleanup import is_submitted_now, leftovers
from gridkeep.supervisor.finish import ask_again
from gridkeep.supervisor.marks import marked
from gridkeep.supervisor.record import ULID, Submitted, kept_record, kept_submission, read_record


def has_ledger(home: Home, ulid: str) -> bool:
    """Whether an experiment has begun here and was not brought to its end."""
    return os.path.exists(home.ledger(ulid))


def find_unfinished(
    context: Context, place: Cluster, store: Store, stored: frozenset[str]
) -> Iterator[tuple[Run, list[Experiment]]]:
    """Each run of this store, which is that of `place`, with those of its experiments that are here and that the catalog
    does not know; `stored` are the ULIDs that the store holds something of. Raises StoreError when the store does not
    answer."""
    home, unknown = context.home, leftovers(context.home, context.catalog)
    hidden = {one.experiment_id for one in context.catalog.deleting()} | set(marked(home))
    for submitted in submissions(home):
        by_name = place_of(submitted) == (place.store, place.endpoint)
        if not by_name and stored.isdisjoint(one.experiment_id for one in submitted.experiments):
            continue  # neither this store's name, nor this store by another name
        of_run = [
            one
            for one in submitted.experiments
            if one.experiment_id not in hidden and context.catalog.experiment(one.experiment_id) is None
        ]
        unknown.difference_update(one.experiment_id for one in of_run)
        here = [_as_it_stands(home, one) for one in of_run if has_ledger(home, one.experiment_id)]
        if os.path.exists(os.path.join(home.journal(submitted.run.ulid), "environ.json")):
            here += [one for one in of_run if _never_began(home, submitted, one, stored)]
        if here:
            yield submitted.run, sorted(here, key=lambda one: one.index)
    for ulid in sorted(unknown):  # of a version that kept no submission
        if has_ledger(home, ulid) and ulid in stored and (found := _any_record(home, store, ulid)):
            yield found[0], [_as_it_stands(home, found[1])]


def submissions(home: Home) -> Iterator[Submitted]:
    """What was submitted in this home and has not been brought to its end, in order of submission."""
    for name in sorted(os.listdir(home.journal(""))):
        with suppress(GridError):  # damaged: `leftovers` names its experiments
            if not ULID.fullmatch(name) or is_submitted_now(home, name):
                continue
            if (submitted := kept_submission(home, name)) is not None:
                yield submitted


def place_of(submitted: Submitted) -> tuple[str, str | None]:
    """Its store's URI and endpoint, as a cluster has them."""
    return submitted.store.rstrip("/"), submitted.endpoint


def let_sync_again(home: Home, experiment: Experiment) -> None:
    """Whatever time its files had to get to the store, they get it anew. Raises OSError."""
    if has_ledger(home, experiment.experiment_id):
        ask_again(home.journal(experiment.experiment_id))


def _never_began(home: Home, submitted: Submitted, one: Experiment, stored: frozenset[str]) -> bool:
    ulid = one.experiment_id
    return ulid not in stored and ulid not in submitted.ended and not has_ledger(home, ulid)


def _any_record(home: Home, store: Store, ulid: str) -> tuple[Run, Experiment] | None:
    """That of the journal, else that of the store; None when neither is to be had."""
    with suppress(GridError):
        if kept := kept_record(home, ulid):
            return kept
    with suppress(GridError):
        return read_record(store, ulid)
    return None


def _as_it_stands(home: Home, experiment: Experiment) -> Experiment:
    """Queued if its script never began, else running: its supervisor finds out how far it is."""
    ulid = experiment.experiment_id
    folder = home.journal(ulid)
    with suppress(GridError):  # damaged: what was submitted is nearly as good
        if kept := kept_record(home, ulid):
            experiment = kept[1]
    attempts = [
        int(name[8:]) for name in os.listdir(folder) if name.startswith("capture-") and name[8:].isdigit()
    ]
    attempt = max(attempts, default=experiment.attempt)
    started = Session(os.path.join(folder, f"capture-{attempt}")).started()
    began = started is not None or experiment.started_at is not None
    return replace(
        experiment,
        state=State.RUNNING if began else State.QUEUED,
        attempt=attempt,
        started_at=experiment.started_at or (started or {}).get("at"),
        outcome=None,
        reason=None,
        exit_code=None,
        ended_at=None,
        finished_at=None,
    )
