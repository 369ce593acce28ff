"""What every catalog must do with clusters, runs and experiments: each sentence of `gridkeep.catalog.base`.

`test_catalog_artifacts`, `test_catalog_changes` and `test_catalog_together` have the rest.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gridkeep.errors import Conflict, NameTaken
from gridkeep.model import (
    ACTIVE_STATES,
    ArtifactState,
    Cluster,
    RunSpec,
    State,
    new_ulid,
    valid_run_name,
)
from tests.contract.catalog_worker import a_run, an_experiment, stored
from tests.contract.catalogs import again, found_run, submit

# --------------------------------------------------------------------------------------------------- clusters


def test_clusters_are_added_replaced_and_listed_by_name(catalog):
    local = Cluster(name="local", engine="local", store="file:///store")
    catalog.put_cluster(local)
    catalog.put_cluster(Cluster(name="bucket", engine="local", store="s3://old"))
    bucket = Cluster(name="bucket", engine="local", store="s3://b/p", endpoint="http://e", region="r")
    catalog.put_cluster(bucket)
    assert catalog.cluster("bucket") == bucket
    assert catalog.cluster("other") is None
    assert catalog.clusters() == [bucket, local]


def test_a_cluster_is_added_only_where_its_name_is_free(catalog):
    first = Cluster(name="bucket", engine="local", store="s3://b")
    assert catalog.add_cluster(first) == first
    assert catalog.add_cluster(replace(first, store="s3://other")) == first
    assert catalog.clusters() == [first]


def test_a_cluster_that_has_runs_stays(catalog):
    run = replace(a_run("a"), cluster="bucket")
    one = an_experiment(run)
    catalog.put_cluster(Cluster(name="bucket", engine="local", store="s3://b"))
    catalog.put_cluster(Cluster(name="other", engine="local", store="s3://o"))
    catalog.create_run(run, [one])
    assert (catalog.runs_on("bucket"), catalog.runs_on("other"), catalog.runs_on("none")) == (1, 0, 0)
    catalog.begin_delete([one.experiment_id])
    assert catalog.delete_cluster("bucket") == 1
    assert catalog.delete_cluster("other") == 0
    assert [each.name for each in catalog.clusters()] == ["bucket"]
    catalog.finish_delete(one.experiment_id)
    assert catalog.delete_cluster("bucket") == 0
    assert catalog.delete_cluster("bucket") == 0
    assert catalog.clusters() == []


# ------------------------------------------------------------------------------------------------------- runs


def test_a_run_comes_back_as_it_was_submitted(catalog):
    spec = RunSpec(
        argv=["python", "a\udcff.py"],
        display="é \udcff",
        workdir="sub",
        root="/p",
        cpus=0.5,
        gpus=2,
        memory="4GiB",
        parallel=3,
        timeout=1.5,
        auto_resume=True,
        num_trials=4,
        linked=["data"],
        on_build=["make"],
        env_names=["A"],
    )
    run = replace(a_run("a"), spec=spec, parent=new_ulid(), created_at=1234567.890123)
    experiment = replace(
        an_experiment(run, 0),
        params={"lr": 0.1, "é": [None, "\udcff"]},
        args=["--lr", "0.1", "\udcff"],
        command="train.py --lr 0.1",
        created_at=1234567.890123,
    )
    catalog.create_run(run, [experiment])
    assert catalog.run("a") == replace(run, counts={State.QUEUED: 1})
    assert catalog.experiments(run.run_id) == [experiment]


def test_a_run_is_found_by_name_and_by_id(catalog):
    submit(catalog, "a")
    submit(catalog, "b", kind="browser")
    assert found_run(catalog, "a").name == "a"
    assert found_run(catalog, found_run(catalog, "b").run_id).name == "b"
    assert catalog.run_id("a") == found_run(catalog, "a").run_id
    assert catalog.run_id(found_run(catalog, "b").run_id) == found_run(catalog, "b").run_id
    for unknown in ("c", f"wr_{new_ulid()}"):
        assert catalog.run(unknown) is None
        assert catalog.run_id(unknown) is None


def test_a_taken_name_is_refused_with_a_free_one(catalog):
    submit(catalog, "train")
    with pytest.raises(NameTaken) as refused:
        submit(catalog, "train", 2)
    assert refused.value.message == "A Run with the name train already exists"
    assert refused.value.hint is not None and " train-2." in refused.value.hint
    assert len(catalog.unfinished()) == 1, "nothing of the refused run may stay"
    submit(catalog, "train-2")
    with pytest.raises(NameTaken) as refused:
        submit(catalog, "train")
    assert refused.value.hint is not None and " train-3." in refused.value.hint


def test_the_free_name_is_a_valid_one_however_long_the_taken(catalog):
    name = "a" * 60 + "-bc"
    submit(catalog, name)
    with pytest.raises(NameTaken) as refused:
        submit(catalog, name)
    free = str(refused.value.hint).split()[-1].rstrip(".")
    assert valid_run_name(free) and free != name


def test_a_run_that_cannot_be_added_whole_is_not_added_at_all(catalog):
    [there] = submit(catalog, "a")
    run = a_run("b")
    before = catalog.last_change()
    with pytest.raises(Conflict):
        catalog.create_run(run, [an_experiment(run), replace(there, run_id=run.run_id, index=1)])
    assert catalog.run("b") is None
    assert catalog.experiments(run.run_id) == []
    assert catalog.last_change() == before
    submit(catalog, "b")


def test_a_run_sums_up_its_experiments(catalog):
    first, second, third = submit(catalog, "a", 3)
    run = found_run(catalog)
    assert (run.state, run.counts) == (State.QUEUED, {State.QUEUED: 3})
    assert (run.started_at, run.finished_at, run.reason) == (None, None, None)

    catalog.update_experiment(first.experiment_id, state=State.COMPLETED, started_at=20.0, finished_at=30.0)
    catalog.update_experiment(second.experiment_id, state=State.SYNCING, started_at=10.0, ended_at=90.0)
    run = found_run(catalog)
    assert (run.state, run.started_at, run.finished_at) == (State.SYNCING, 10.0, None)

    catalog.update_experiment(
        second.experiment_id, state=State.FAILED, finished_at=40.0, reason="exit code 3"
    )
    catalog.update_experiment(third.experiment_id, state=State.FAILED, finished_at=35.0, reason="exit code 4")
    run = found_run(catalog)
    assert run.counts == {State.COMPLETED: 1, State.FAILED: 2}
    assert (run.state, run.started_at, run.finished_at) == (State.FAILED, 10.0, 40.0)
    assert run.reason == "exit code 3", "the first failed one's"

    lost = replace(stored(third.experiment_id, b"x"), state=ArtifactState.MISSING, sha256=None)
    catalog.record_artifacts(first.experiment_id, [stored(first.experiment_id, b"x", size=5)])
    catalog.record_artifacts(third.experiment_id, [stored(third.experiment_id, b"y", size=7), lost])
    run = found_run(catalog)
    assert (run.artifacts, run.bytes, run.missing) == (2, 12, 1)


def test_the_reason_of_a_run_is_that_of_a_deciding_experiment(catalog):
    first, second, third = submit(catalog, "a", 3)
    catalog.update_experiment(first.experiment_id, state=State.STOPPED, reason="stopped by its owner")
    catalog.update_experiment(second.experiment_id, state=State.FAILED)
    catalog.update_experiment(third.experiment_id, state=State.FAILED, reason="exit code 1")
    assert found_run(catalog).reason == "exit code 1"
    catalog.update_experiment(third.experiment_id, state=State.RUNNING, reason=None)
    assert found_run(catalog).reason is None


def test_runs_are_listed_newest_first_in_pages(catalog):
    names = [f"r{i}" for i in range(10)]
    for i, name in enumerate(names):
        # Within one millisecond ULIDs are in no order, and the ids of browser runs begin with another word.
        submit(catalog, name, kind="browser" if i % 2 else "script", owner="me" if i < 6 else "you")
        time.sleep(0.0015)
    assert [run.name for run in catalog.runs()] == names[::-1]
    assert [run.name for run in catalog.runs(owner="me")] == names[5::-1]
    assert [run.name for run in catalog.runs(limit=3)] == ["r9", "r8", "r7"]
    seen: list[str] = []
    before = None
    while page := catalog.runs(limit=3, before=before):
        seen += [run.name for run in page]
        before = page[-1].run_id
    assert seen == names[::-1]


def test_runs_are_listed_by_whether_they_are_active(catalog):
    for state in State:
        [one, _] = submit(catalog, str(state), 2)
        for each in (one, _):
            catalog.update_experiment(each.experiment_id, state=State.COMPLETED)
        catalog.update_experiment(one.experiment_id, state=state)
    active = {str(state) for state in ACTIVE_STATES}
    assert {run.name for run in catalog.runs(active=True)} == active
    assert {run.name for run in catalog.runs(active=False)} == set(State) - active
    assert {run.name for run in catalog.runs()} == set(State)
    submit(catalog, "theirs", owner="you")
    assert catalog.count_runs(active=True) == 4
    assert catalog.count_runs(active=True, owner="me") == 3
    assert catalog.count_runs(active=False, owner="me") == 3
    assert catalog.count_runs(active=False, owner="you") == 0
    assert [run.name for run in catalog.runs(active=True, owner="you")] == ["theirs"]


# ------------------------------------------------------------------------------------------------ experiments


def test_an_experiment_is_found_by_name_and_by_ulid(catalog):
    experiments = submit(catalog, "a-exp", 12)
    assert catalog.experiment("a-exp-exp11") == experiments[11]
    assert catalog.experiment(experiments[3].experiment_id) == experiments[3]
    for unknown in ("a-exp", "a-exp-exp12", "a-exp-exp011", "b-exp0", "a-exp-exp" + "9" * 30, new_ulid(), ""):
        assert catalog.experiment(unknown) is None


def test_experiments_come_in_order_of_index_in_pages(catalog):
    experiments = submit(catalog, "a", 25)
    submit(catalog, "b", 3)
    assert [each.index for each in experiments] == list(range(25))
    run_id = experiments[0].run_id
    page = catalog.experiments(run_id, after=9, limit=5)
    assert [each.name for each in page] == [f"a-exp{i}" for i in range(10, 15)]
    assert catalog.experiments(run_id, after=24) == []


def test_unfinished_experiments_come_in_order_of_submission(catalog):
    assert not catalog.has_unfinished() and catalog.unfinished() == []
    late, early = replace(a_run("late"), created_at=9.0), replace(a_run("early"), created_at=3.0)
    for run in (late, early):
        catalog.create_run(run, [an_experiment(run, index) for index in (1, 0)])
    names = ["early-exp0", "early-exp1", "late-exp0", "late-exp1"]
    assert [each.name for each in catalog.unfinished()] == names
    for name, state in zip(names, (State.RUNNING, State.SYNCING, State.FAILED, State.STOPPED), strict=True):
        catalog.update_experiment(catalog.experiment(name).experiment_id, state=state)
    assert [each.name for each in catalog.unfinished()] == names[:2]
    assert catalog.has_unfinished()
    for name in names[:2]:
        catalog.update_experiment(catalog.experiment(name).experiment_id, state=State.COMPLETED)
    assert not catalog.has_unfinished() and catalog.unfinished() == []


def test_every_field_of_an_experiment_can_be_updated(catalog):
    [experiment] = submit(catalog)
    changes: dict[str, Any] = {
        "state": State.SYNCING,
        "outcome": "signal",
        "reason": "killed by SIGKILL",
        "exit_code": -9,
        "attempt": 2,
        "started_at": 1.25,
        "ended_at": 2.5,
        "finished_at": 3.75,
        "waiting_for": "the store",
        "stop_requested": "stopped by its owner",
        "capture": {"mode": "c", "events": 12},
        "manifest_sha256": "f" * 64,
    }
    assert catalog.update_experiment(experiment.experiment_id, **changes)
    assert again(catalog, experiment) == replace(experiment, **changes)
    assert catalog.update_experiment(experiment.experiment_id, waiting_for=None, capture=None)
    assert again(catalog, experiment) == replace(
        experiment, **changes | {"waiting_for": None, "capture": None}
    )


def test_an_update_touches_only_what_it_names(catalog):
    first, second = submit(catalog, "a", 2)
    catalog.record_artifacts(first.experiment_id, [stored(first.experiment_id, b"x")])
    before = again(catalog, first)
    catalog.update_experiment(first.experiment_id, exit_code=3)
    assert again(catalog, first) == replace(before, exit_code=3)
    assert again(catalog, second) == second


def test_ids_totals_and_unknown_fields_cannot_be_updated(catalog):
    [experiment] = submit(catalog)
    for field in ("experiment_id", "run_id", "index", "artifacts", "bytes", "params", "colour"):
        with pytest.raises(TypeError, match=field):
            catalog.update_experiment(experiment.experiment_id, **{field: 1})


def test_an_update_can_be_bound_to_a_state(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    assert catalog.update_experiment(ulid, only_from=[State.QUEUED], state=State.RUNNING)
    before = catalog.last_change()
    assert not catalog.update_experiment(ulid, only_from=[State.QUEUED], state=State.RUNNING)
    assert not catalog.update_experiment(ulid, only_from=[], state=State.STOPPED)
    assert not catalog.update_experiment(new_ulid(), state=State.STOPPED)
    assert catalog.last_change() == before and again(catalog, experiment).state is State.RUNNING
    assert catalog.update_experiment(ulid, only_from=iter(ACTIVE_STATES), state=State.SYNCING)
    assert catalog.last_change() == before + 1


def test_text_that_is_no_unicode_is_recorded_readably(catalog):
    [experiment] = submit(catalog)
    catalog.update_experiment(
        experiment.experiment_id, reason="cannot read a\udcffb", waiting_for="é \U0001f600"
    )
    found = again(catalog, experiment)
    assert (found.reason, found.waiting_for) == ("cannot read a\ufffdb", "é \U0001f600")


def test_a_stop_of_a_queued_experiment_is_done_at_once(catalog):
    [experiment] = submit(catalog)
    before = time.time()
    assert catalog.request_stop(experiment.experiment_id, "stopped by its owner")
    found = again(catalog, experiment)
    assert (found.state, found.outcome, found.reason) == (State.STOPPED, "terminated", "stopped by its owner")
    assert found.finished_at is not None and before <= found.finished_at <= time.time()
    assert not catalog.has_unfinished()
    assert not catalog.update_experiment(
        experiment.experiment_id, only_from=[State.QUEUED], state=State.RUNNING
    )


def test_a_stop_of_a_running_experiment_is_asked_for(catalog):
    [experiment] = submit(catalog)
    catalog.update_experiment(experiment.experiment_id, state=State.RUNNING)
    before = catalog.last_change()
    assert catalog.request_stop(experiment.experiment_id, "stopped by its owner")
    found = again(catalog, experiment)
    assert (found.state, found.stop_requested) == (State.RUNNING, "stopped by its owner")
    assert catalog.last_change() == before + 1


@pytest.mark.parametrize("state", [State.SYNCING, State.COMPLETED, State.FAILED, State.STOPPED])
def test_a_stop_comes_too_late_for_what_is_past_running(catalog, state):
    [experiment] = submit(catalog)
    catalog.update_experiment(experiment.experiment_id, state=state)
    before = again(catalog, experiment)
    assert not catalog.request_stop(experiment.experiment_id, "stopped by its owner")
    assert again(catalog, experiment) == before
    assert not catalog.request_stop(new_ulid(), "stopped by its owner")
