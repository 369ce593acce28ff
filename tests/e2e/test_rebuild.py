"""A lost catalog: nothing in the home goes for that, and `grid catalog rebuild` brings everything back from the store."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import (
    WORKS_ON,
    check_work,
    contents,
    downloaded,
    engines,
    experiment,
    explained,
    kill,
    kill_everything,
    listed,
    ran,
    save,
    submitted,
    supervisors,
)
from tests.support import Finished, Grid, processes_of, wait_for


def store_uri(grid: Grid) -> str:
    return f"file://{grid.home}/store"


def rebuild(grid: Grid, *options: str, code: int = 0) -> Finished:
    return grid("catalog", "rebuild", store_uri(grid), *options, code=code)


def everything(grid: Grid) -> dict[str, Any]:
    """All that `--json` says of all runs that have ended."""
    history = grid.json("history")
    names = [run["name"] for run in history]
    shown: dict[str, Any] = {"history": history}
    for name in names:
        shown[name] = grid.json("status", name), grid.json("artifacts", name)
    return shown


def last_change(grid: Grid) -> int:
    with sqlite3.connect(grid.home / "catalog.db") as database:
        return int(database.execute("SELECT last FROM change_counter").fetchone()[0])


def lose_catalog(grid: Grid, *, with_wal: bool = True) -> None:
    for name in ["catalog.db", *(["catalog.db-wal", "catalog.db-shm"] if with_wal else [])]:
        (grid.home / name).unlink(missing_ok=True)


def rest(grid: Grid) -> None:
    """Until no process of the home is left."""
    wait_for(lambda: not processes_of(grid.home) or None, what="an idle home")


def check_whole_work(grid: Grid, name: str) -> None:
    assert check_work(grid, name)["missing"] == 0


def kinds_of_runs(grid: Grid) -> None:
    """A sweep, a failure, odd names and losses of all kinds."""
    save(grid, "import sys; open('f' + sys.argv[2], 'w').write('x'); print('said')")
    grid("run", "--follow", "--name", "sweep", "script.py", "--x", "[1,2,3]")
    ran(
        grid,
        r"""
        import os, sys
        for name in (b"plain", b"a\nb", b"not-utf8-\xff", b"back\\slash", b"_abs", b"removed"):
            open(name, "wb").write(name * 10)
        os.remove("removed"); os.symlink("plain", "link"); os.mkfifo("pipe")
        os.makedirs("_enc"); open("_enc/x", "w").write("mine"); open("empty", "w")
        os.makedirs("__pycache__"); open("__pycache__/a.pyc", "w").write("ignored")
        sys.exit(3)
        """,
        options=("--exclude", "*.log", "--timeout", "1h"),
        name="odd",
    )
    ran(grid, "import os; os.kill(os.getpid(), 9)", name="killed")


# ------------------------------------------------------------------------------------------------- what has ended


def test_the_same_listings_come_back_and_twice_changes_nothing(grid: Grid) -> None:
    kinds_of_runs(grid)
    submitted(grid, "import time; time.sleep(60)", options=("--cpus", "1000"), name="blocks")
    submitted(grid, "print(1)", options=("--cpus", "1000"), name="never")
    wait_for(lambda: experiment(grid, "blocks-exp0")["state"] == "running" or None)
    grid("stop", "never")
    grid("stop", "blocks")
    rest(grid)
    before = everything(grid)
    lose_catalog(grid)
    done = rebuild(grid)
    assert done.stderr == ""
    assert "sweep: 3 experiments brought back; 3 files, 3 B\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("7 experiments brought back; 5 runs with ")
    assert everything(grid) == before
    change = last_change(grid)
    again = rebuild(grid)
    assert "sweep: 3 as before; 3 files" in again.stdout
    assert last_change(grid) == change
    assert everything(grid) == before
    grid("verify", "--deep", "sweep", "odd", "killed")
    assert grid("logs", "sweep-exp1").stdout == "said\n"
    assert [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []]


def test_it_can_be_killed_and_the_next_one_goes_on(grid: Grid) -> None:
    for name in ("a", "b", "c"):
        ran(grid, "for i in range(2500): open(f'{i}', 'w').write(str(i))", name=name)
    rest(grid)
    before = everything(grid)
    lose_catalog(grid)
    killed = 0
    for pause in (0.3, 0.5, 0.7, 0.9, 1.1):
        process = grid.start("catalog", "rebuild", store_uri(grid))
        time.sleep(pause)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    assert killed
    rebuild(grid)
    assert everything(grid) == before


def test_a_rebuild_that_was_cut_off_says_so(grid: Grid) -> None:
    """Until all of an experiment's files are recorded again it is not called completed."""
    ran(grid, "for i in range(20000): open(f'{i}', 'w').close()", name="big")
    rest(grid)
    before = everything(grid)
    lose_catalog(grid)
    process = grid.start("catalog", "rebuild", store_uri(grid))
    database = f"file:{grid.home}/catalog.db?mode=ro"

    def begun() -> bool:
        try:
            with sqlite3.connect(database, uri=True) as opened:
                return bool(
                    opened.execute("SELECT artifacts FROM experiments WHERE artifacts > 0").fetchone()
                )
        except sqlite3.Error:
            return False

    wait_for(begun, every=0.001)
    process.kill()
    process.communicate()
    one = experiment(grid, "big-exp0")
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    assert "being rebuilt" in one["reason"]
    rebuild(grid)
    assert everything(grid) == before


