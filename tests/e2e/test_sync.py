"""`grid sync`: files that could not be stored in time get another try, and none is lost meanwhile."""

from __future__ import annotations

import os
import time

import pytest

from tests.e2e.support import downloaded, experiment, explained, kill, ran, save, submitted, supervisors
from tests.support import Grid, wait_for

SHORT = {"GRIDKEEP_RETRY_MAX": "1s", "GRIDKEEP_SYNC_TIMEOUT": "2s"}


def store_away(grid: Grid) -> None:
    (grid.home / "store").rename(grid.home / "away")


def store_back(grid: Grid) -> None:
    (grid.home / "away").rename(grid.home / "store")


def gave_up(grid: Grid, text: str, name: str = "l") -> None:
    """Lets a run end whose files could not be stored in time; its store is still away."""
    grid("status")
    store_away(grid)
    submitted(grid.with_env(**SHORT), text, name=name)
    (one,) = grid.finished(name, 40)
    assert (one["state"], one["outcome"]) == ("failed", "sync")


@pytest.mark.parametrize(
    ("end", "state", "outcome", "reason", "code"),
    [("", "completed", "exit", None, 0), ("; sys.exit(3)", "failed", "exit", "exit code 3", 3)],
)
def test_it_ends_as_its_script_did(
    grid: Grid, end: str, state: str, outcome: str, reason: str | None, code: int
) -> None:
    gave_up(grid, f"import sys; print('said'); open('f', 'w').write('kept'){end}")
    store_back(grid)
    done = grid("sync", "--follow", "l")
    assert done.stdout.splitlines()[0] == "l-exp0: syncing again."
    assert done.stdout.splitlines()[1].startswith(f"l-exp0 {state}")
    one = experiment(grid, "l-exp0")
    assert (one["state"], one["outcome"], one["reason"], one["exit_code"]) == (state, outcome, reason, code)
    assert (one["waiting_for"], one["missing"], one["capture"]["lost"]) == (None, 0, 0)
    assert downloaded(grid, "l-exp0") == {b"f": b"kept"}
    assert grid("logs", "l").stdout == "said\n"
    grid("verify", "--deep", "l")
    wait_for(lambda: [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []] or None)
    assert grid("sync", "l").stdout == f"l-exp0: {state}; all its files are stored already.\n"


def test_the_time_begins_anew_also_for_a_supervisor_that_is_replaced(grid: Grid) -> None:
    gave_up(grid, "open('f', 'w').write('kept')")
    for _ in range(2):
        asked = time.time()
        grid("sync", "l")
        one = experiment(grid, "l-exp0")
        assert (one["state"], one["reason"], one["finished_at"]) == ("syncing", None, None)
        for pid in wait_for(lambda: supervisors(grid) or None):
            kill([pid])
        (one,) = grid.finished("l", 40)
        assert (one["state"], one["outcome"]) == ("failed", "sync")
        assert time.time() - asked >= 2
        assert (grid.home / "work" / one["experiment_id"] / "f").read_text() == "kept"
    store_back(grid)
    grid("sync", "--follow", "l-exp0")
    assert downloaded(grid, "l-exp0") == {b"f": b"kept"}


def test_a_store_that_is_still_away(grid: Grid) -> None:
    gave_up(grid, "open('f', 'w').write('kept')")
    done = grid("sync", "--follow", "l", code=1)
    assert "l-exp0 failed: not all files could be stored in time; they are kept in the home." in done.stdout
    store_back(grid)
    grid("sync", "--follow", "l")
    assert experiment(grid, "l-exp0")["state"] == "completed"


def test_the_store_comes_back_while_it_syncs(grid: Grid) -> None:
    gave_up(grid, "open('f', 'w').write('kept')")
    process = grid.start("sync", "--follow", "l")
    wait_for(lambda: experiment(grid, "l-exp0")["state"] == "syncing" or None)
    store_back(grid)
    assert process.wait(30) == 0
    process.communicate()
    assert downloaded(grid, "l-exp0") == {b"f": b"kept"}


def test_what_has_nothing_to_sync_is_said(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="done")
    submitted(grid, "import time; time.sleep(60)", name="active")
    wait_for(lambda: experiment(grid, "active-exp0")["state"] == "running" or None)
    said = grid("sync", "done", "active", "--follow").stdout.splitlines()
    assert said == [
        "done-exp0: completed; all its files are stored already.",
        "active-exp0: is running, and syncing as it goes.",
    ]
    assert experiment(grid, "active-exp0")["state"] == "running"
    assert explained(grid("sync", "done", "nobody", code=1)) == "There is no Run or experiment named nobody."


def test_only_those_of_a_sweep_that_need_it(grid: Grid) -> None:
    grid("status")
    save(grid, "import sys; open('f', 'w').write(sys.argv[2])")
    store_away(grid)
    grid.with_env(**SHORT)("run", "--name", "s", "script.py", "--x", "[1,2,3]")
    assert {one["outcome"] for one in grid.finished("s", 60)} == {"sync"}
    store_back(grid)
    assert "s-exp1: syncing again." in grid("sync", "--follow", "s-exp1").stdout
    assert [one["state"] for one in grid.json("status", "s")] == ["failed", "completed", "failed"]
    done = grid("sync", "--follow", "s")
    assert "s-exp1: completed; all its files are stored already." in done.stdout
    assert [downloaded(grid, f"s-exp{i}") for i in range(3)] == [{b"f": b"%d" % i} for i in (1, 2, 3)]
    wait_for(lambda: [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []] or None)


def test_files_that_are_in_another_home(grid: Grid) -> None:
    gave_up(grid, "open('f', 'w').write('kept')")
    folder = grid.home / "journal" / experiment(grid, "l-exp0")["experiment_id"]
    folder.rename(grid.home / "moved")
    assert explained(grid("sync", "l", code=1)) == "The files of l-exp0 are not in this home."
    (grid.home / "moved").rename(folder)
    store_back(grid)
    grid("sync", "--follow", "l")
    assert downloaded(grid, "l-exp0") == {b"f": b"kept"}
