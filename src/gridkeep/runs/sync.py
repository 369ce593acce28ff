"""Trying again to store what could not be stored in time: the files of an experiment that failed so are still in the home.

It goes back to `syncing` and gets a new `sync_timeout`; what follows is its supervisor's work, not ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridkeep.errors import Conflict
from gridkeep.model import Experiment, Outcome, State
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context
from gridkeep.runs.unfinished import has_ledger, let_sync_again


def failed_to_sync(experiment: Experiment) -> bool:
    """Whether it ended without all of its files in the store."""
    return experiment.state is State.FAILED and experiment.outcome == Outcome.SYNC


def sync(context: Context, experiments: Iterable[Experiment]) -> list[Experiment]:
    """Lets those that `failed_to_sync` try again; returns them. Raises Conflict, before anything is done, when the files of
    one are not in this home."""
    wanted = [one for one in experiments if failed_to_sync(one)]
    for one in wanted:
        if not has_ledger(context.home, one.experiment_id):
            raise Conflict(
                f"The files of {one.name} are not in this home.", "Sync it in the home that it was run in."
            )
    again = [one for one in wanted if _set_off(context, one)]
    dispatch.wake(context.home, context.catalog)
    return again


def _set_off(context: Context, one: Experiment) -> bool:
    let_sync_again(context.home, one)
    return context.catalog.update_experiment(
        one.experiment_id,
        only_from=[State.FAILED],
        state=State.SYNCING,
        outcome=None,
        reason=None,
        waiting_for=None,
        finished_at=None,
    )
