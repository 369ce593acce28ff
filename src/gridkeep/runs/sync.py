"""Trying again to store what could not be stored, in time or with the credentials that the run had.

An experiment that failed so still has its files in the home: it goes back to `syncing` and gets a new `sync_timeout`. One
that goes on gets newer credentials. What follows is its supervisor's work, not ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from gridkeep.errors import Conflict, GridError
from gridkeep.model import Experiment, Outcome, State
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context
from gridkeep.runs.unfinished import has_ledger, let_sync_again
from gridkeep.supervisor import credentials
from gridkeep.supervisor.prepare import environ_file


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


def hand_on_credentials(context: Context, experiments: Iterable[Experiment]) -> dict[str, GridError | None]:
    """Gives those that have not ended, in so far as their store is a cloud's, the credentials of `context`, once the store
    was seen to take them: others that are at work already may be better. Answers for each cluster that this is about:
    None, or why its experiments keep what they have."""
    answers: dict[str, GridError | None] = {}
    for run_id in {one.run_id for one in experiments if one.state.active or failed_to_sync(one)}:
        run = context.catalog.run(run_id)
        if run is None or not os.path.exists(environ_file(context.home, run.ulid)):
            continue  # deleted in this moment, or of another home
        if not credentials.needs_credentials(context.cluster(run.cluster)):
            continue
        if run.cluster not in answers:
            answers[run.cluster] = _refusal(context, run.cluster)
        if answers[run.cluster] is None:
            credentials.keep(context.home, run.ulid, context.environ)
    return answers


def _refusal(context: Context, cluster: str) -> GridError | None:
    try:
        context.check_store(context.cluster(cluster))
    except GridError as error:
        return error
    return None


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
