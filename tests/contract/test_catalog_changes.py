"""What every catalog must do at changes, deletion and closing. See `test_catalog`."""

from __future__ import annotations

import pytest

from gridkeep.errors import CatalogError, Conflict
from gridkeep.model import (
    ArtifactState,
    State,
    new_ulid,
)
from tests.contract.catalog_worker import a_run, an_experiment, stored
from tests.contract.catalogs import again, found_run, submit, totals

# ---------------------------------------------------------------------------------------------------- changes


def test_every_change_takes_the_next_number(catalog):
    assert catalog.last_change() == 0 and catalog.changes(0) == []
    first, second = submit(catalog, "a", 2)
    assert catalog.changes(0) == [
        (1, "experiment", first.experiment_id),
        (2, "experiment", second.experiment_id),
    ]
    catalog.update_experiment(first.experiment_id, state=State.RUNNING)
    files = [stored(first.experiment_id, name, artifact_id=f"art_{name.decode()}") for name in (b"x", b"y")]
    catalog.record_artifacts(first.experiment_id, files)
    assert catalog.changes(0) == [
        (2, "experiment", second.experiment_id),
        (4, "artifact", "art_x"),
        (5, "artifact", "art_y"),
        (6, "experiment", first.experiment_id),  # its totals
    ], "only the newest change of each thing"
    catalog.record_artifacts(first.experiment_id, [files[0]])
    assert catalog.changes(6) == [(7, "artifact", "art_x"), (8, "experiment", first.experiment_id)]
    assert catalog.changes(8) == [] and catalog.last_change() == 8


