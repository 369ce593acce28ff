import threading
import time

import pytest

from gridkeep.errors import NotFound
from gridkeep.model import Experiment, State
from gridkeep.runs.pick import pick
from gridkeep.runs.stop import REASON, stop
from tests.unit.made import make_run, quiet_home


@pytest.fixture
def context(home):
    with quiet_home(home) as context:
        yield context


def obey(context, experiment, delay=0.3):
    """Does what a supervisor does when it is asked to stop."""

    def work():
        while not context.catalog.experiment(experiment.experiment_id).stop_requested:
            time.sleep(0.01)
        time.sleep(delay)
        context.catalog.update_experiment(experiment.experiment_id, state=State.SYNCING, ended_at=time.time())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_stop_returns_when_the_script_is_gone(context):
    _, [running, done] = make_run(context, "my-run", ["running", "completed"])
    supervisor = obey(context, running)
    told: list[list[Experiment]] = []
    gone = stop(context, [running, done], waiting=told.append)
    supervisor.join()
    [one] = gone
    assert (one.name, one.state, one.stop_requested) == ("my-run-exp0", "syncing", REASON)
    assert {each.name for left in told for each in left} == {"my-run-exp0"}


def test_the_queue_is_emptied_before_room_is_made_in_it(context):
    _, experiments = make_run(context, "sweep", ["running", "queued", "queued"])
    supervisor = obey(context, experiments[0], delay=0)
    before = context.catalog.last_change()
    gone = stop(context, experiments)
    supervisor.join()
    assert [one.state for one in gone] == ["syncing", "stopped", "stopped"]
    assert gone[1].reason == REASON
    order = [identity for _, kind, identity in context.catalog.changes(before) if kind == "experiment"]
    assert order == [experiments[i].experiment_id for i in (2, 1, 0)]


def test_what_has_ended_is_left_alone(context):
    _, experiments = make_run(context, "my-run", ["completed", "failed", "stopped", "syncing"])
    before = context.catalog.last_change()
    assert stop(context, experiments) == []
    assert context.catalog.last_change() == before


def test_pick_takes_nothing_twice_and_refuses_the_wrong_kind(context):
    run, experiments = make_run(context, "my-run", ["completed", "completed"])
    picked = pick(context, ["my-run-exp1", "my-run", "my-run-exp0"])
    assert picked.runs == {run.run_id: context.catalog.run("my-run")}
    assert sorted(picked.experiments) == sorted(one.experiment_id for one in experiments)
    assert list(pick(context, ["my-run-exp1"], "experiment").experiments) == [experiments[1].experiment_id]
    for name, kind in [("my-run", "experiment"), ("my-run-exp0", "run"), ("nobody", "run"), ("nobody", None)]:
        with pytest.raises(NotFound):
            pick(context, [name], kind)