def test_a_run_whose_name_was_taken_meanwhile_gets_a_free_one(grid: Grid) -> None:
    ran(grid, "open('old', 'w').write('old')", name="name")
    rest(grid)
    lose_catalog(grid)
    ran(grid, "open('new', 'w').write('new')", name="name")
    rest(grid)
    done = rebuild(grid)
    assert (
        "name-2: 1 experiment brought back; 1 file, 3 B (was name: another run has that name)" in done.stdout
    )
    assert downloaded(grid, "name-2-exp0") == {b"old": b"old"}
    assert downloaded(grid, "name-exp0") == {b"new": b"new"}
    (new, old) = rebuild(grid, "--json").json()[::-1]
    assert (old["name"], old["unchanged"], new["name"], new["unchanged"]) == ("name-2", 1, "name", 1)


def test_a_run_that_was_deleted_does_not_come_back(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="stays")
    ran(grid, "open('f', 'w').write('x')", name="gone")
    grid("delete", "--yes", "gone")
    rest(grid)
    lose_catalog(grid)
    rebuild(grid)
    assert [run["name"] for run in grid.json("history")] == ["stays"]


def test_the_store_of_another_home(grid: Grid, tmp_path: Path) -> None:
    ran(grid, "open('f', 'w').write('x')", name="a")
    (found,) = grid.json("artifacts", "a")
    other = grid.with_env(GRIDKEEP_HOME=str(tmp_path / "elsewhere"))
    other("catalog", "rebuild", store_uri(grid))
    assert other.json("artifacts", "a") == [found]
    (run,) = other.json("history")
    assert run["cluster"] == "local-2", "its own store is called local"
    assert downloaded(other, "a-exp0") == {b"f": b"x"}


# ----------------------------------------------------------------------------------- what is damaged, and not there