def test_a_forgotten_artifact_is_told_by_its_experiment(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    catalog.record_artifacts(ulid, [stored(ulid, b"x", artifact_id="art_x")])
    last = catalog.last_change()
    catalog.record_artifacts(ulid, [], ["art_x"])
    assert catalog.changes(last) == [(last + 1, "experiment", ulid)]
    catalog.record_artifacts(ulid, [], ["art_x", "art_unknown"])
    catalog.record_artifacts(ulid, [])
    assert catalog.changes(last + 1) == [] and catalog.last_change() == last + 1


def test_changes_are_read_in_pages(catalog):
    experiments = submit(catalog, "a", 7)
    for each in experiments[::2]:
        catalog.record_artifacts(
            each.experiment_id, [stored(each.experiment_id, b"x"), stored(each.experiment_id, b"y")]
        )
    catalog.begin_delete([experiments[1].experiment_id])
    everything = catalog.changes(0)
    assert {kind for _, kind, _ in everything} == {"experiment", "artifact", "experiment_deleted"}
    seen: list[tuple[int, str, str]] = []
    while page := catalog.changes(seen[-1][0] if seen else 0, limit=4):
        assert len(page) <= 4
        seen += page
    assert seen == everything == sorted(everything)
    assert seen[-1][0] == catalog.last_change()


# --------------------------------------------------------------------------------------------------- deletion


def test_what_is_being_deleted_is_nowhere_and_its_name_is_free(catalog):
    [experiment] = submit(catalog, "a")
    ulid = experiment.experiment_id
    catalog.record_artifacts(ulid, [stored(ulid, b"x", artifact_id="art_x")])
    run = found_run(catalog)
    last = catalog.last_change()
    catalog.begin_delete([ulid])

    assert catalog.run("a") is None and catalog.run(run.run_id) is None
    assert catalog.run_id("a") is None and catalog.run_id(run.run_id) is None
    assert catalog.runs() == [] == catalog.runs(active=True) == catalog.runs(active=False)
    assert catalog.count_runs(active=True) == 0 == catalog.count_runs(active=False)
    assert catalog.experiment("a-exp0") is None and catalog.experiment(ulid) is None
    assert catalog.experiments(run.run_id) == [] == catalog.unfinished()
    assert not catalog.has_unfinished()
    assert catalog.artifacts(ulid) == [] == catalog.artifacts(ulid, states=[ArtifactState.STORED], under=b"x")
    assert catalog.artifact("art_x") is None and catalog.artifact_at(ulid, b"x") is None
    gone = [(last + 1, "experiment_deleted", ulid), (last + 2, "run_deleted", run.run_id)]
    assert catalog.changes(0) == gone

    catalog.record_artifacts(ulid, [stored(ulid, b"y")], ["art_x"])
    assert not catalog.update_experiment(ulid, state=State.FAILED)
    assert not catalog.request_stop(ulid, "stopped by its owner")
    catalog.begin_delete([ulid])
    assert catalog.changes(0) == gone, "what is hidden takes nothing"
    assert [(each.name, each.artifacts, each.state) for each in catalog.deleting()] == [
        ("a-exp0", 1, "queued")
    ]

    [reborn] = submit(catalog, "a")
    assert catalog.experiment("a-exp0") == reborn
    catalog.finish_delete(ulid)
    catalog.finish_delete(ulid)
    assert catalog.deleting() == []
    assert catalog.experiment("a-exp0") == reborn and found_run(catalog).run_id == reborn.run_id
    assert catalog.changes(0)[:2] == gone
    assert not catalog.update_experiment(ulid, state=State.FAILED)


def test_a_run_stays_until_its_last_experiment_goes(catalog):
    first, second, third = submit(catalog, "a", 3)
    for each in (first, second, third):
        catalog.record_artifacts(each.experiment_id, [stored(each.experiment_id, b"x")])
        catalog.update_experiment(each.experiment_id, state=State.COMPLETED)
    catalog.begin_delete([second.experiment_id])
    run = found_run(catalog)
    assert (run.experiments, run.artifacts, run.state) == (2, 2, State.COMPLETED)
    assert [each.index for each in catalog.experiments(run.run_id)] == [0, 2]
    catalog.finish_delete(second.experiment_id)
    assert found_run(catalog).experiments == 2

    catalog.begin_delete([third.experiment_id, first.experiment_id])
    assert catalog.run("a") is None
    assert [each.index for each in catalog.deleting()] == [0, 2]
    catalog.finish_delete(first.experiment_id)
    assert [each.name for each in catalog.deleting()] == ["a-exp2"], "its run is still known"
    catalog.finish_delete(third.experiment_id)
    assert catalog.deleting() == []
    kinds = [kind for _, kind, _ in catalog.changes(0)]
    assert kinds == ["experiment_deleted"] * 3 + ["run_deleted"]


def test_a_deletion_goes_on_after_a_crash(catalog_factory):
    catalog = catalog_factory.open()
    [experiment] = submit(catalog, "a")
    catalog.begin_delete([experiment.experiment_id])
    catalog.close()
    catalog = catalog_factory.open()
    assert [each.experiment_id for each in catalog.deleting()] == [experiment.experiment_id]
    catalog.finish_delete(experiment.experiment_id)
    assert catalog.deleting() == []
    catalog.close()


def test_finishing_removes_everything_of_it_and_nothing_else(catalog):
    one, other = submit(catalog, "a", 2)
    for each in (one, other):
        files = [stored(each.experiment_id, f"{i}".encode()) for i in range(6_000)]
        catalog.record_artifacts(each.experiment_id, files)
    catalog.finish_delete(one.experiment_id)  # without `begin_delete`: it hides by itself
    assert catalog.experiment("a-exp0") is None
    assert totals(again(catalog, other)) == (6_000, 6_000, 0, 0)
    assert len(catalog.artifacts(other.experiment_id)) == 6_000
    assert sum(kind == "artifact" for _, kind, _ in catalog.changes(0, limit=20_000)) == 6_000


def test_what_was_deleted_can_come_back(catalog):
    run = a_run("a")
    experiment = an_experiment(run)
    catalog.create_run(run, [experiment])
    catalog.begin_delete([experiment.experiment_id])
    with pytest.raises(Conflict):
        catalog.create_run(run, [experiment])  # its records are still there
    catalog.finish_delete(experiment.experiment_id)
    catalog.create_run(run, [experiment])
    assert catalog.experiment("a-exp0") == experiment
    assert catalog.changes(0) == [(catalog.last_change(), "experiment", experiment.experiment_id)]


def test_unknown_experiments_are_deleted_in_silence(catalog):
    catalog.begin_delete([])
    catalog.begin_delete([new_ulid()])
    catalog.finish_delete(new_ulid())
    assert catalog.changes(0) == [] == catalog.deleting()


# ------------------------------------------------------------------------------------------------------ close


def test_a_closed_catalog_says_so_in_its_own_words(catalog_factory):
    catalog = catalog_factory.open()
    submit(catalog)
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogError):
        catalog.has_unfinished()
    with pytest.raises(CatalogError):
        submit(catalog, "b")
    reopened = catalog_factory.open()
    assert [run.name for run in reopened.runs()] == ["a"]
    reopened.close()
