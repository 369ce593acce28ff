"""What `grid delete` leaves: nothing of what was named, whoever is killed meanwhile, and all of everything else."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.e2e.support import contents, downloaded, engines, experiment, explained, ran, save, submitted
from tests.support import Grid, wait_for

MANY = "import sys, os\nos.mkdir('d')\nfor i in range(150): open(f'd/{i}', 'w').write('x' * i)\nprint('said')"


def traces(grid: Grid, *ulids: str) -> list[str]:
    """Where in the home anything still bears these ids, in names and in the catalog; of what was deleted the catalog
    remembers that, and no more."""
    found = [str(path) for path in grid.home.rglob("*") if any(ulid in path.name for ulid in ulids)]
    with closing(sqlite3.connect(grid.home / "catalog.db")) as catalog:
        tables = [name for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in set(tables) - {"tombstones"}:
            rows = catalog.execute(f"SELECT * FROM {table}").fetchall()
            found += [f"{table}: {row}" for row in rows if any(ulid in str(row) for ulid in ulids)]
    return found


def ids(grid: Grid, name: str) -> list[str]:
    """Those of its experiments, and its own."""
    (run,) = [run for run in (*grid.json("history"), *grid.json("status")) if run["name"] == name]
    return [*(each["experiment_id"] for each in grid.json("status", name)), run["run_id"].partition("_")[2]]


def test_nothing_is_left_and_the_bytes_are_those_that_went(grid: Grid) -> None:
    grid("run", "--follow", "--name", "gone", save(grid, MANY), "--x", "[1,2]")
    ran(grid, "open('f', 'w').write('x')", name="stays")
    gone = ids(grid, "gone")
    objects = [path for ulid in gone[:-1] for path in (grid.home / "store/experiments" / ulid).rglob("*")]
    sizes = [path.stat().st_size for path in objects if path.is_file()]
    assert len(traces(grid, *gone)) > 300
    erased = grid("delete", "--yes", "--json", "gone").json()
    assert erased == {"experiments": ["gone-exp0", "gone-exp1"], "objects": len(sizes), "bytes": sum(sizes)}
    assert traces(grid, *gone) == []
    assert downloaded(grid, "stays-exp0") == {b"f": b"x"}
    grid("verify", "--deep", "stays")


def test_what_could_not_be_stored_goes_too(grid: Grid) -> None:
    grid("status")
    (grid.home / "store").rename(grid.home / "away")
    submitted(grid.with_env(GRIDKEEP_RETRY_MAX="100ms", GRIDKEEP_SYNC_TIMEOUT="1s"), MANY, name="l")
    (one,) = grid.finished("l")
    assert one["outcome"] == "sync" and (grid.home / "work" / one["experiment_id"]).exists()
    gone = ids(grid, "l")
    (grid.home / "away").rename(grid.home / "store")
    grid("delete", "--yes", "l")
    assert traces(grid, *gone) == []
    assert [os.listdir(grid.home / part) for part in ("work", "journal")] == [[], []]


def test_killed_at_random_moments_it_is_finished_all_the_same(grid: Grid) -> None:
    """By commands that only look: nobody says `delete` again."""
    chance = random.Random(11)
    ran(grid, "open('f', 'w').write('x')", name="stays")
    before = contents(grid.home / "store")
    save(grid, MANY)
    for turn in range(3):
        name = f"d{turn}"
        grid("run", "--follow", "--name", name, "script.py", "--x", "[1,2]")
        gone = ids(grid, name)
        process = grid.start("delete", "--yes", name)
        hidden = wait_for(lambda: not shown(grid, name) or process.poll() is not None, every=0.002)  # noqa: B023
        assert hidden
        time.sleep(chance.random() * 0.15)
        process.kill()
        process.communicate()
        grid("status", name, code=1)
        if turn % 2 and (engine := engines(grid)):
            os.kill(engine[0], signal.SIGKILL)
        wait_for(lambda: grid("status") and not traces(grid, *gone), 60, every=0.1, what="the end of it")  # noqa: B023
    wait_for(lambda: contents(grid.home / "store") == before or None, what="a clean store")
    grid("verify", "--deep", "stays")


def shown(grid: Grid, name: str) -> bool:
    with closing(sqlite3.connect(grid.home / "catalog.db", timeout=20)) as catalog:
        found = catalog.execute("SELECT 1 FROM runs WHERE name = ? AND NOT deleting", (name,))
        return found.fetchone() is not None


def test_only_inside_its_experiment(grid: Grid, tmp_path: Path) -> None:
    """What merely begins like it stays, in the store and in the home."""
    one = ran(grid, "open('f', 'w').write('x')", name="d")
    ulid = one["experiment_id"]
    store = grid.home / "store/experiments"
    neighbours = [f"{ulid}-other", f"{ulid}x", f"{ulid}.old", ulid.upper(), ulid[:-1]]
    for name in neighbours:
        for folder in (store, grid.home / "work", grid.home / "journal"):
            (folder / name / "artifacts").mkdir(parents=True)
            (folder / name / "artifacts/f").write_text("another's")
    (store / f"{ulid}.json").write_text("another's")
    grid("delete", "--yes", "d")
    assert not (store / ulid).exists()
    assert (store / f"{ulid}.json").read_text() == "another's"
    for name in neighbours:
        for folder in (store, grid.home / "work", grid.home / "journal"):
            assert contents(folder / name) == {b"artifacts/f": b"another's"}, (folder, name)


def test_one_experiment_while_another_of_its_run_goes_on(grid: Grid, tmp_path: Path) -> None:
    text = f"""
        import os, sys, time
        open("f", "w").write(sys.argv[2]); print("up", flush=True)
        while sys.argv[2] == "2" and not os.path.exists({str(tmp_path / "end")!r}): time.sleep(0.02)
        open("g", "w").write(sys.argv[2])
    """
    grid("run", "--name", "s", "--parallel", "2", save(grid, text), "--x", "[1,2]")
    wait_for(lambda: experiment(grid, "s-exp0")["state"] == "completed" or None)
    wait_for(lambda: grid("logs", "s-exp1", code=None).stdout or None)
    for words in (("s",), ("run", "s"), ("experiment", "s-exp1"), ("s-exp0", "s-exp1")):
        assert "s-exp1 is still running" in explained(grid("delete", "--yes", *words, code=1))
    assert len(grid.json("status", "s")) == 2
    first, second = (each["experiment_id"] for each in grid.json("status", "s"))
    grid("delete", "--yes", "experiment", "s-exp0")
    assert traces(grid, first) == []
    (tmp_path / "end").touch()
    (left,) = grid.finished("s")
    assert (left["name"], left["state"], left["experiment_id"]) == ("s-exp1", "completed", second)
    assert downloaded(grid, "s-exp1") == {b"f": b"2", b"g": b"2"}
    grid("verify", "--deep", "s")
    gone = ids(grid, "s")
    grid("delete", "--yes", "run", "s")
    assert traces(grid, *gone) == []


def test_a_running_script_is_ended_before_anything_goes(grid: Grid, tmp_path: Path) -> None:
    """With --force; it gets its time to clean up, and what it writes then goes as well."""
    text = f"""
        import signal, sys, time
        def end(*_):
            time.sleep(0.5)
            open("late", "w").write("x" * 1000)
            open({str(tmp_path / "ended")!r}, "w")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        open("f", "w").write("x"); print("up", flush=True)
        time.sleep(60)
    """
    submitted(grid, text, name="a")
    wait_for(lambda: grid("logs", "a", code=None).stdout or None)
    gone = ids(grid, "a")
    grid("delete", "--yes", "--force", "a")
    assert (tmp_path / "ended").exists()
    wait_for(lambda: traces(grid, *gone) == [] or None, what="nothing left")
    assert [os.listdir(grid.home / part) for part in ("work", "journal")] == [[], []]
