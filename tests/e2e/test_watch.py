"""Runs that cannot be captured, or shall not: what the watching mode sees, and what it says that it does not see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gridkeep.capture import probe
from tests.e2e.support import downloaded, experiment, kill, listed, ran, save, states, submitted, supervisors
from tests.support import Grid, wait_for

MODES = [
    pytest.param(mode, marks=pytest.mark.skipif(mode != "watch" and probe()[0] == "watch", reason=probe()[1]))
    for mode in ("watch", "auto", "python")
]


@pytest.fixture
def watched(grid: Grid) -> Grid:
    return grid.with_env(GRIDKEEP_CAPTURE="watch")


@pytest.fixture
def without_events(watched: Grid, tmp_path: Path) -> Grid:
    """As if watchfiles were not installed."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/watchfiles.py").write_text("raise ImportError")
    return watched.with_env(PYTHONPATH=str(tmp_path / "path"))


def test_a_file_that_comes_and_goes(watched: Grid) -> None:
    one = ran(
        watched,
        """
        import os, time
        open("at once", "w").write("x"); os.remove("at once")
        os.mkdir("folder"); open("folder/kept", "w").write("kept"); time.sleep(0.5)
        open("folder/soon", "w").write("x"); os.remove("folder/soon")
        os.mkdir("empty"); time.sleep(0.5); os.rmdir("empty")
        """,
        name="w",
    )
    assert states(watched, "w") == {"at once": "removed", "folder/kept": "stored", "folder/soon": "removed"}
    assert one["capture"]["mode"] == "watch"
    assert one["capture"]["why"] == "asked for"
    assert one["capture"]["means"] == "events of the file system, and rescans"
    assert one["capture"]["swept"] == 0


def test_files_are_kept_while_the_run_goes_on(watched: Grid) -> None:
    submitted(watched, "import time; time.sleep(0.6); open('early', 'w').write('x'); time.sleep(60)")
    wait_for(lambda: states(watched, "run").get("early") == "stored", what="the early file")
    watched("stop", "run", "run")


@pytest.mark.parametrize("mode", MODES)
def test_an_input_that_is_removed_is_none_of_the_runs_files(grid: Grid, mode: str) -> None:
    grid = grid.with_env(GRIDKEEP_CAPTURE=mode)
    for name in ("removed", "folder/removed", "replaced", "moved/a", "moved/b"):
        save(grid, name, f"data/{name}")
    text = """
        import os, shutil, time
        os.remove("data/removed"); shutil.rmtree("data/folder"); os.remove("data/replaced"); time.sleep(0.6)
        open("data/replaced", "w").write("new"); os.rename("data/moved", "data/here")
        """
    ran(grid, text)
    expected = {"data/replaced": "stored", "data/here/a": "stored", "data/here/b": "stored"}
    assert states(grid, "run") == expected


