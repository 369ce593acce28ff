"""What every catalog must do when runs come back from a store: `restore` and `cluster_of` of `gridkeep.catalog.base`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridkeep.errors import Conflict
from gridkeep.model import State, new_ulid
from tests.contract.catalog_worker import a_run, an_experiment, stored
from tests.contract.catalogs import again, found_run, submit


def test_a_run_comes_back_as_it_was(catalog):
    run = replace(a_run("a"), cluster="there", parent=new_ulid(), created_at=1234567.890123)
    ended = replace(
        an_experiment(run, 3),
        state=State.FAILED,
        outcome="exit",
        reason="exit code 3",
        exit_code=3,
        attempt=2,
        params={"lr": 0.1},
        args=["--lr", "0.1"],
        command="train.py --lr 0.1",
        started_at=1.25,
        ended_at=2.5,
        finished_at=3.125,
        capture={"mode": "c", "lost": 0},
        manifest_sha256="0" * 64,
    )
    there = catalog.restore(run, [ended])
    assert there == catalog.run("a")
    assert replace(there, counts={}, reason=None, outcome=None, started_at=None, finished_at=None) == run
    assert catalog.experiments(run.run_id) == [ended]
    assert catalog.changes(0) == [(catalog.last_change(), "experiment", ended.experiment_id)]


def test_what_is_there_stays_and_nothing_changes(catalog):
    run = a_run("a")
    first, second = an_experiment(run, 0), an_experiment(run, 1)
    catalog.create_run(run, [first])
    catalog.update_experiment(first.experiment_id, state=State.RUNNING, started_at=5.0)
    catalog.record_artifacts(first.experiment_id, [stored(first.experiment_id, b"f")])
    before = again(catalog, first)
    catalog.restore(replace(run, name="b", cluster="other"), [replace(first, state=State.FAILED), second])
    assert again(catalog, first) == before
    assert again(catalog, second) == second
    assert (found_run(catalog).name, found_run(catalog).cluster) == ("a", "local")
    change = catalog.last_change()
    catalog.restore(run, [first, second])
    assert catalog.last_change() == change


def test_totals_come_with_the_artifacts(catalog):
    run = a_run("a")
    one = replace(an_experiment(run), artifacts=7, bytes=70, missing=3)
    catalog.restore(run, [one])
    assert (again(catalog, one).artifacts, again(catalog, one).missing) == (0, 0)
    catalog.record_artifacts(one.experiment_id, [stored(one.experiment_id, b"f", size=5)])
    assert (again(catalog, one).artifacts, again(catalog, one).bytes) == (1, 5)


def test_a_name_that_is_taken_gives_way(catalog):
    submit(catalog, "a")
    run = a_run("a")
    one = an_experiment(run)
    assert catalog.restore(run, [one]).name == "a-2"
    assert again(catalog, one).name == "a-2-exp0"
    two = an_experiment(run, 1)
    assert catalog.restore(run, [one, two]).name == "a-2", "by the same name again"
    assert again(catalog, two).name == "a-2-exp1"


def test_what_was_deleted_comes_back_without_its_tombstone(catalog):
    run = a_run("a")
    one = an_experiment(run)
    catalog.create_run(run, [one])
    catalog.finish_delete(one.experiment_id)
    assert [kind for _, kind, _ in catalog.changes(0)] == ["experiment_deleted", "run_deleted"]
    catalog.restore(run, [one])
    assert [kind for _, kind, _ in catalog.changes(0)] == ["experiment"]


def test_what_is_being_deleted_is_refused_and_nothing_of_it_added(catalog):
    run = a_run("a")
    one, two = an_experiment(run, 0), an_experiment(run, 1)
    catalog.create_run(run, [one, two])
    catalog.begin_delete([one.experiment_id])
    change = catalog.last_change()
    three = an_experiment(run, 2)
    with pytest.raises(Conflict, match="being deleted"):
        catalog.restore(run, [three, one])
    assert catalog.experiment(three.experiment_id) is None
    catalog.begin_delete([two.experiment_id])
    with pytest.raises(Conflict, match="being deleted"):
        catalog.restore(run, [three])
    assert catalog.last_change() == change + 2
    assert catalog.run("a") is None


def test_an_index_that_another_experiment_has_is_refused(catalog):
    run = a_run("a")
    one = an_experiment(run)
    catalog.create_run(run, [one])
    with pytest.raises(Conflict):
        catalog.restore(run, [an_experiment(run)])
    assert catalog.experiments(run.run_id) == [one]


def test_the_cluster_of_an_experiment_is_known_until_it_is_gone(catalog):
    run = replace(a_run("a"), cluster="there")
    one = an_experiment(run)
    catalog.create_run(run, [one])
    assert catalog.cluster_of(one.experiment_id) == "there"
    catalog.begin_delete([one.experiment_id])
    assert catalog.cluster_of(one.experiment_id) == "there"
    catalog.finish_delete(one.experiment_id)
    assert catalog.cluster_of(one.experiment_id) is None
    assert catalog.cluster_of(new_ulid()) is None
