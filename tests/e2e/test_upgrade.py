"""A home outlives versions: an old catalog opens, a newer one is left alone, and what an old version began goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gridkeep
from tests.e2e.support import WORKS_ON, check_work, downloaded, engines, explained, ran, save, submitted
from tests.support import Grid, wait_for

FIRST = Path(__file__).parent / "first_home"  # made by commit 133a8bc, the first that could do all of it
NEWEST = len(list((Path(gridkeep.__file__).parent / "catalog/migrations").glob("*.sql")))
TABLES = ("change_counter", "clusters", "runs", "experiments", "artifacts", "tombstones")


@contextmanager
def catalog_of(home: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(home / "catalog.db", timeout=20, isolation_level=None)) as connection:
        yield connection


def version_of(home: Path) -> int:
    with catalog_of(home) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def additions(of: str) -> str:
    """What a newer version may do to the tables: add."""
    columns = "".join(f"ALTER TABLE {table} ADD COLUMN {of} TEXT;\n" for table in TABLES)
    return f"{columns}CREATE TABLE {of}_things (id TEXT PRIMARY KEY);\n"


@pytest.fixture
def newer(grid: Grid, tmp_path: Path) -> Grid:
    """`grid` of a version to come, in the same home: this one, with one migration more."""
    package = tmp_path / "newer/gridkeep"
    shutil.copytree(Path(gridkeep.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / f"catalog/migrations/{NEWEST + 1:04}_more.sql").write_text(additions("newer"))
    command = (sys.executable, "-m", "gridkeep.cli.main")
    return replace(grid, command=command).with_env(PYTHONPATH=str(package.parent))


# ------------------------------------------------------------------------------------------------------ an old catalog


@pytest.fixture
def first(grid: Grid) -> Grid:
    """A home as the first version left it."""
    shutil.copytree(FIRST / "store", grid.home / "store")
    with catalog_of(grid.home) as connection:
        connection.executescript((FIRST / "catalog.sql").read_text().replace("@HOME@", str(grid.home)))
    assert version_of(grid.home) == 1
    return grid


def test_a_home_of_the_first_version_lists_downloads_and_verifies(first: Grid) -> None:
    assert first.json("history") == [], "they are somebody else's"
    assert version_of(first.home) == NEWEST
    runs = first.json("history", "--global")
    assert [(run["name"], run["state"], run["artifacts"], run["bytes"]) for run in runs] == [
        ("failed", "failed", 0, 0),
        ("first", "completed", 8, 532),
    ]
    assert [each["params"] for each in first.json("status", "first")] == [{"lr": 1}, {"lr": 2}]
    assert first.json("status", "failed")[0]["reason"] == "exit code 3"
    assert first("logs", "first-exp1").stdout == "trained with --lr 2\n"
    found = first.json("artifacts", "first-exp0")
    states = {each["path"]: each["state"] for each in found}
    assert states.pop("gone") == "removed"
    assert set(states.values()) == {"stored"}
    assert downloaded(first, "first-exp0") == {
        b"empty": b"",
        b"odd\xff\n": b"odd",
        b"out/data.bin": bytes(range(256)),
        b"result.txt": b"--lr 1\n",
    }
    assert first("verify", "--deep", "first", "failed").stdout.splitlines() == [
        "first-exp0: 4 of 4 verified",
        "first-exp1: 4 of 4 verified",
        "failed-exp0: 0 of 0 verified",
    ]


def test_a_home_of_the_first_version_takes_new_runs_and_deletes_old_ones(first: Grid) -> None:
    script = "open('f', 'w').write(open('inputs/first-exp1/result.txt').read())"
    one = ran(first, script, options=("--input", "first-exp1"), name="second")
    assert (one["state"], one["missing"]) == ("completed", 0)
    assert downloaded(first, "second-exp0")[b"f"] == b"--lr 2\n"
    first("delete", "--yes", "experiment", "first-exp0")
    first("verify", "--deep", "first", "second")
    first("delete", "--yes", "first", "failed")
    assert os.listdir(first.home / "store/experiments") == [one["experiment_id"]]


def test_its_catalog_can_be_rebuilt_from_its_store(first: Grid) -> None:
    words = (("history", "--global"), ("status", "first"), ("artifacts", "first", "failed"))
    listed = [first.json(*each) for each in words]
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (first.home / name).unlink(missing_ok=True)
    first("catalog", "rebuild", f"file://{first.home}/store")
    assert [first.json(*each) for each in words] == listed


# ---------------------------------------------------------------------------------------------------- a newer catalog


def test_a_newer_catalog_is_refused_and_left_as_it_is(grid: Grid, newer: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="old")
    newer("status")
    wait_for(lambda: not engines(grid) or None, what="the engine's leave")
    with catalog_of(
        grid.home
    ) as connection:  # what lies beside it goes into it, and another journal is its own choice
        connection.execute("PRAGMA journal_mode = DELETE")
    before = everything(grid.home)
    script = save(grid, "open('g', 'w')")
    for words in (
        *(
            ("run", script),
            ("status",),
            ("status", "old"),
            ("history", "--json"),
            ("logs", "old"),
            ("ls", "old"),
        ),
        *(("artifacts", "old"), ("verify", "old"), ("stop", "old"), ("sync", "old")),
        *(("delete", "--yes", "--force", "old"), ("catalog", "rebuild", f"file://{grid.home}/store")),
    ):
        refused = grid(*words, code=1)
        sentence = (
            f"The catalog is of a newer gridkeep (its version is {NEWEST + 1}, this one knows {NEWEST})."
        )
        assert explained(refused) == sentence
        assert "Hint: Upgrade gridkeep" in refused.stderr
    (finding,) = [each for each in grid.json("doctor", code=1) if each["name"] == "home"]
    assert finding["level"] == "failed" and "newer gridkeep" in finding["text"]
    assert everything(grid.home) == before
    assert not (grid.cwd / "grid_artifacts").exists()
    newer("verify", "--deep", "old")


def everything(home: Path) -> dict[str, Any]:
    """All that lies in a home: each file's hash."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in home.rglob("*")
    }


