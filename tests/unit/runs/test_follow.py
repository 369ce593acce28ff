import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from gridkeep.errors import NotFound
from gridkeep.model import Artifact, ArtifactState, State, new_ulid
from gridkeep.runs.follow import follow
from tests.support import wait_for
from tests.unit.made import finish, keep, make_run, move_log_to_store, print_to_journal, quiet_home


@pytest.fixture
def context(home):
    with quiet_home(home) as context:
        yield context


class Following:
    """`follow` in a thread, and what it has written so far."""

    def __init__(self, context, name):
        self.out, self._err, self.code = io.BytesIO(), io.StringIO(), None
        self._thread = threading.Thread(target=self._follow, args=(context, name))
        self._thread.start()

    def _follow(self, context, name):
        self.code = follow(context, name, self.out, self._err)

    def ended(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.code

    @property
    def err(self):
        return self._err.getvalue().splitlines()


def test_one_experiment_s_output_comes_unchanged_while_it_runs(context):
    _, [one] = make_run(context, "my-run", ["running"])
    following = Following(context, "my-run")
    print_to_journal(context, one, b"half a li")
    wait_for(lambda: following.out.getvalue() == b"half a li")
    print_to_journal(context, one, b"ne\n\xff\r50 %\r100 %")
    keep(context, one, b"a", b"x" * 1500)
    move_log_to_store(context, one)
    finish(context, one)
    assert following.ended() == 0
    assert following.out.getvalue() == b"half a line\n\xff\r50 %\r100 %\n"
    assert following.err == [
        *("my-run completed: 1 of 1 experiment completed in 0d-00:03:15, 1 file, 1.5 kB",),
    ]


def test_several_experiments_come_in_whole_lines_with_a_prefix(context):
    _, [first, second] = make_run(context, "my-run", ["running", "queued"])
    following = Following(context, "my-run")
    print_to_journal(context, first, b"one\ntw")
    wait_for(lambda: following.out.getvalue() == "exp0 │ one\n".encode())
    context.catalog.update_experiment(second.experiment_id, state=State.RUNNING, started_at=time.time())
    print_to_journal(context, second, b"other\n\n")
    wait_for(lambda: b"other" in following.out.getvalue())
    print_to_journal(context, first, b"o\nthree")
    for one, state in [(first, "completed"), (second, "failed")]:
        move_log_to_store(context, one)
        finish(context, one, state, reason="exit code 3" if state == "failed" else None)
    assert following.ended() == 1
    lines = following.out.getvalue().decode().splitlines()
    assert [line for line in lines if line.startswith("exp0")] == ["exp0 │ one", "exp0 │ two", "exp0 │ three"]
    assert [line for line in lines if line.startswith("exp1")] == ["exp1 │ other", "exp1 │ "]
    assert following.err[-2:] == [
        "my-run-exp1 failed: exit code 3; see `grid logs my-run-exp1`",
        following.err[-1],
    ]
    assert following.err[-1].startswith("my-run failed: 1 of 2 experiments completed in ")
    assert sorted(following.err[:2]) == [
        "my-run-exp0 completed (0 files, 0 B)",
        "my-run-exp1 failed (0 files, 0 B)",
    ]


def test_what_ended_before_is_shown_too(context):
    _, [done, unstarted] = make_run(context, "my-run", ["running", "queued"])
    print_to_journal(context, done, b"quick\n")
    move_log_to_store(context, done)
    finish(context, done)
    context.catalog.request_stop(unstarted.experiment_id, "stopped by its owner")
    following = Following(context, "my-run")
    assert following.ended() == 1
    assert following.out.getvalue() == "exp0 │ quick\n".encode()
    assert "my-run-exp1 stopped: stopped by its owner; see `grid logs my-run-exp1`" in following.err


def test_what_it_waits_for_and_what_is_missing_is_said(context):
    _, [one] = make_run(context, "my-run", ["syncing"])
    following = Following(context, "my-run")
    context.catalog.update_experiment(one.experiment_id, waiting_for="The store is full.")
    wait_for(lambda: following.err == ["my-run-exp0 is waiting: The store is full."])
    lost = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=one.experiment_id,
        path=None,
        state=ArtifactState.MISSING,
        reason="lost",
    )
    context.catalog.record_artifacts(one.experiment_id, [lost])
    finish(context, one)
    assert following.ended() == 0
    assert following.err[1] == "1 file missing; `grid artifacts my-run --json` names them"


def test_a_line_without_end_is_shown_in_pieces(context):
    _, [one, _] = make_run(context, "my-run", ["running", "stopped"])
    print_to_journal(context, one, b"x" * 200_000)
    following = Following(context, "my-run")
    wait_for(lambda: following.out.getvalue())
    finish(context, one)
    assert following.ended() == 1
    assert following.out.getvalue().replace("exp0 │ ".encode(), b"").replace(b"\n", b"") == b"x" * 200_000


def test_unknown_and_deleted_runs(context):
    with pytest.raises(NotFound):
        follow(context, "nobody")
    _, [one] = make_run(context, "my-run", ["running"])
    print_to_journal(context, one, b"here\n")
    following = Following(context, "my-run")
    wait_for(following.out.getvalue)
    context.catalog.begin_delete([one.experiment_id])
    assert following.ended() == 1
    assert following.err == ["my-run was deleted."]


def test_three_hundred_experiments_are_followed_cheaply(context):
    _, experiments = make_run(context, "sweep", ["queued"] * 300)
    begun = time.process_time()
    following = Following(context, "sweep")
    for one in experiments:
        context.catalog.update_experiment(one.experiment_id, state=State.RUNNING, started_at=time.time())
        print_to_journal(context, one, b"from %d\n" % one.index)
        finish(context, one)
    assert following.ended() == 0
    assert len(following.out.getvalue().splitlines()) == 300
    assert {b"exp%d \xe2\x94\x82 from %d" % (i, i) for i in range(300)} == set(
        following.out.getvalue().splitlines()
    )
    assert time.process_time() - begun < 20


def test_ctrl_c_detaches_and_a_terminal_has_one_live_line(context, home):
    _, [one] = make_run(context, "my-run", ["running"])
    keep(context, one, b"kept", b"x" * 1500)
    waiting = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=one.experiment_id,
        path=b"later",
        state=ArtifactState.PENDING,
    )
    context.catalog.record_artifacts(one.experiment_id, [waiting])
    print_to_journal(context, one, b"hello\n")
    program = (
        "from gridkeep.runs.context import open_context\n"
        "from gridkeep.runs.follow import follow\n"
        "with open_context(start_engine=False) as context:\n"
        "    raise SystemExit(follow(context, 'my-run'))\n"
    )
    ours, theirs = pty.openpty()
    follower = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "GRIDKEEP_HOME": str(home), "TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        seen = b""
        live = "my-run: 1 running │ 1 of 2 files stored, 1.5 kB".encode()
        while live not in seen:
            seen += os.read(ours, 65536)
        print_to_journal(context, one, b"more\n")
        while b"\r\x1b[Kmore\r\n" not in seen:  # the live line makes room
            seen += os.read(ours, 65536)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
        seen += os.read(ours, 65536)
    finally:
        follower.kill()
        os.close(ours)
    assert b"Detached; the run goes on. `grid status my-run` shows how it stands.\r\n" in seen
    assert context.catalog.experiment("my-run-exp0").state == "running"