def test_what_cannot_be_brought_back_is_named_and_the_rest_is(grid: Grid) -> None:
    for name in ("whole", "cut", "torn", "nameless", "odd"):
        ran(grid, f"open('f', 'w').write({name!r})", name=name)
    rest(grid)
    ids = {
        name: experiment(grid, f"{name}-exp0")["experiment_id"] for name in ("cut", "torn", "nameless", "odd")
    }
    folder = grid.home / "store/experiments"
    manifest = folder / ids["cut"] / "manifest.jsonl"
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    (folder / ids["torn"] / "manifest.jsonl").write_bytes(b'{"format": 1')
    (folder / ids["nameless"] / "experiment.json").unlink()
    (folder / ids["odd"] / "experiment.json").write_bytes(b"[]")
    (folder / "strange").mkdir()
    (folder / "strange/file").write_text("x")
    lose_catalog(grid)
    done = rebuild(grid, code=1)
    assert "whole: 1 experiment brought back; 1 file, 5 B\n" in done.stdout
    said = done.stderr.splitlines()
    uri = f"{store_uri(grid)}/experiments"
    assert f"Not brought back: {uri}/strange/: it is no experiment's folder" in said
    assert any(f"{uri}/{ids['cut']}/manifest.jsonl: The manifest is cut off" in line for line in said)
    assert any(
        f"{uri}/{ids['torn']}/manifest.jsonl: The manifest is damaged at line 1" in line for line in said
    )
    assert any(f"{uri}/{ids['nameless']}/: it has no experiment.json" in line for line in said)
    assert any(f"{uri}/{ids['odd']}/: The record of the experiment is damaged" in line for line in said)
    assert len(said) == 5
    for name in ("cut", "torn"):
        one = experiment(grid, f"{name}-exp0")
        assert (one["state"], one["outcome"]) == ("failed", "lost")
        assert one["reason"].startswith(
            "its end is not known: it was rebuilt from the store without a manifest"
        )
        assert downloaded(grid, f"{name}-exp0") == {b"f": name.encode()}
    before, change = everything(grid), last_change(grid)
    rebuild(grid, code=1)
    assert (everything(grid), last_change(grid)) == (before, change)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("file:///nowhere/at/all", "The store's folder /nowhere/at/all is not there."),
        ("ftp://host/x", "ftp://host/x is no store."),
        ("relative/path", "relative/path is no store."),
        ("", " is no store."),
    ],
)
def test_wrong_uris(grid: Grid, uri: str, sentence: str) -> None:
    refused = grid("catalog", "rebuild", uri, code=1 if "nowhere" in uri else 2)
    assert explained(refused) == sentence
    assert "Hint: " in refused.stderr


def test_a_folder_that_is_no_store(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused = grid("catalog", "rebuild", f"file://{tmp_path}/folder", code=1)
    assert "it has no experiments/" in explained(refused)
    assert os.listdir(tmp_path / "folder") == []


def test_a_catalog_that_is_damaged(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="a")
    rest(grid)
    before = everything(grid)
    rest(grid)
    lose_catalog(grid)
    (grid.home / "catalog.db").write_bytes(b"no database at all" * 1000)
    for words in (("status",), ("artifacts", "a"), ("catalog", "rebuild", store_uri(grid))):
        refused = grid(*words, code=1)
        assert "is damaged" in explained(refused)
        assert f"move the catalog away, then `grid catalog rebuild {store_uri(grid)}`" in refused.stderr
    (grid.home / "catalog.db").rename(grid.home / "away.db")
    rebuild(grid)
    assert everything(grid) == before


# ------------------------------------------------------------------------------------------------ what is under way


def test_everything_is_killed_and_the_catalog_lost(any_user: Grid) -> None:
    """As when a machine dies with the disk of the catalog: all that had been written is there."""
    grid = any_user
    submitted(
        grid,
        """
        import os, time
        os.mkdir("out")
        open("out/closed", "w").write("closed")
        opened = open("out/open", "w"); opened.write("flushed"); opened.flush()
        print("printed", flush=True); time.sleep(60)
        """,
        name="m",
    )
    wait_for(lambda: "printed" in grid("logs", "m").stdout or None)
    kill_everything(grid)
    lose_catalog(grid)
    grid("status")
    done = rebuild(grid)
    assert "m: 1 experiment brought back unfinished, going on" in done.stdout
    (one,) = grid.finished("m")
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    assert downloaded(grid, "m-exp0") == {b"out/closed": b"closed", b"out/open": b"flushed"}
    assert grid("logs", "m").stdout == "printed\n"
    grid("verify", "--deep", "m")
    rest(grid)
    before, change = everything(grid), last_change(grid)
    rebuild(grid)
    assert (everything(grid), last_change(grid)) == (before, change)


@pytest.mark.parametrize("at_once", [True, False])
def test_the_catalog_is_lost_while_everything_runs(grid: Grid, at_once: bool) -> None:
    """Nobody is killed: engine and supervisor notice, leave, and others go on with the script that never stopped."""
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: grid("logs", "s").stdout.count("\n") > 10 or None)
    lose_catalog(grid)
    if not at_once:
        assert grid.json("status") == []
        wait_for(lambda: not supervisors(grid) or None, what="the supervisor to leave")
    rebuild(grid)
    check_whole_work(grid, "s")
    assert experiment(grid, "s-exp0")["run_s"] >= 3


