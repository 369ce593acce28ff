"""Stopping: asks for it, and waits until the scripts are gone. Their files are kept: that is the supervisors' work,
not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from gridkeep.errors import GridError
from gridkeep.files import is_locked
from gridkeep.model import Experiment, State
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context
from gridkeep.runs.pulse import Pulse
from gridkeep.supervisor.cleanup import clean
from gridkeep.supervisor.record import put_record

REASON = "stopped by its owner"


def stop(
    context: Context,
    experiments: Iterable[Experiment],
    *,
    reason: str = REASON,
    waiting: Callable[[list[Experiment]], None] = lambda _: None,
) -> list[Experiment]:
    """Stops them, and returns as they are then those that were still queued or running: their scripts are gone.
    `waiting` is told now and then which are still there."""
    dispatch.wake(context.home, context.catalog)  # a supervisor that was lost cannot be asked
    # From the end of the queue: none of it starts when room is made by those that run.
    order = sorted(experiments, key=lambda one: (one.state is not State.QUEUED, -one.index))
    asked = [one for one in order if context.catalog.request_stop(one.experiment_id, reason)]
    gone = wait_until(context, asked, lambda one: one.state not in (State.QUEUED, State.RUNNING), waiting)
    for one in gone:
        if one.started_at is None and one.state is State.STOPPED:
            _record(context, one)  # no supervisor ever had it that could do so
            if not is_locked(context.home.supervisor_lock(one.experiment_id)):
                with suppress(OSError):  # a supervisor was about to begin with it: that one cleans up
                    clean(context.home, context.catalog, one)
    return sorted(gone, key=lambda one: (one.run, one.index))


def _record(context: Context, experiment: Experiment) -> None:
    """Puts into the store that it was stopped before it had begun, so that the store alone tells of it, too."""
    run = context.catalog.run(experiment.run_id)
    if run is not None:
        with suppress(GridError):  # it is away: then only the catalog tells
            put_record(context.store(run.cluster), run, experiment)


def wait_until(
    context: Context,
    experiments: Iterable[Experiment],
    done: Callable[[Experiment], bool],
    waiting: Callable[[list[Experiment]], None] = lambda _: None,
) -> list[Experiment]:
    """Waits until `done` holds for each, and returns them as they were then, without those that were deleted
    meanwhile."""
    pulse = Pulse(context, 0.1)
    ready: list[Experiment] = []
    left = list(experiments)
    while True:
        now = [found for one in left if (found := context.catalog.experiment(one.experiment_id))]
        ready += [one for one in now if done(one)]
        left = [one for one in now if not done(one)]
        if not left:
            return ready
        waiting(left)
        pulse.wait()
