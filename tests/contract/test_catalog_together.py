"""What a catalog promises when several processes and threads use it at once, and when they are killed.

`test_catalog` has the rest of the contract.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from gridkeep.catalog.base import Catalog
from gridkeep.model import ArtifactState, Experiment, State
from tests.contract.catalog_worker import stored
from tests.contract.catalogs import CatalogFactory, again, done, go, submit
from tests.support import wait_for

BATCH = 40


def check_totals(catalog: Catalog, experiment_id: str) -> list[bytes]:
    """Holds the totals against the rows; the paths that are there."""
    experiment = catalog.experiment(experiment_id)
    assert experiment is not None
    rows = catalog.artifacts(experiment_id)
    assert (experiment.artifacts, experiment.bytes) == (len(rows), sum(each.size or 0 for each in rows))
    return [each.path or b"" for each in rows]


def test_eight_processes_write_one_experiment_and_lose_nothing(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    workers = [catalog_factory.start("record", ulid, f"w{i}", 15, BATCH) for i in range(8)]
    go(*workers)
    assert [len(done(worker)) for worker in workers] == [15] * 8
    assert len(check_totals(catalog, ulid)) == 8 * 15 * BATCH
    catalog.close()


def test_a_reader_of_changes_misses_none_while_others_commit(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    experiments = submit(catalog, "a", 4)
    workers = [
        catalog_factory.start("record", each.experiment_id, f"w{each.index}", 20, BATCH)
        for each in experiments
    ]
    go(*workers)
    heard: dict[str, int] = {}
    last, meanwhile = 0, 0
    while (alive := any(worker.poll() is None for worker in workers)) or catalog.last_change() > last:
        for number, _, thing in catalog.changes(last, limit=97):
            assert number > last, "in order"
            last = number
            heard[thing] = number
        meanwhile += alive
    assert meanwhile > 3
    truth = {thing: number for number, _, thing in catalog.changes(0, limit=1_000_000)}
    assert heard == truth, "the newest change of everything was heard"
    assert len(truth) == 4 + 4 * 20 * BATCH
    assert all(len(done(worker)) == 20 for worker in workers)
    catalog.close()


def test_a_name_is_given_once_however_many_ask(catalog_factory: CatalogFactory) -> None:
    names = [f"n{i}" for i in range(20)]
    workers = [catalog_factory.start("create", ",".join(names)) for _ in range(6)]
    go(*workers)
    made = [name for worker in workers for name in done(worker)]
    assert sorted(made) == sorted(names)
    catalog = catalog_factory.open()
    assert sorted(run.name for run in catalog.runs()) == sorted(names)
    assert len(catalog.unfinished()) == len(names), "nothing of those that came second"
    catalog.close()


def test_an_experiment_is_started_once_however_many_try(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    experiments = submit(catalog, "a", 60)
    workers = [catalog_factory.start("take") for _ in range(4)]
    go(*workers)
    taken = [ulid for worker in workers for ulid in done(worker)]
    assert sorted(taken) == sorted(each.experiment_id for each in experiments)
    catalog.close()


def test_killed_writers_leave_whole_batches_and_true_totals(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    chance = random.Random(7)
    for round_ in range(4):
        workers = [catalog_factory.start("record", ulid, f"r{round_}w{i}", 100_000, BATCH) for i in range(3)]
        go(*workers)
        # Three writers and four batches more: one has come back from its first call.
        enough = again(catalog, experiment).artifacts + 4 * BATCH
        wait_for(lambda: again(catalog, experiment).artifacts >= enough, what="some batches")  # noqa: B023
        time.sleep(chance.random() * 0.2)
        for worker in workers:
            worker.kill()
        reported = [line for worker in workers for line in done(worker, killed=True)]
        assert reported
        batches: dict[bytes, int] = {}
        for path in check_totals(catalog, ulid):
            batch = path.rpartition(b"/")[0]
            batches[batch] = batches.get(batch, 0) + 1
        assert set(batches.values()) == {BATCH}, "half a batch was left"
        assert {line.encode() for line in reported} <= batches.keys(), "a call that had returned was lost"
    catalog.close()


def test_a_killed_deletion_can_be_finished(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    experiments = submit(catalog, "a", 2)
    for each in experiments:
        files = [stored(each.experiment_id, f"{i}".encode()) for i in range(20_000)]
        catalog.record_artifacts(each.experiment_id, files)
    worker = catalog_factory.start("delete", *(each.experiment_id for each in experiments))
    go(worker)
    wait_for(lambda: catalog.run("a") is None, what="the begin of the deletion")
    worker.kill()
    worker.wait()
    assert not catalog.has_unfinished()
    for each in experiments:
        assert catalog.artifacts(each.experiment_id, limit=1) == []
        catalog.finish_delete(each.experiment_id)
    assert catalog.deleting() == []
    submit(catalog, "a")
    catalog.close()


def test_threads_share_one_object(catalog_factory: CatalogFactory) -> None:
    catalog = catalog_factory.open()
    experiments = submit(catalog, "a", 4)
    failures: list[BaseException] = []

    def guarded(work: Callable[[Experiment], None], experiment: Experiment) -> threading.Thread:
        def run() -> None:
            try:
                work(experiment)
            except BaseException as error:
                failures.append(error)

        return threading.Thread(target=run)

    def write(experiment: Experiment) -> None:
        ulid = experiment.experiment_id
        for batch in range(20):
            catalog.record_artifacts(ulid, [stored(ulid, f"{batch}/{i}".encode()) for i in range(10)])
            catalog.update_experiment(ulid, state=State.RUNNING, attempt=batch)

    def read(experiment: Experiment) -> None:
        for _ in range(40):
            run = catalog.run("a")
            assert run is not None and run.experiments == 4 and run.artifacts % 10 == 0
            assert len(catalog.artifacts(experiment.experiment_id, states=[ArtifactState.STORED])) % 10 == 0

    threads = [guarded(work, each) for each in experiments for work in (write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for each in experiments:
        assert len(check_totals(catalog, each.experiment_id)) == 200
        found = catalog.experiment(each.experiment_id)
        assert found is not None and (found.state, found.attempt) == (State.RUNNING, 19)
    catalog.close()