def test_supervisor_and_engine_are_killed_and_the_catalog_lost_while_the_script_goes_on(grid: Grid) -> None:
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: grid("logs", "s").stdout.count("\n") > 10 or None)
    kill(engines(grid) + supervisors(grid))
    lose_catalog(grid, with_wal=False)
    rebuild(grid)
    check_whole_work(grid, "s")


def test_the_script_ends_while_nobody_knows_of_it(grid: Grid) -> None:
    """Its files are only in the home then: they stay, whatever other runs come and go, and `grid doctor` tells of them."""
    submitted(
        grid, "import time; open('f', 'w').write('x'); print('up', flush=True); time.sleep(2)", name="s"
    )
    wait_for(lambda: "up" in grid("logs", "s").stdout or None)
    kill(engines(grid) + supervisors(grid))
    lose_catalog(grid)
    rest(grid)
    kept = contents(grid.home / "work")
    for i in range(2):
        ran(grid, "print(1)", name=f"other{i}")
    rest(grid)
    assert contents(grid.home / "work") == kept
    (found,) = [one for one in grid.json("doctor", code=None) if one["name"] == "leftovers"]
    assert found["level"] == "warning"
    assert "1 experiment in the home is not in the catalog" in found["text"]
    assert f"`grid catalog rebuild {store_uri(grid)}`" in found["text"]
    rebuild(grid)
    (one,) = grid.finished("s")
    assert (one["state"], one["exit_code"]) == ("completed", 0)
    assert downloaded(grid, "s-exp0") == {b"f": b"x"}
    assert not [one for one in grid.json("doctor", code=None) if one["name"] == "leftovers"]


def test_queued_experiments_come_back_and_what_was_deleted_or_stopped_does_not_start(grid: Grid) -> None:
    save(grid, "import sys, time; open('f', 'w').write(sys.argv[2]); time.sleep(3)")
    grid("run", "--name", "q", "--parallel", "1", "script.py", "--x", "[0,1,2,3,4]")
    wait_for(lambda: experiment(grid, "q-exp1")["state"] == "running" or None)
    grid("stop", "experiment", "q-exp2")
    grid("delete", "--yes", "--force", "experiment", "q-exp3")
    kill_everything(grid)
    lose_catalog(grid)
    rebuild(grid)
    found = {one["name"]: one["state"] for one in grid.finished("q")}
    assert found == {"q-exp0": "completed", "q-exp1": "failed", "q-exp2": "stopped", "q-exp4": "completed"}
    assert downloaded(grid, "q-exp0") == {b"f": b"0"}
    assert downloaded(grid, "q-exp4") == {b"f": b"4"}
    rest(grid)
    assert [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []]


def test_a_store_that_was_away_from_the_start(grid: Grid) -> None:
    """The home alone knows of the run then."""
    grid("status")
    (grid.home / "store").rename(grid.home / "away")
    submitted(grid.with_env(GRIDKEEP_RETRY_MAX="1s"), "open('f', 'w').write('kept')", name="l")
    wait_for(lambda: experiment(grid, "l-exp0")["state"] == "syncing" or None)
    kill_everything(grid)
    lose_catalog(grid)
    grid("status")
    assert not (grid.home / "store").exists(), "a store that is away must not look like an empty one"
    assert "is not there" in explained(rebuild(grid, code=1))
    (grid.home / "away").rename(grid.home / "store")
    rebuild(grid)
    (one,) = grid.finished("l")
    assert (one["state"], one["exit_code"]) == ("completed", 0)
    assert downloaded(grid, "l-exp0") == {b"f": b"kept"}


