"""`grid stop`: SIGTERM, a grace period, SIGKILL; what the script wrote is kept."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress

from gridkeep.files import take_lock
from tests.e2e.support import downloaded, experiment, ran, save, submitted
from tests.support import Grid, processes_of, wait_for

SLEEPER = """
import sys, time
open("before", "w").write("kept")
log = open("open", "w"); log.write("so far"); log.flush()
print("up", flush=True)
time.sleep(60)
"""


def up(grid: Grid, name: str) -> None:
    wait_for(lambda: "up\n" in grid("logs", name).stdout or None, what=f"{name} to print")


def test_a_stopped_script_keeps_its_files_and_its_output(grid: Grid) -> None:
    submitted(grid, SLEEPER, name="s")
    up(grid, "s")
    done = grid("stop", "run", "s")
    assert "s-exp0" in done.stdout
    (one,) = grid.finished("s")
    assert (one["state"], one["reason"]) == ("stopped", "stopped by its owner")
    assert downloaded(grid, "s-exp0") == {b"before": b"kept", b"open": b"so far"}
    assert grid("logs", "s").stdout == "up\n"
    grid("verify", "--deep", "s")


def test_the_script_may_clean_up_when_it_gets_sigterm(grid: Grid) -> None:
    submitted(
        grid,
        """
        import signal, sys, time
        def leave(*_):
            open("last words", "w").write("saved")
            print("leaving")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("up", flush=True)
        time.sleep(60)
        """,
        name="s",
    )
    up(grid, "s")
    grid("stop", "experiment", "s-exp0")
    assert grid.finished("s")[0]["state"] == "stopped"
    assert downloaded(grid, "s-exp0") == {b"last words": b"saved"}
    assert grid("logs", "s").stdout == "up\nleaving\n"


def test_what_does_not_listen_is_killed_with_its_children(grid: Grid) -> None:
    submitted(
        grid,
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
        open(f"pid{os.getpid()}", "w").write("x")
        print("up", flush=True)
        time.sleep(60)
        """,
        options=("--env", "GRIDKEEP_KILL_GRACE=0.5s"),
        name="deaf",
    )
    wait_for(lambda: grid("logs", "deaf").stdout == "up\nup\n" or None)
    begun = time.monotonic()
    grid("stop", "deaf", env={"GRIDKEEP_KILL_GRACE": "0.5s"})
    (one,) = grid.finished("deaf")
    assert time.monotonic() - begun < 20
    assert one["state"] == "stopped"
    pids = [int(name[3:]) for name in downloaded(grid, "deaf-exp0")]
    assert len(pids) == 2
    assert not set(pids) & set(processes_of(grid.home))


def test_queued_ones_never_start_and_leave_nothing(grid: Grid) -> None:
    save(grid, SLEEPER)
    grid("run", "--name", "q", "--parallel", "1", "script.py", "--x", "range(3)")
    up(grid, "q")
    done = grid("stop", "q-exp1")
    assert "q-exp1: stopped before it had started." in done.stdout
    assert [experiment(grid, f"q-exp{i}")["state"] for i in range(3)] == ["running", "stopped", "queued"]
    grid("stop", "q")
    assert [each["state"] for each in grid.finished("q")] == ["stopped"] * 3
    assert grid("verify", "q").returncode == 0
    assert experiment(grid, "q-exp2")["started_at"] is None
    wait_for(
        lambda: not any(os.listdir(grid.home / folder) for folder in ("work", "journal")) or None,
        what="a clean home",
    )


def test_a_stop_at_any_moment_after_the_submission_stops(grid: Grid) -> None:
    """Also in the instant between queued and running."""
    save(grid, SLEEPER)
    for i in range(8):
        grid("run", "--name", f"s{i}", "script.py")
        time.sleep(i * 0.04)
        grid("stop", f"s{i}")
        assert [each["state"] for each in grid.finished(f"s{i}", 20)] == ["stopped"]


def test_supervisors_that_are_being_started_are_not_in_the_way(grid: Grid) -> None:
    """They put their locks where a queued experiment's traces are being removed."""
    save(grid, SLEEPER)
    grid("run", "--name", "q", "--parallel", "1", "script.py", "--x", "range(12)")
    up(grid, "q")
    journals = [grid.home / "journal" / each["experiment_id"] for each in grid.json("status", "q")[1:]]
    over = threading.Event()
    journals[-1].mkdir()
    held = take_lock(str(journals.pop() / "supervisor.lock"))

    def come_and_go() -> None:
        while not over.is_set():
            for journal in journals:
                with suppress(OSError):
                    journal.mkdir(exist_ok=True)
                    (journal / "supervisor.lock").touch()

    coming = threading.Thread(target=come_and_go)
    coming.start()
    try:
        done = grid("stop", "q")
    finally:
        over.set()
        coming.join()
    assert held is not None
    os.close(held)
    assert len(done.stdout.splitlines()) == 12
    ended = grid.finished("q")
    assert {one["state"] for one in ended} == {"stopped"}
    records = grid.home / "store/experiments"
    assert all((records / each["experiment_id"] / "experiment.json").exists() for each in ended)


def test_who_is_stopped_while_it_is_built_stays_stopped(grid: Grid) -> None:
    """Though the build fails a moment later."""
    (grid.cwd / "built").touch()
    build = f"rm {grid.cwd}/built; sleep 2; exit 8"
    actions = {"compute": {"train": {"actions": {"on_build": [build]}}}}
    config = save(grid, json.dumps(actions), "config.yml")
    grid("run", "--name", "b", "--config", config, save(grid, SLEEPER))
    wait_for(lambda: not (grid.cwd / "built").exists() or None, what="the build")
    grid("stop", "b")
    wait_for(lambda: not processes_of(grid.home) or None, what="all to leave")
    (one,) = grid.finished("b")
    assert (one["state"], one["reason"]) == ("stopped", "stopped by its owner")
    record = grid.home / "store/experiments" / one["experiment_id"] / "experiment.json"
    assert json.loads(record.read_text())["state"] == "stopped"
    assert not os.listdir(grid.home / "journal")


def test_several_names_and_what_has_ended(grid: Grid) -> None:
    ran(grid, "", name="over")
    for name in ("a", "b"):
        submitted(grid, SLEEPER, name=name)
    done = grid("stop", "over", "a", "b-exp0")
    assert "over-exp0 had already ended (completed)." in done.stdout
    assert [grid.finished(name)[0]["state"] for name in ("over", "a", "b")] == [
        *("completed", "stopped", "stopped")
    ]


def test_an_unknown_name_stops_nothing(grid: Grid) -> None:
    submitted(grid, SLEEPER, name="a")
    up(grid, "a")
    grid("stop", "a", "nobody", code=1)
    grid("stop", "experiment", "a", code=1)
    grid("stop", "run", "a-exp0", code=1)
    assert experiment(grid, "a-exp0")["state"] == "running"