# ---------------------------------------------------------------------------------------- migrated while it is in use


def test_an_old_supervisor_ends_its_work_while_a_newer_version_migrates(grid: Grid, newer: Grid) -> None:
    """Nothing that has begun is disturbed; what is queued waits for the newer engine, as the old one leaves."""
    submitted(grid, WORKS_ON, name="old")
    save(grid, "open('f', 'w').write('x')", "later.py")
    grid("run", "--name", "later", "--cpus", "1000", "later.py")  # queued: it would have to run alone
    wait_for(lambda: grid.json("status", "old")[0]["artifacts"] or None)
    assert newer.json("status", "old")[0]["state"] == "running"
    assert version_of(grid.home) == NEWEST + 1
    assert "newer gridkeep" in explained(grid("status", code=1))
    check_work(newer, "old")
    (later,) = newer.finished("later")
    assert (later["state"], later["missing"]) == ("completed", 0)
    assert downloaded(newer, "later-exp0") == {b"f": b"x"}


def test_the_old_engine_leaves_work_that_nobody_began_to_the_newer(grid: Grid, newer: Grid) -> None:
    """By itself: no newer command comes to help."""
    submitted(grid, "import time; print('up', flush=True); time.sleep(3)", name="old")
    grid("run", "--name", "later", "--cpus", "1000", save(grid, "print('ran')", "later.py"))
    wait_for(lambda: grid("logs", "old").stdout or None)
    with catalog_of(grid.home) as connection:
        connection.executescript(f"BEGIN;\n{additions('newer')}PRAGMA user_version = {NEWEST + 1};\nCOMMIT;")
    wait_for(lambda: not engines(grid) or None, 20, what="the old engine's leave")
    with catalog_of(grid.home) as connection:
        state = "SELECT state FROM experiments JOIN runs USING (run_id) WHERE name = ?"
        assert connection.execute(state, ("later",)).fetchone() == ("queued",)
        wait_for(lambda: connection.execute(state, ("old",)).fetchone() == ("completed",) or None)