@pytest.mark.parametrize("mode", [*MODES, "off"])
def test_what_is_no_file_is_listed_with_the_rule_and_counted_nowhere(grid: Grid, mode: str) -> None:
    save(grid, "", "data/given")
    os.mkfifo(grid.cwd / "pipe of the project")
    one = ran(
        grid.with_env(GRIDKEEP_CAPTURE="auto" if mode == "off" else mode),
        """
        import os, socket
        os.mkfifo("data/pipe"); os.symlink("given", "data/link")
        socket.socket(socket.AF_UNIX).bind("data/socket")
        if os.getuid() == 0: os.mknod("data/null", 0o20666, os.makedev(1, 3))
        """,
        options=("--no-capture",) if mode == "off" else (),
    )
    expected = {"data/pipe": "pipe", "data/link": "symbolic link to given", "data/socket": "socket"}
    if os.getuid() == 0:
        expected["data/null"] = "device"
    found = listed(grid, "run")
    assert {path: each["reason"] for path, each in found.items()} == expected
    assert {each["state"] for each in found.values()} == {"ignored"}
    assert (one["state"], one["capture"]["swept"]) == ("completed", 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_linked_folder_is_looked_through_as_the_working_copy_is(grid: Grid, mode: str) -> None:
    grid = grid.with_env(GRIDKEEP_CAPTURE=mode, GRIDKEEP_LINK_FOLDER="1k", GRIDKEEP_LINK_FILE="1k")
    save(grid, "outputs/\n*.bin\n", ".gitignore")
    (grid.cwd / ".git/objects").mkdir(parents=True)
    (grid.cwd / ".git/refs").mkdir()
    (grid.cwd / ".git/HEAD").write_text("ref: refs/heads/main\n")
    save(grid, b"\0" * 5000, "outputs/old")
    save(grid, b"\0" * 5000, "outputs/changed")
    save(grid, b"\0" * 5000, "model.bin")
    one = ran(
        grid,
        """
        import os
        os.makedirs("outputs/deep")
        open("outputs/deep/new", "w").write("new")
        open("outputs/changed", "a").write("more")
        open("model.bin", "a").write("more")
        open("outputs/at once", "w").write("x"); os.remove("outputs/at once")
        """,
    )
    assert states(grid, "run") == {
        "model.bin": "stored",
        "outputs/at once": "removed",
        "outputs/changed": "stored",
        "outputs/deep/new": "stored",
    }
    assert downloaded(grid, "run-exp0")[b"outputs/changed"] == b"\0" * 5000 + b"more"
    assert ("blind" in one["capture"]) == (mode == "watch")
    if mode == "watch":
        assert "the folders that it links to are not seen" in one["capture"]["blind"]


def test_experiments_that_share_a_folder_may_have_each_others_files_but_always_their_own(
    watched: Grid,
) -> None:
    watched = watched.with_env(GRIDKEEP_LINK_FOLDER="1k")
    (watched.cwd / ".git/objects").mkdir(parents=True)
    (watched.cwd / ".git/refs").mkdir()
    (watched.cwd / ".git/HEAD").write_text("ref: refs/heads/main\n")
    save(watched, "outputs/\n", ".gitignore")
    save(watched, b"\0" * 5000, "outputs/old")
    save(
        watched,
        "import sys, time; time.sleep(1); open(f'outputs/{sys.argv[2]}', 'w').write('x'); time.sleep(1)",
    )
    watched("run", "--name", "both", "--parallel", "2", "script.py", "--i", "['a','b']")
    for one, own in zip(watched.finished("both"), ("a", "b"), strict=True):
        found = listed(watched, one["name"])
        assert {f"outputs/{own}"} <= set(found) <= {"outputs/a", "outputs/b"}
        assert {each["reason"] for each in found.values()} == {
            "reached through a link: the run's experiments share this file"
        }
        assert "what others write to those folders counts as the run's" in one["capture"]["blind"]


def test_without_events_all_that_stands_is_found(without_events: Grid, tmp_path: Path) -> None:
    one = ran(
        without_events,
        f"""
        import os, time
        os.makedirs("a/b"); open("a/b/c", "w").write("1"); open("first", "w").write("1")
        time.sleep(2.5)
        os.remove("first"); open("a/b/c", "w").write("22"); os.rename("a", "z"); open("last", "w").write("3")
        open("{tmp_path}/outside", "w").write("4")
        """,
    )
    found = states(without_events, "run")
    assert {path for path, state in found.items() if state == "stored"} == {"z/b/c", "last"}
    assert found["first"] == "removed"
    assert downloaded(without_events, "run-exp0")[b"z/b/c"] == b"22"
    assert one["capture"]["means"] == "rescans; events were missed: watchfiles is not installed"
    assert "nor those that were there for a moment only" in one["capture"]["blind"]


def test_it_is_said_in_every_place(watched: Grid) -> None:
    """While it runs, when it has ended, to who follows it, and in the store for good."""
    sentence = (
        "run-exp0 is watched, not captured (asked for): files written outside the working copy are not seen"
    )
    submitted(watched, "import time; open('f', 'w').write('x'); time.sleep(3)")
    wait_for(lambda: experiment(watched, "run-exp0")["capture"], what="the record")
    assert sentence in watched("status", "run").stdout.splitlines()
    (one,) = watched.finished("run")
    assert sentence in watched("status", "run").stdout.splitlines()
    folder = watched.home / "store/experiments" / one["experiment_id"]
    with open(folder / "manifest.jsonl") as manifest:
        assert json.loads(manifest.readline())["capture"] == one["capture"]
    done = watched("run", "--follow", "--name", "seen", "script.py", timeout=60)
    assert sentence.replace("run-", "seen-") in done.stderr.splitlines()
    watched("run", "--name", "two", "script.py", "--i", "[1,2]")
    watched.finished("two")
    assert "2 of 2 experiments are watched, not captured (asked for)" in watched("status", "two").stdout


def test_a_supervisor_that_was_killed_says_what_that_means(watched: Grid) -> None:
    text = "import time; open('before', 'w').write('x'); time.sleep(5); open('after', 'w').write('x')"
    submitted(watched, text)
    wait_for(lambda: states(watched, "run").get("before") == "stored", what="the first file")
    kill(supervisors(watched))
    (one,) = watched.finished("run")
    assert states(watched, "run") == {"before": "stored", "after": "stored"}
    assert one["capture"]["means"] == "rescans; events were missed: nobody listened for a moment"


@pytest.mark.skipif(probe()[0] == "watch", reason=probe()[1])
def test_a_run_inside_a_run_is_watched_and_says_why(grid: Grid) -> None:
    save(grid, "open('inner file', 'w').write('inner')", "inner.py")
    ran(
        grid,
        """
        import json, os, subprocess
        os.environ["GRIDKEEP_HOME"] = os.path.abspath("inner-home")
        subprocess.run(["grid", "run", "--follow", "--name", "inner", "inner.py"], check=True)
        with open("status.json", "wb") as out: subprocess.run(["grid", "status", "inner", "--json"], stdout=out)
        with open("doctor.json", "wb") as out: subprocess.run(["grid", "doctor", "--json"], stdout=out)
        subprocess.run(["grid", "artifacts", "inner"], check=True)
        """,
        name="outer",
    )
    files = downloaded(grid, "outer-exp0")
    (inner,) = json.loads(files[b"status.json"])
    reason = "another seccomp listener is above it: this is a run inside a run"
    assert (inner["state"], inner["capture"]["mode"]) == ("completed", "watch")
    assert reason in inner["capture"]["why"]
    assert files[b"grid_artifacts/inner/inner-exp0/inner file"] == b"inner"
    doctor = {each["name"]: each for each in json.loads(files[b"doctor.json"])}["capture"]
    assert (doctor["mode"], doctor["level"]) == ("watch", "warning")
    assert reason in doctor["why"]
    assert "refuses" in doctor["modes"]["c"]


def test_many_files_at_once(watched: Grid) -> None:
    """Faster than anybody looks, and in folders that are not watched yet: what stands is found all the same."""
    text = """
        import os
        for folder in range(20):
            os.mkdir(f"{folder}")
            for number in range(100): open(f"{folder}/{number}", "w").write("x")
        for number in range(2000): open(f"passing", "w").write("x"); os.remove("passing")
        """
    one = ran(watched, text)
    assert (one["state"], one["artifacts"], one["missing"]) == ("completed", 2000, 0)
    assert states(watched, "run")["passing"] == "removed"


def test_the_mode_is_the_submitters_choice(grid: Grid) -> None:
    """Not that of whoever started the engine."""
    ran(grid, "", name="one")
    ran(grid.with_env(GRIDKEEP_CAPTURE="watch"), "", name="two")
    modes = [experiment(grid, name)["capture"]["mode"] for name in ("one-exp0", "two-exp0")]
    assert modes == [probe()[0], "watch"]