def test_an_unfinished_run_of_another_home(grid: Grid, tmp_path: Path) -> None:
    """Its store tells of it, its journal is elsewhere: it comes back as far as its files are stored."""
    submitted(
        grid, "import time; open('f', 'w').write('x'); print('up', flush=True); time.sleep(60)", name="u"
    )
    wait_for(lambda: listed(grid, "u").get("f", {}).get("state") == "stored" or None)
    other = grid.with_env(GRIDKEEP_HOME=str(tmp_path / "elsewhere"))
    other("catalog", "rebuild", store_uri(grid))
    (one,) = other.json("status", "u")
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    assert one["reason"] == "its end is not known: it was rebuilt from the store without a manifest"
    assert downloaded(other, "u-exp0") == {b"f": b"x"}
    before = everything(other)
    other("catalog", "rebuild", store_uri(grid))
    assert everything(other) == before
    grid("stop", "u")
    (ended,) = grid.finished("u")
    other("catalog", "rebuild", store_uri(grid))
    assert other.json("status", "u") == [ended]
    assert other.json("artifacts", "u") == grid.json("artifacts", "u")


def test_a_catalog_that_is_older_than_the_journal(grid: Grid) -> None:
    """A copy from the midst of the run: its supervisor goes on from the journal, and the catalog learns what it lacks."""
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: listed(grid, "s").get("3.bin", {}).get("state") == "stored" or None)
    with sqlite3.connect(grid.home / "catalog.db") as now, sqlite3.connect(grid.home / "backup") as backup:
        now.backup(backup)
    wait_for(lambda: listed(grid, "s").get("30.bin", {}).get("state") == "stored" or None)
    lose_catalog(grid)
    (grid.home / "backup").rename(grid.home / "catalog.db")
    check_whole_work(grid, "s")
    assert len(grid.json("artifacts", "s")) == 61


def test_a_store_by_another_name(grid: Grid, tmp_path: Path) -> None:
    """What is under way here is known by what the store holds, not by how its place is written."""
    submitted(grid, WORKS_ON, name="s")
    wait_for(lambda: listed(grid, "s").get("3.bin", {}).get("state") == "stored" or None)
    kill(engines(grid) + supervisors(grid))
    lose_catalog(grid)
    (tmp_path / "link").symlink_to(grid.home / "store")
    done = grid("catalog", "rebuild", f"file://{tmp_path}/link")
    assert "s: 1 experiment brought back unfinished, going on" in done.stdout
    check_whole_work(grid, "s")


def test_a_catalog_that_is_older_than_what_happened(grid: Grid) -> None:
    """A copy from before the run began to work: nothing is executed again, nothing that was kept is removed, and each run is
    told as it ended."""
    submitted(
        grid, "import time; print('up', flush=True); time.sleep(1); open('f', 'w').write('x')", name="r"
    )
    save(grid, "open('g', 'a').write('x')", "other.py")
    wait_for(lambda: experiment(grid, "r-exp0")["state"] == "running" or None)
    grid("run", "--name", "q", "--cpus", "1000", "other.py")
    assert experiment(grid, "q-exp0")["state"] == "queued"
    with sqlite3.connect(grid.home / "catalog.db") as now, sqlite3.connect(grid.home / "backup") as backup:
        now.backup(backup)
    grid.finished("q")
    grid.finished("r")
    rest(grid)
    before = everything(grid)
    kept = contents(grid.home / "store")
    rest(grid)
    lose_catalog(grid)
    (grid.home / "backup").rename(grid.home / "catalog.db")
    grid("status")
    for name in ("r", "q"):
        (one,) = grid.finished(name)
        assert (one["state"], one["outcome"]) == ("completed", "exit")
    rest(grid)
    assert contents(grid.home / "store") == kept
    assert everything(grid) == before
    rebuild(grid)
    assert everything(grid) == before
