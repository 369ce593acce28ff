import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gridkeep.errors import Conflict, StoreUnavailable
from gridkeep.files import take_lock
from gridkeep.model import Cluster, Experiment
from gridkeep.runs import delete as module
from gridkeep.runs.context import open_context
from gridkeep.runs.delete import Erased, delete, finish_deletions
from gridkeep.runs.dispatch import deletions, has_work
from gridkeep.runs.pick import pick
from gridkeep.runs.rebuild import rebuild
from gridkeep.supervisor.record import keep_submission
from tests.support import wait_for
from tests.unit.made import keep, make_run, move_log_to_store, print_to_journal, quiet_home


@pytest.fixture
def context(home):
    with quiet_home(home) as context:
        yield context


def furnish(context, run, experiments, files=3):
    """Everything that can be of an experiment and of its run."""
    for one in experiments:
        for number in range(files):
            keep(context, one, b"out/%d.bin" % number, b"x" * 100)
        print_to_journal(context, one, b"printed")
        move_log_to_store(context, one)
        print_to_journal(context, one, b"left behind")
    for ulid in [run.ulid, *(one.experiment_id for one in experiments)]:
        for folder in (context.home.work(ulid), context.home.journal(ulid)):
            Path(folder, "inner").mkdir(parents=True)
            Path(folder, "inner", "file").write_text("x")


def traces(context, ulid):
    """All paths in the home that have to do with it."""
    return [path for path in Path(context.home.path).rglob("*") if ulid in str(path)]


def objects(context):
    return sorted(item.key for item in context.store("local").list("experiments/"))


def test_everything_of_a_run_goes_and_nothing_of_another(context):
    run, experiments = make_run(context, "my-run", ["completed", "failed"])
    other, others = make_run(context, "other", ["completed"])
    furnish(context, run, experiments)
    furnish(context, other, others)
    kept = [key for key in objects(context) if others[0].experiment_id in key]
    told = []
    erased = delete(context, pick(context, ["my-run"]), progress=lambda so_far: told.append(so_far.objects))
    assert (erased.experiments, erased.objects, erased.bytes) == (2, 8, 2 * (300 + len("printed")))
    assert told[-1] == 8
    for ulid in [run.ulid, *(one.experiment_id for one in experiments)]:
        assert traces(context, ulid) == []
    assert objects(context) == kept
    assert len(traces(context, others[0].experiment_id)) > 4
    assert len(traces(context, other.ulid)) > 2
    assert context.catalog.run("my-run") is None
    assert context.catalog.deleting() == []


def test_a_run_goes_with_its_last_experiment(context):
    run, experiments = make_run(context, "my-run", ["completed", "completed"])
    furnish(context, run, experiments)
    delete(context, pick(context, ["my-run-exp1"]))
    assert traces(context, experiments[1].experiment_id) == []
    assert traces(context, run.ulid)
    assert context.catalog.run("my-run").experiments == 1
    delete(context, pick(context, ["my-run-exp0"]))
    assert traces(context, run.ulid) == []
    assert context.catalog.run("my-run") is None


def test_active_ones_are_refused_unless_forced(context):
    run, experiments = make_run(context, "my-run", ["queued", "completed"])
    furnish(context, run, experiments)
    with pytest.raises(Conflict) as refusal:
        delete(context, pick(context, ["my-run"]))
    assert "my-run-exp0 is still queued" in refusal.value.message
    assert context.catalog.experiment("my-run-exp0").state == "queued"
    delete(context, pick(context, ["my-run"]), force=True)
    assert traces(context, run.ulid) == []


