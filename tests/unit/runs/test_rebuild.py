"""Bringing back what a store holds, in all the states that it may be found in."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace

import pytest

from gridkeep.errors import Conflict, NotFound, StoreUnavailable, UsageError
from gridkeep.files import take_lock
from gridkeep.model import ArtifactState, Cluster, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.rebuild import rebuild
from gridkeep.stores.keys import artifact_key, experiment_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor import record
from tests.unit.made import quiet_home

ODD = b"not-utf8-\xff"


@pytest.fixture
def context(home):
    with quiet_home(home) as context:
        yield context


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "other"), create=True)


def recorded(store, name="a", **more):
    """A run of one experiment that had begun, as far as the store tells."""
    spec = RunSpec(argv=["python", "a.py"], display="a.py", workdir="", root="/p")
    run = Run(
        run_id=f"wr_{new_ulid()}",
        name=name,
        kind="script",
        cluster="gpu",
        created_by="me",
        created_at=1.5,
        spec=spec,
    )
    fields = {"state": State.RUNNING, "started_at": 2.5, "created_at": 1.5, **more}
    one = Experiment(experiment_id=new_ulid(), run_id=run.run_id, run=name, index=0, **fields)
    record.put_record(store, run, one)
    return run, one


def put(store, one, path, content):
    store.put(artifact_key(one.experiment_id, path), io.BytesIO(content))


def listing(context, one):
    return {artifact.path: artifact for artifact in context.catalog.artifacts(one.experiment_id)}


def test_what_never_finished_is_listed_by_what_the_store_holds(context, store):
    _, one = recorded(store)
    put(store, one, b"out/f", b"x" * 3)
    put(store, one, ODD, b"y" * 5)
    [result] = rebuild(context, store.uri).runs
    assert (result.restored, result.run.name, result.run.artifacts, result.run.bytes) == (1, "a", 2, 8)
    found = context.catalog.experiment("a-exp0")
    assert (found.state, found.outcome, found.finished_at) == (State.FAILED, "lost", 2.5)
    encoded = b"_enc/" + hashlib.sha256(ODD).hexdigest().encode()
    listed = listing(context, one)
    assert listed.keys() == {b"out/f", encoded}
    assert listed[encoded].key == artifact_key(one.experiment_id, ODD)
    assert listed[b"out/f"].sha256 == hashlib.sha256(b"xxx").hexdigest()
    assert {each.state for each in listed.values()} == {ArtifactState.STORED}


def test_what_still_grows_elsewhere_is_brought_up_to_date_under_its_id(context, store):
    _, one = recorded(store)
    for path in (b"same", b"grows"):
        put(store, one, path, b"old")
    rebuild(context, store.uri)
    before, change = listing(context, one), context.catalog.last_change()
    [unchanged] = rebuild(context, store.uri).runs
    assert (unchanged.restored, unchanged.unchanged) == (0, 1)
    assert context.catalog.last_change() == change
    put(store, one, b"grows", b"new")  # of the same size
    put(store, one, b"more", b"more")
    [result] = rebuild(context, store.uri).runs
    assert (result.restored, result.unchanged) == (1, 0)
    after = listing(context, one)
    assert after[b"same"] == before[b"same"]
    assert after[b"grows"].artifact_id == before[b"grows"].artifact_id
    assert after[b"grows"].sha256 == hashlib.sha256(b"new").hexdigest()
    assert context.catalog.experiment("a-exp0").bytes == 10


def test_one_that_was_stopped_before_it_had_begun(context, store):
    _, one = recorded(
        store, state=State.STOPPED, started_at=None, finished_at=9.5, outcome="terminated", reason="stopped"
    )
    rebuild(context, store.uri)
    assert context.catalog.experiment("a-exp0") == one


def test_a_cluster_is_added_by_its_name_unless_the_store_has_one(context, store, tmp_path):
    recorded(store)
    rebuild(context, store.uri)
    assert context.catalog.cluster("gpu") == Cluster(name="gpu", engine="local", store=store.uri.rstrip("/"))
    assert context.catalog.run("a").cluster == "gpu"
    recorded(store, "b")
    rebuild(context, f"file://{tmp_path}/x/../other")
    assert [each.name for each in context.catalog.clusters()] == ["gpu", "local"]
    second = LocalStore(str(tmp_path / "second"), create=True)
    recorded(second, "c")
    rebuild(context, second.uri)
    assert context.catalog.run("c").cluster == "gpu-2"
    recorded(context.store("local"), "d")
    rebuild(context, f"file://{context.home.store}")
    assert context.catalog.run("d").cluster == "local"


def test_what_the_catalog_knows_better_stays(context, store):
    """One whose files wait in the home, and one that is under way here."""
    for name, known in (
        (
            "waits",
            {"state": State.FAILED, "outcome": "sync", "reason": "kept in the home", "finished_at": 9.0},
        ),
        ("active", {"state": State.SYNCING}),
    ):
        run, one = recorded(store, name)
        put(store, one, b"f", b"x")
        context.catalog.create_run(run, [replace(one, **known)])
    before, change = list(context.catalog.unfinished()), context.catalog.last_change()
    results = rebuild(context, store.uri).runs
    assert [(each.run.name, each.unchanged) for each in results] == [("waits", 1), ("active", 1)]
    assert (list(context.catalog.unfinished()), context.catalog.last_change()) == (before, change)
    assert context.catalog.experiment("waits-exp0").outcome == "sync"


def test_what_is_being_deleted_does_not_come_back(context, store):
    run, one = recorded(store)
    other, _ = recorded(store, "b")
    context.catalog.create_run(run, [one])
    context.catalog.begin_delete([one.experiment_id])
    result = rebuild(context, store.uri)
    assert [each.run.run_id for each in result.runs] == [other.run_id]
    assert len(result.problems) == 1 and "is being deleted" in result.problems[0]


def test_a_store_that_goes_away_in_the_midst_ends_it(context, store):
    for name in ("a", "b"):
        recorded(store, name)

    def leave(text):
        if text.startswith("2 of 2"):
            os.rename(store.root, f"{store.root}-away")

    with pytest.raises(StoreUnavailable):
        rebuild(context, store.uri, leave)
    os.rename(f"{store.root}-away", store.root)
    assert sorted(each.unchanged for each in rebuild(context, store.uri).runs) == [0, 1]


def test_refusals(context, store):
    with pytest.raises(NotFound, match="has no experiments/"):
        rebuild(context, store.uri)
    with pytest.raises(UsageError, match="nonsense is no store"):
        rebuild(context, "nonsense")
    _, one = recorded(store)
    store.delete([experiment_key(one.experiment_id)])
    os.makedirs(f"{store.root}/experiments/{one.experiment_id}/artifacts")
    assert rebuild(context, store.uri).problems == [], "an empty folder is nothing"
    put(store, one, b"f", b"x")
    assert "it has no experiment.json" in rebuild(context, store.uri).problems[0]
    lock = take_lock(os.path.join(context.home.path, "rebuild.lock"))
    assert lock is not None
    with pytest.raises(Conflict, match="Another"):
        rebuild(context, store.uri)
    os.close(lock)
