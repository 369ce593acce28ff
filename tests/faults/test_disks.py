"""Disks that fill up, go away or fail, and come back: the run waits, says for what, and goes on by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults import disks, rounds
from tests.faults.oracle import Oracle, read_logs
from tests.support import Grid, end_processes_of, wait_for

GOES_ON = 15  # seconds after the end of the trouble
NOISE = 10  # more, for a machine that is busy with other tests


@contextmanager
def ground(root: Path) -> Iterator[Grid]:
    """`grid` in a home that is made already, so that disks can be put under its parts."""
    grid = rounds.new_grid(root)
    grid("status")
    try:
        yield grid
    finally:
        end_processes_of(root)


def submit(grid: Grid, seed: str, operations: int = 60, pause: float = 0.03) -> None:
    root = grid.cwd.parent
    words = ["run", "--name", "r", "--exclude", "oplog/", "--strategy", "none", "writer.py", seed]
    grid(*words, root / "outside", root / "oplog", "--operations", f"{operations}", "--pause", f"{pause}")


def now(grid: Grid) -> dict[str, Any]:
    (one,) = grid.json("status", "r")
    assert isinstance(one, dict)
    return one


def waits(grid: Grid, word: str) -> None:
    """Until it says that it waits for what `word` is about."""
    wait_for(lambda: word in (now(grid)["waiting_for"] or ""), 60, every=0.2, what=f"waiting for {word!r}")


def check(grid: Grid) -> None:
    """Whatever the writer wrote is there."""
    root = grid.cwd.parent
    oracle = Oracle(grid, "r-exp0", read_logs(root / "oplog"), root / "outside", root / "downloads")
    assert not list(oracle.findings())


def completes(grid: Grid, *, within: float = GOES_ON) -> None:
    (one,) = grid.finished("r", within + NOISE)
    assert (one["state"], one["waiting_for"]) == ("completed", None), one
    check(grid)


def test_the_store_fills_up_while_it_runs_and_gets_room_after_its_end(tmp_path: Path) -> None:
    with ground(tmp_path) as grid, disks.small_disk(grid.home / "store", "96m") as disk:
        with disks.full(disk, but=50_000):
            submit(grid, "fills up", 100)
            waits(grid, "full")
            wait_for(lambda: now(grid)["state"] == "syncing", 60, every=0.2)
            waits(grid, "full")
        completes(grid)


def test_the_store_gets_room_while_the_script_works(tmp_path: Path) -> None:
    with ground(tmp_path) as grid, disks.small_disk(grid.home / "store", "96m") as disk:
        with disks.full(disk):
            submit(grid, "gets room", 150)
            waits(grid, "full")
            assert now(grid)["state"] == "running"
        wait_for(lambda: now(grid)["waiting_for"] is None, GOES_ON + NOISE, every=0.2)
        completes(grid, within=60)


def test_the_store_is_moved_away_and_back(tmp_path: Path) -> None:
    with ground(tmp_path) as grid:
        submit(grid, "moved away")
        (grid.home / "store").rename(tmp_path / "elsewhere")
        waits(grid, "is not there")
        wait_for(lambda: now(grid)["state"] == "syncing", 60, every=0.2)
        time.sleep(2)
        assert not (grid.home / "store").exists()  # an empty one would look like a store that lost everything
        (tmp_path / "elsewhere").rename(grid.home / "store")
        completes(grid)


def test_the_store_is_read_only_for_a_while(tmp_path: Path) -> None:
    with ground(tmp_path) as grid, disks.small_disk(grid.home / "store", "96m") as disk:
        submit(grid, "read-only")
        disks.remount(disk, "ro")
        waits(grid, "refuses")
        wait_for(lambda: now(grid)["state"] == "syncing", 60, every=0.2)
        disks.remount(disk, "rw")
        completes(grid)


@pytest.mark.parametrize("part", ["", "work", "journal"])
def test_a_part_of_the_home_is_full_for_a_while(tmp_path: Path, part: str) -> None:
    """The script itself may fail then. What it wrote is kept or named, and its end is told as it was."""
    with ExitStack() as stack:
        if not part:
            stack.enter_context(disks.small_disk(tmp_path / "home", "96m"))
        grid = stack.enter_context(ground(tmp_path))
        folder = grid.home / part
        if part:
            stack.enter_context(disks.small_disk(folder, "64m"))
        submit(grid, f"full {part}", 100)
        wait_for(lambda: read_logs(tmp_path / "oplog").files)
        with disks.full(folder):
            time.sleep(4)
        (one,) = grid.finished("r", 60)
        ends = read_logs(tmp_path / "oplog").ends
        assert (one["exit_code"], one["state"]) == (ends[-1], "failed" if ends[-1] else "completed"), one
        check(grid)


def test_an_experiment_waits_for_room_for_its_working_copy(tmp_path: Path) -> None:
    """The first of two makes room in its copy, which is used up while it works: the second has none."""
    go, ready = tmp_path / "go", tmp_path / "ready"
    with ground(tmp_path) as grid, disks.small_disk(grid.home / "work", "16m") as disk:
        (tmp_path / "project/big").write_bytes(random.Random(1).randbytes(500_000))
        (tmp_path / "project/script.py").write_text(
            "import os, pathlib, sys, time\n"
            "os.unlink('big')\n"
            f"pathlib.Path({str(ready)!r}).touch()\n"
            f"while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        )
        grid("run", "--name", "r", "--parallel", "1", "script.py", "--n", "[1, 2]")
        wait_for(ready.exists)
        with disks.full(disk):
            go.touch()
            wait_for(lambda: "the home" in (grid.json("status", "r")[1]["waiting_for"] or ""), 60, every=0.2)
            assert grid.json("status", "r")[1]["state"] == "queued"
        ended = grid.finished("r", GOES_ON + NOISE)
        assert [(one["state"], one["waiting_for"]) for one in ended] == [("completed", None)] * 2


def library(folder: Path) -> Path:
    found = disks.build_faulty(folder)
    if found is None:
        pytest.skip("there is no C compiler")
    return found


@pytest.mark.parametrize("seed", range(2))
def test_single_calls_to_the_store_fail(tmp_path: Path, seed: int) -> None:
    """EIO, ENOSPC, short writes, and renames that take place and fail all the same."""
    log = tmp_path / "faults"
    with ground(tmp_path) as grid:
        faults = disks.failing(
            library(tmp_path), log, seed, 0.04, grid.home / "store", programs="gridkeep.supervisor"
        )
        submit(grid.with_env(**faults, GRIDKEEP_RETRY_MAX="0.5s"), f"calls fail {seed}", 40, 0.01)
        (one,) = grid.finished("r", 100)
        assert one["state"] == "completed"
        assert log.read_bytes()
        check(grid)


def test_what_the_store_cannot_tidy_up_costs_no_file(tmp_path: Path) -> None:
    log = tmp_path / "faults"
    with ground(tmp_path) as grid:
        faults = disks.failing(
            library(tmp_path), log, 1, 0.1, grid.home / "store", programs="gridkeep.supervisor"
        )
        hurt = grid.with_env(**faults, GRIDKEEP_RETRY_MAX="0.5s")
        (tmp_path / "project/many.py").write_text("for i in range(500): open(f'{i}', 'w').write('x')")
        hurt.with_env(FAULTY_CALL="unlink")("run", "--name", "r", "many.py")
        (one,) = grid.finished("r", 100)
        assert (one["state"], one["missing"], one["artifacts"]) == ("completed", 0, 500)


@pytest.mark.parametrize(("part", "share"), [("catalog.db", 0.1), ("journal", 0.02)])
def test_single_calls_to_the_home_fail(tmp_path: Path, part: str, share: float) -> None:
    """The catalog's database, which is written seldom; the ledger's, and the small files of the journal."""
    log, programs = tmp_path / "faults", "gridkeep.supervisor:gridkeep.runs.dispatcher"
    with ground(tmp_path) as grid:
        faults = disks.failing(library(tmp_path), log, 1, share, grid.home / part, programs=programs)
        submit(grid.with_env(**faults), f"{part} fails", 40, 0.01)
        (one,) = grid.finished("r", 100)
        assert one["state"] == "completed"
        assert log.read_bytes()
        check(grid)