def test_what_was_cut_off_is_finished_by_the_next(context, home):
    """A process that deletes is killed at whatever moment; the next one finishes, and the name is free all the while."""
    run, experiments = make_run(context, "my-run", ["completed"] * 4)
    furnish(context, run, experiments, files=300)
    program = (
        "import os, sys\n"
        "from gridkeep.runs.context import open_context\n"
        "from gridkeep.runs import delete\n"
        "from gridkeep.runs.pick import pick\n"
        "delete._BATCH = 10\n"
        "with open_context(start_engine=False) as context:\n"
        "    delete.delete(context, pick(context, ['my-run']), progress=lambda e: print(e.objects, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "GRIDKEEP_HOME": str(home)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 400:  # in the midst of the second
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert context.catalog.run("my-run") is None
    assert context.catalog.deleting()
    again, _ = make_run(context, "my-run", ["completed"])
    erased = finish_deletions(context)
    assert erased.experiments == len(experiments) - 1
    assert objects(context) == []
    assert traces(context, run.ulid) == []
    assert context.catalog.run("my-run").run_id == again.run_id


def test_two_at_once_do_it_once(context, home):
    run, experiments = make_run(context, "my-run", ["completed"] * 3)
    furnish(context, run, experiments, files=50)
    picked, done = pick(context, ["my-run"]), []
    with open_context({"GRIDKEEP_HOME": str(home)}, start_engine=False) as second:
        threads = [
            threading.Thread(target=lambda each=each: done.append(delete(each, picked)))
            for each in (context, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(each.objects for each in done) == [0, 3 * 51]
    assert objects(context) == []
    assert traces(context, run.ulid) == []


def test_nobody_else_does_what_a_deletion_is_about_to_do(context):
    run, experiments = make_run(context, "my-run", ["completed"])
    furnish(context, run, experiments)
    context.catalog.begin_delete([experiments[0].experiment_id])
    lock = take_lock(os.path.join(context.home.path, "delete.lock"))
    assert lock is not None
    assert finish_deletions(context) == Erased()
    os.close(lock)
    assert finish_deletions(context).objects == 4


def test_a_supervisor_that_lives_is_let_finish(context):
    """It may still put objects: these go too, once it has ended."""
    run, [one] = make_run(context, "my-run", ["syncing"])
    furnish(context, run, [one])
    lock = take_lock(os.path.join(context.home.journal(one.experiment_id), "supervisor.lock"))
    told: list[list[Experiment]] = []
    done: list[Erased] = []
    deleter = threading.Thread(
        target=lambda: done.append(
            delete(context, pick(context, ["my-run"]), force=True, waiting=told.append)
        )
    )
    deleter.start()
    wait_for(lambda: told)
    assert finish_deletions(context) == Erased()
    assert context.catalog.run("my-run") is None
    keep(context, one, b"late.bin", b"x" * 100)
    assert lock is not None
    os.close(lock)
    deleter.join(30)
    assert done[0].objects == 5
    assert objects(context) == []
    assert traces(context, one.experiment_id) == []


def test_a_store_that_is_away_loses_nothing(context):
    run, experiments = make_run(context, "my-run", ["completed"])
    furnish(context, run, experiments)
    os.rename(context.home.store, f"{context.home.store}-away")
    try:
        with pytest.raises(StoreUnavailable):
            delete(context, pick(context, ["my-run"]))
    finally:
        os.rename(f"{context.home.store}-away", context.home.store)
    assert len(context.catalog.deleting()) == 1
    assert finish_deletions(context).objects == 4
    assert context.catalog.deleting() == []


def test_another_store_that_is_away_holds_nothing_up(context, tmp_path):
    """Only that of the run's own cluster is asked, also when the run's record is hidden with its last experiment."""
    context.catalog.put_cluster(Cluster(name="a-usb-disk", engine="local", store=f"file://{tmp_path}/away"))
    run, experiments = make_run(context, "my-run", ["completed", "completed"])
    furnish(context, run, experiments)
    erased = delete(context, pick(context, ["my-run"]))
    assert erased.experiments == 2
    assert objects(context) == []
    assert context.catalog.deleting() == []


def test_links_in_a_working_copy_lead_nowhere(context, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("mine")
    _run, [one] = make_run(context, "my-run", ["completed"])
    work = Path(context.home.work(one.experiment_id))
    work.mkdir(parents=True)
    (work / "linked").symlink_to(precious)
    closed = work / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0)
    delete(context, pick(context, ["my-run"]))
    assert (precious / "data").read_text() == "mine"
    assert not work.exists()


@pytest.mark.parametrize(
    "odd", ["", "..", "../../x", "01g40mbzw89j19p2000000000", "01G40MBZW89J19P20000000000/", "x" * 26 + "\n"]
)
def test_nothing_but_a_ulid_is_a_prefix(context, odd):
    from dataclasses import replace

    _, [one] = make_run(context, "my-run", ["completed"])
    with pytest.raises(Conflict):
        module._erase(context, replace(one, experiment_id=odd), module.Erased(), lambda _: None)


# --------------------------------------------------------------------- the catalog is lost while a deletion waits


@pytest.fixture
def begun(home, tmp_path):
    """A run whose deletion waits for its store, and a copy of the catalog from before it; the context is closed."""
    with quiet_home(home) as context:
        run, experiments = make_run(context, "my-run", ["completed", "completed"])
        furnish(context, run, experiments)
        keep_submission(context.home, f"file://{context.home.store}", run, experiments)
        context.catalog.close()
        shutil.copy(context.home.catalog, tmp_path / "older.db")
    with quiet_home(home) as context:
        os.rename(context.home.store, tmp_path / "away")
        with pytest.raises(StoreUnavailable):
            delete(context, pick(context, ["my-run"]))
    for path in Path(home).glob("catalog.db*"):
        path.unlink()
    os.rename(tmp_path / "away", context.home.store)
    return run, experiments


def all_gone(context, run, experiments):
    left = [traces(context, ulid) for ulid in (run.ulid, *(one.experiment_id for one in experiments))]
    return objects(context) == [] and not any(left) and not deletions(context.home, context.catalog)


def test_a_deletion_goes_on_although_the_catalog_was_lost(home, begun):
    with quiet_home(home) as context:
        assert has_work(context.home, context.catalog)
        assert finish_deletions(context).objects == 8
        assert all_gone(context, *begun)
        assert not has_work(context.home, context.catalog)


def test_a_rebuild_does_not_bring_back_what_is_being_deleted(home, begun):
    with quiet_home(home) as context:
        assert rebuild(context, f"file://{context.home.store}").runs == []
        assert context.catalog.run("my-run") is None
        assert finish_deletions(context).objects == 8
        assert all_gone(context, *begun)


def test_a_deletion_goes_on_with_an_older_catalog_that_does_not_know_of_it(home, tmp_path, begun):
    shutil.copy(tmp_path / "older.db", home / "catalog.db")
    with quiet_home(home) as context:
        assert context.catalog.run("my-run") is not None
        assert finish_deletions(context).experiments == 2
        assert context.catalog.run("my-run") is None
        assert all_gone(context, *begun)


def test_a_mark_that_was_cut_off_is_a_mark(home, begun):
    for path in (home / "deleting").iterdir():
        path.write_text('{"run_')
    with quiet_home(home) as context:
        assert finish_deletions(context).objects == 8
        assert objects(context) == []
        assert not deletions(context.home, context.catalog)


def test_what_is_no_id_marks_nothing(home, begun):
    for name in ("..evil", "u" * 26):
        (home / "deleting" / name).touch()
    with quiet_home(home) as context:
        assert finish_deletions(context).objects == 8
        assert objects(context) == []
