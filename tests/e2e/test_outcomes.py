"""However a script ends, or what around it is killed: the right words, and every file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.support import (
    WORKS_ON,
    check_work,
    downloaded,
    engines,
    experiment,
    inside,
    kill,
    kill_everything,
    listed,
    ran,
    save,
    shims,
    submitted,
    supervisors,
)
from tests.support import Grid, wait_for

WRITES = """
import os, signal, sys, time
os.mkdir("out")
open("out/closed", "w").write("closed")
opened = open("out/open", "w"); opened.write("flushed"); opened.flush()
print("printed", flush=True)
"""


@pytest.mark.parametrize(
    ("end", "state", "outcome", "reason", "code"),
    [
        ("", "completed", "exit", None, 0),
        ("sys.exit(3)", "failed", "exit", "exit code 3", 3),
        ("raise RuntimeError('oh')", "failed", "exit", "exit code 1", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", "failed", "signal", "killed by SIGKILL", None),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "failed", "signal", "killed by SIGSEGV", None),
        ("os.kill(os.getpid(), signal.SIGTERM)", "failed", "signal", "killed by SIGTERM", None),
        ("os._exit(255)", "failed", "exit", "exit code 255", 255),
    ],
)
def test_ends_of_a_script(
    grid: Grid, end: str, state: str, outcome: str, reason: str | None, code: int | None
) -> None:
    one = ran(grid, WRITES + end, name="e")
    assert (one["state"], one["outcome"], one["reason"], one["exit_code"]) == (state, outcome, reason, code)
    assert downloaded(grid, "e-exp0") == {b"out/closed": b"closed", b"out/open": b"flushed"}
    assert grid("logs", "e").stdout.startswith("printed\n")
    if "oh" in end:
        assert grid("logs", "e").stdout.endswith("RuntimeError: oh\n")
    assert grid("verify", "--deep", "e").returncode == 0


def test_killed_from_outside_in_the_middle_of_a_write(any_user: Grid) -> None:
    submitted(
        any_user,
        """
        import os
        open("pid", "w").write(str(os.getpid()))
        with open("endless", "wb") as file:
            while True:
                file.write(b"0123456789" * 1000); file.flush()
        """,
        name="k",
    )
    pid = wait_for(lambda: any_user("cat", "k-exp0:pid", code=None).stdout)
    os.kill(int(pid), signal.SIGKILL)
    (one,) = any_user.finished("k")
    assert one["reason"] == "killed by SIGKILL"
    endless = downloaded(any_user, "k-exp0")[b"endless"]
    assert endless
    assert endless == (b"0123456789" * (len(endless) // 10 + 1))[: len(endless)]


def test_a_program_that_cannot_be_started(grid: Grid) -> None:
    (grid.cwd / save(grid, "not a program", "broken")).chmod(0o755)
    done = grid("run", "--follow", "--name", "b", "./broken", code=1)
    one = experiment(grid, "b-exp0")
    assert (one["state"], one["outcome"]) == ("failed", "start")
    assert "Exec format error" in one["reason"]
    assert one["reason"] in done.stderr


def test_children_may_finish_and_completed_comes_after_them(grid: Grid) -> None:
    one = ran(
        grid,
        """
        import os, time
        if os.fork() == 0:
            os.setsid(); time.sleep(1.5)
            open("by the child", "w").write("late"); print("child done")
        """,
        name="c",
    )
    assert one["state"] == "completed"
    assert downloaded(grid, "c-exp0") == {b"by the child": b"late"}
    assert grid("logs", "c").stdout == "child done\n"


def test_children_that_linger_are_ended_and_it_is_said(grid: Grid) -> None:
    one = ran(
        grid.with_env(GRIDKEEP_LINGER="0.5s", GRIDKEEP_KILL_GRACE="0.5s"),
        "import os, time; open('f', 'w').write('x'); os.fork() or (os.setsid(), time.sleep(60))",
        name="l",
    )
    assert one["state"] == "completed"
    assert one["run_s"] < 30
    assert one["capture"]["terminated"]
    assert downloaded(grid, "l-exp0") == {b"f": b"x"}


# ------------------------------------------------------------------------------------------- when our own are killed


def check_captured_work(grid: Grid, name: str) -> None:
    assert check_work(grid, name)["capture"]["lost"] == 0


def test_the_supervisor_is_killed_again_and_again(any_user: Grid) -> None:
    submitted(any_user, WORKS_ON, name="s")
    for _ in range(4):
        kill(wait_for(lambda: supervisors(any_user) or None))
        time.sleep(0.6)
    check_captured_work(any_user, "s")


def test_the_engine_is_killed(grid: Grid) -> None:
    """Nobody but the next `grid status` starts another."""
    save(grid, "import sys, time; time.sleep(1); open('f', 'w').write(sys.argv[2])")
    grid("run", "--name", "e", "--parallel", "1", "script.py", "--x", "[1,2,3]")
    kill(wait_for(lambda: engines(grid) or None))
    time.sleep(1.5)
    assert not engines(grid)
    assert [each["state"] for each in grid.finished("e")] == ["completed"] * 3
    assert [downloaded(grid, f"e-exp{i}") for i in range(3)] == [{b"f": b"%d" % i} for i in (1, 2, 3)]


def test_engine_and_supervisor_are_killed_together(grid: Grid) -> None:
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: grid("logs", "s").stdout.count("\n") > 10 or None)
    kill(engines(grid) + supervisors(grid))
    check_captured_work(grid, "s")


def test_a_supervisor_lost_after_the_scripts_end_changes_nothing(grid: Grid) -> None:
    submitted(
        grid, "import sys; print('x' * 100); open('f', 'wb').write(bytes(10**7)); sys.exit(3)", name="s"
    )
    wait_for(lambda: experiment(grid, "s-exp0")["state"] in ("syncing", "failed") or None, every=0.001)
    for pid in supervisors(grid):
        os.kill(pid, signal.SIGKILL)
    (one,) = grid.finished("s")
    assert (one["state"], one["outcome"], one["reason"]) == ("failed", "exit", "exit code 3")
    assert downloaded(grid, "s-exp0") == {b"f": bytes(10**7)}
    assert grid("logs", "s").stdout == "x" * 100 + "\n"


def test_everything_is_killed_as_when_a_machine_dies(any_user: Grid) -> None:
    """Script and all: what it had written is saved, and the reason says what happened."""
    submitted(any_user, WRITES + "time.sleep(60)", name="m")
    wait_for(lambda: "printed" in any_user("logs", "m").stdout or None)
    kill_everything(any_user)
    (one,) = any_user.finished("m")
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    assert "lost" in one["reason"]
    assert downloaded(any_user, "m-exp0") == {b"out/closed": b"closed", b"out/open": b"flushed"}
    assert listed(any_user, "m").keys() == {"out/closed", "out/open"}


@pytest.mark.parametrize("capture", ["auto", "python"])
def test_the_shim_is_killed(grid: Grid, capture: str) -> None:
    """Its guard takes over: the script goes on, and nothing is missed."""
    grid = grid.with_env(GRIDKEEP_CAPTURE=capture)
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: grid("logs", "s").stdout.count("\n") > 10 or None)
    kill(shims(grid)[:1])
    check_captured_work(grid, "s")


@pytest.mark.parametrize("capture", ["auto", "python"])
def test_the_shim_is_held_up_again_and_again(grid: Grid, tmp_path: Path, capture: str) -> None:
    """Stopped for a tenth of a second, many times: between the record of a call and the call anything may pass."""
    outside = tmp_path / "outside"
    outside.mkdir()
    script = f"""
        for i in range(6000):
            with open(f"{outside}/{{i}}", "w") as file: file.write("x")
    """
    submitted(grid.with_env(GRIDKEEP_CAPTURE=capture), script, name="h")
    shim = wait_for(lambda: shims(grid) or None)[0]
    for _ in range(15):
        try:
            os.kill(shim, signal.SIGSTOP)
            time.sleep(0.1)
            os.kill(shim, signal.SIGCONT)
        except ProcessLookupError:
            break
        time.sleep(0.03)
    (one,) = grid.finished("h")
    assert (one["state"], one["missing"]) == ("completed", 0), one
    assert downloaded(grid, "h-exp0") == {inside(outside / str(i)): b"x" for i in range(6000)}


def test_auto_resume_starts_again_in_the_same_folder(grid: Grid) -> None:
    submitted(
        grid,
        """
        import os, time
        first = not os.path.exists("attempts")
        with open("attempts", "a") as file: file.write("x")
        print("up", flush=True)
        time.sleep(60 if first else 0)
        """,
        options=("--auto_resume",),
        name="r",
    )
    wait_for(lambda: "up" in grid("logs", "r").stdout or None)
    kill_everything(grid)
    (one,) = grid.finished("r")
    assert (one["state"], one["attempt"], one["reason"]) == ("completed", 2, None)
    assert downloaded(grid, "r-exp0") == {b"attempts": b"xx"}


def test_a_submission_that_was_killed_leaves_nothing(grid: Grid) -> None:
    """Whatever it had copied goes with the next run, and no other submission suffers."""
    for i in range(1000):
        save(grid, b"x" * 20_000, f"data/{i}")
    save(grid, "print(1)")
    left: set[str] = set()

    def begun() -> set[str]:
        return set(os.listdir(grid.home / "work")) - left if (grid.home / "work").exists() else set()

    for _ in range(4):
        process = grid.start("run", "script.py")
        wait_for(begun, what="a working copy")
        process.kill()
        process.wait()
        left |= begun()
    assert left
    for i in range(2):
        ran(grid, "print(1)", name=f"after{i}")
    wait_for(lambda: not os.listdir(grid.home / "work") or None, what="a clean home")
    wait_for(lambda: not os.listdir(grid.home / "journal") or None, what="a clean home")
    assert {run["state"] for run in grid.json("history")} == {"completed"}


def store_away(grid: Grid) -> None:
    (grid.home / "store").rename(grid.home / "away")


def store_back(grid: Grid) -> None:
    (grid.home / "away").rename(grid.home / "store")


def test_the_store_is_away_for_a_while(grid: Grid) -> None:
    """It stays `syncing`, says what it waits for, and goes on by itself."""
    script = (
        "import time; open('e', 'w').write('e'); time.sleep(1.5); open('f', 'w').write('f'); print('end')"
    )
    submitted(grid.with_env(GRIDKEEP_RETRY_MAX="1s"), script, name="a")
    wait_for(lambda: listed(grid, "a").get("e", {}).get("state") == "stored" or None)
    store_away(grid)
    one = wait_for(lambda: e if (e := experiment(grid, "a-exp0"))["waiting_for"] else None)
    assert one["waiting_for"] == f"The store's folder {grid.home}/store is not there."
    wait_for(lambda: experiment(grid, "a-exp0")["state"] == "syncing" or None)
    assert f"a-exp0 is waiting: {one['waiting_for']}" in grid("status", "a").stdout
    assert grid("logs", "a").stdout == "end\n"
    time.sleep(2)
    assert experiment(grid, "a-exp0")["state"] == "syncing"
    store_back(grid)
    (one,) = grid.finished("a", 40)
    assert (one["state"], one["waiting_for"], one["missing"]) == ("completed", None, 0)
    assert downloaded(grid, "a-exp0") == {b"e": b"e", b"f": b"f"}
    assert grid("verify", "--deep", "a").stdout == "a-exp0: 2 of 2 verified\n"


def test_a_store_that_stays_away_too_long(grid: Grid) -> None:
    """The experiment fails; its files are kept in the home, and what is not to be had is said."""
    grid("status")
    env = {"GRIDKEEP_RETRY_MAX": "1s", "GRIDKEEP_SYNC_TIMEOUT": "2s"}
    store_away(grid)
    submitted(grid.with_env(**env), "open('f', 'w').write('kept')", name="l")
    (one,) = grid.finished("l", 40)
    assert (one["state"], one["outcome"]) == ("failed", "sync")
    assert one["reason"].startswith("not all files could be stored in time; they are kept in the home.")
    assert (grid.home / "work" / one["experiment_id"] / "f").read_text() == "kept"
    store_back(grid)
    done = grid("artifacts", "l", code=1)
    assert "l-exp0: f: " in done.stderr
