"""What goes from the home, and above all what does not: whatever the catalog does not know, or was not proven complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridkeep.files import take_lock
from gridkeep.model import new_ulid
from gridkeep.runs.delete import delete
from gridkeep.runs.pick import pick
from gridkeep.supervisor.cleanup import clean, clean_abandoned, clean_run_of, leftovers, submitting
from gridkeep.supervisor.record import keep_submission
from tests.unit.made import finish, make_run, quiet_home

PROOF = "0" * 64


@pytest.fixture
def context(home):
    with quiet_home(home) as context:
        yield context


def furnish(context, *ulids):
    for ulid in ulids:
        for folder in (context.home.work(ulid), context.home.journal(ulid)):
            Path(folder, "inner").mkdir(parents=True)
            Path(folder, "inner/file").write_text("x")


def there(context):
    return {name for part in ("work", "journal") for name in os.listdir(Path(context.home.path, part))}


def test_what_the_catalog_does_not_know_stays(context):
    ulids = {new_ulid() for _ in range(3)}
    furnish(context, *ulids)
    clean_abandoned(context.home, context.catalog)
    assert there(context) == ulids
    assert leftovers(context.home, context.catalog) == ulids


def test_only_what_was_proven_complete_goes(context):
    run, (proven, unproven) = make_run(context, "r", ["running", "running"])
    furnish(context, run.ulid, proven.experiment_id, unproven.experiment_id)
    finish(context, proven, manifest_sha256=PROOF)
    finish(context, unproven, "failed", outcome="lost")
    for name in ("r-exp0", "r-exp1"):
        clean(context.home, context.catalog, context.catalog.experiment(name))
    assert there(context) == {run.ulid, unproven.experiment_id}
    context.catalog.update_experiment(unproven.experiment_id, manifest_sha256=PROOF)
    clean(context.home, context.catalog, context.catalog.experiment("r-exp1"))
    assert there(context) == set()


def test_what_a_run_shared_goes_although_somebody_was_killed_before_that(context):
    run, (one,) = make_run(context, "r", ["running"])
    furnish(context, run.ulid)
    clean_run_of(context.home, context.catalog, run.ulid)
    assert there(context) == {run.ulid}, "it is not over"
    finish(context, one, manifest_sha256=PROOF)
    clean_run_of(context.home, context.catalog, run.ulid)
    assert there(context) == set()


def test_what_never_began_goes_without_a_proof(context):
    run, (queued,) = make_run(context, "r", ["queued"])
    furnish(context, run.ulid)
    context.catalog.request_stop(queued.experiment_id, "stopped")
    clean(context.home, context.catalog, context.catalog.experiment("r-exp0"))
    assert there(context) == set()


def test_what_began_stays_though_an_older_catalog_has_it_as_queued(context):
    run, (queued,) = make_run(context, "r", ["queued"])
    furnish(context, run.ulid, queued.experiment_id)
    Path(context.home.journal(queued.experiment_id), "capture-1").mkdir()
    Path(context.home.journal(queued.experiment_id), "capture-1/started.json").write_text("{}")
    context.catalog.request_stop(queued.experiment_id, "stopped")
    clean(context.home, context.catalog, context.catalog.experiment("r-exp0"))
    assert there(context) == {run.ulid, queued.experiment_id}


def test_what_a_run_shares_stays_for_those_that_the_catalog_does_not_know(context):
    run, experiments = make_run(context, "r", ["completed", "completed"], manifest_sha256=PROOF)
    furnish(context, run.ulid, *(each.experiment_id for each in experiments))
    keep_submission(context.home, "file:///s", run, experiments)
    context.catalog.finish_delete(experiments[1].experiment_id)  # the catalog forgets it
    clean(context.home, context.catalog, context.catalog.experiment("r-exp0"))
    assert there(context) == {run.ulid, experiments[1].experiment_id}
    delete(context, pick(context, ["r"]))
    assert there(context) == {run.ulid, experiments[1].experiment_id}


def test_a_submission_that_was_killed_before_it_was_marked(context):
    run, (one,) = make_run(context, "r", ["queued"])
    cut_off, empty = new_ulid(), new_ulid()
    for ulid in (run.ulid, one.experiment_id, cut_off, empty):
        os.mkdir(context.home.journal(ulid))
    Path(context.home.journal(cut_off), "submitting.123").touch()
    clean_abandoned(context.home, context.catalog)
    assert there(context) == {run.ulid, one.experiment_id}


def test_a_supervisor_that_comes_when_all_was_deleted_leaves_no_trace(context):
    ulid, killed = new_ulid(), new_ulid()
    words = [sys.executable, "-m", "gridkeep.supervisor", context.home.path, ulid]
    assert subprocess.run(words).returncode == 0
    assert there(context) == set()
    os.mkdir(context.home.journal(killed))
    lock = take_lock(context.home.supervisor_lock(killed))
    assert lock is not None
    clean_abandoned(context.home, context.catalog)
    assert there(context) == {killed}, "it is still at work"
    os.close(lock)
    clean_abandoned(context.home, context.catalog)
    assert there(context) == set()


@pytest.mark.parametrize("moment", ["in the midst", "recorded"])
def test_a_submission_that_was_killed(context, home, moment):
    """Half-way nothing of it stays; once the catalog has it, all of it does, also when the catalog is lost later."""
    run, _ = make_run(context, "r", ["queued"])
    ulid = run.ulid if moment == "recorded" else new_ulid()
    program = (
        "import os, sys\n"
        "from gridkeep.settings import Home\n"
        "from gridkeep.supervisor.cleanup import submitting\n"
        "home, ulid = Home(sys.argv[1]), sys.argv[2]\n"
        "with submitting(home, ulid):\n"
        "    os.mkdir(home.work(ulid) + '.partial'); print('in', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, home, ulid], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    clean_abandoned(context.home, context.catalog)
    assert there(context) == {ulid, f"{ulid}.partial"}, "it is still at work"
    assert leftovers(context.home, context.catalog) == set()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    clean_abandoned(context.home, context.catalog)
    if moment == "recorded":
        context.catalog.finish_delete(
            context.catalog.experiment("r-exp0").experiment_id
        )  # the catalog forgets it
        clean_abandoned(context.home, context.catalog)
        assert ulid in there(context)
    else:
        assert there(context) == set()


def test_a_mark_that_was_left_on_a_run_that_has_begun_harms_nothing(context):
    run, experiments = make_run(context, "r", ["running"])
    furnish(context, run.ulid, experiments[0].experiment_id)
    keep_submission(context.home, "file:///s", run, experiments)
    Path(context.home.journal(run.ulid), "submitting").touch()
    context.catalog.finish_delete(experiments[0].experiment_id)  # the catalog forgets it
    for _ in range(2):
        clean_abandoned(context.home, context.catalog)
        assert there(context) == {run.ulid, experiments[0].experiment_id}


def test_the_mark_goes_with_the_block_and_not_with_an_error(context):
    ulid, other = new_ulid(), new_ulid()
    with submitting(context.home, ulid):
        Path(context.home.journal(ulid), "environ.json").write_text("{}")
    assert os.listdir(context.home.journal(ulid)) == ["environ.json"]
    with pytest.raises(RuntimeError), submitting(context.home, other):
        raise RuntimeError
    clean_abandoned(context.home, context.catalog)
    assert there(context) == {ulid}


def test_leftovers_are_experiments_of_runs_that_are_unknown(context):
    run, experiments = make_run(context, "r", ["queued", "queued", "running"])
    furnish(context, run.ulid, experiments[2].experiment_id)
    keep_submission(context.home, "file:///s", run, experiments)
    Path(context.home.journal(run.ulid), "environ.json").write_text("{}")
    assert leftovers(context.home, context.catalog) == set()
    context.catalog.begin_delete([each.experiment_id for each in experiments])
    assert leftovers(context.home, context.catalog) == set(), "being deleted"
    for each in experiments:
        context.catalog.finish_delete(each.experiment_id)
    assert leftovers(context.home, context.catalog) == {each.experiment_id for each in experiments}
