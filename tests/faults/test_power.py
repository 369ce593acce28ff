"""The plug is pulled: whatever a store has taken, and whatever a run called `completed` has, is there afterwards."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gridkeep.stores import durable
from gridkeep.stores.local import LocalStore
from tests.faults import disks
from tests.support import Grid, end_processes_of, wait_for

SIZES = (0, 1, 100, 4096, 10_000, 300_000)


SCRIPT = """
import os, sys
for number in range(400):
    os.makedirs(f"{sys.argv[1]}/{number % 7}", exist_ok=True)
    with open(f"{sys.argv[1]}/{number % 7}/{number}", "wb") as file:
        file.write(os.urandom(number * 17))
with open("large", "wb") as file:
    file.write(os.urandom(5 << 20))
"""


@pytest.fixture(params=[True, False], ids=["journal", "no_journal"])
def plug(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[disks.Plug]:
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    with disks.plugged_in(tmp_path, journal=request.param) as plug:
        yield plug


def test_files_are_made_durable_together_where_there_is_a_journal(
    plug: disks.Plug, request: pytest.FixtureRequest
) -> None:
    folder = os.open(plug.at, os.O_RDONLY)
    try:
        assert durable.commits_together(folder) == ("[journal]" in request.node.name)
    finally:
        os.close(folder)


def test_what_a_store_has_taken_is_there_after_a_power_cut(plug: disks.Plug) -> None:
    """And what nobody made durable is not, or this would prove nothing."""
    store = LocalStore(str(plug.at / "store"), create=True)
    objects = {
        f"experiments/u/{number % 3}/{number}": random.Random(number).randbytes(SIZES[number % len(SIZES)])
        for number in range(120)
    }
    items = list(objects.items())
    for at in range(0, 100, 50):
        taken = store.put_many([(key, io.BytesIO(content)) for key, content in items[at : at + 50]])
        assert not [each for each in taken if isinstance(each, Exception)]
    for key, content in items[100:]:
        store.put(key, io.BytesIO(content))
    lost = plug.at / "not durable"
    lost.write_bytes(bytes(5000))
    plug.pull()
    assert not lost.exists() or not lost.read_bytes()  # the name alone, where there is no journal
    assert {item.key: item.size for item in store.list("")} == {key: len(objects[key]) for key in objects}
    for key, content in items:
        assert b"".join(store.get(key)) == content, key


@pytest.fixture
def plugged(grid: Grid, plug: disks.Plug) -> Iterator[Grid]:
    """`grid` with its home on that disk, and a project that is not."""
    home = plug.at / "home"
    yield replace(grid, home=home, env={**grid.env, "GRIDKEEP_HOME": str(home)})
    end_processes_of(home)


def go_down(grid: Grid, plug: disks.Plug | None = None) -> None:
    """The machine, with that disk, or in good order; the next start of it is another."""
    end_processes_of(grid.home)
    if plug is not None:
        plug.pull()
    for note in grid.home.glob("journal/*/boot"):
        note.write_text("another start of the machine")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("[0-9l]*") if path.is_file()}


@pytest.mark.parametrize("catalog_lost", [False, True], ids=["", "catalog_lost"])
def test_what_is_completed_is_whole_after_a_power_cut(
    plugged: Grid, plug: disks.Plug, tmp_path: Path, catalog_lost: bool
) -> None:
    """Of the home only the store has to be there. What its journals say then is not the truth any more."""
    grid, written = plugged, tmp_path / "written"
    (grid.cwd / "write.py").write_text(SCRIPT)
    grid("run", "--name", "r", "write.py", written)
    (one,) = grid.finished("r", 60)
    assert (one["state"], one["missing"]) == ("completed", 0)
    grid("artifacts", "r", "--download_dir", tmp_path / "before")
    go_down(grid, plug)
    if catalog_lost or grid("status", "r", code=None).returncode != 0:
        for name in grid.home.glob("catalog*"):
            name.unlink()
        grid("catalog", "rebuild", f"file://{grid.home}/store/")
    (one,) = grid.finished("r", 60)
    assert (one["state"], one["missing"]) == ("completed", 0), one
    grid("verify", "--deep", "r")
    grid("artifacts", "r", "--download_dir", tmp_path / "after")
    assert contents(tmp_path / "after") == contents(tmp_path / "before")
    assert len(contents(tmp_path / "after")) == 401


def test_what_was_stored_stays_when_the_plug_is_pulled_while_the_script_works(
    plugged: Grid, plug: disks.Plug, tmp_path: Path
) -> None:
    """Its own files are on that disk too, which has lost them, or half of them: what the store had is kept, and what it had
    not is named."""
    grid, written = plugged, plug.at / "written"
    (grid.cwd / "write.py").write_text("print('hello')\n" + SCRIPT + "import time\ntime.sleep(600)\n")
    grid("run", "--name", "r", "write.py", written, env={"GRIDKEEP_GROWING_INTERVAL": "1"})
    wait_for(lambda: stored(grid, "r") == 401, 60, every=0.2, what="all to be stored")
    wait_for(lambda: any(map(has_bytes, grid.home.glob("store/experiments/*/output.log"))), 30)
    before = {path.name: path.read_bytes() for path in written.rglob("*") if path.is_file()}
    go_down(grid, plug)
    after = contents(written)
    assert after != before, "the plug was pulled too late"
    if grid("status", "r", code=None).returncode:
        grid("catalog", "rebuild", f"file://{grid.home}/store/")
    (one,) = grid.finished("r", 60)
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    grid("verify", "--deep", "r")
    grid("artifacts", "r", "--download_dir", tmp_path / "back")
    found = contents(tmp_path / "back")
    assert {name: found.get(name) for name in before} == before
    assert len(found["large"]) == 5 << 20
    assert one["missing"] == 1  # what it may have written since its last record
    assert "hello" in grid("logs", "r-exp0").stdout


REWRITES = """
import os, sys, time
def put(name, text, mtime=None):
    with open(name, "w") as file:
        file.write(text)
    if mtime: os.utime(name, (mtime, mtime))
if not os.path.exists("again"):
    put("cut", "a long first version"); put("older", "one"); put("emptied", "one"); put("same", "one")
    put("gone", "one"); put("late", "one")
    while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    put("cut", "short"); put("older", "two", 1000000); os.unlink("gone"); put("again", "")
    time.sleep(600)
put("emptied", ""); put("older", "three", 900000); put("late", ""); put("new", "x")
file = open("late", "a"); file.write("later"); file.flush(); time.sleep(1)
"""


@pytest.mark.parametrize("resumed", [False, True])
def test_what_the_disk_has_counts_after_a_restart_in_good_order(
    grid: Grid, tmp_path: Path, resumed: bool
) -> None:
    """The newest version is shorter than the stored one, bears an older date, or was emptied by a later attempt."""
    (grid.cwd / "write.py").write_text(REWRITES)
    options = ["--auto_resume"] if resumed else []
    grid("run", "--name", "r", *options, "write.py", tmp_path / "go")
    wait_for(lambda: stored(grid, "r") == 6, 60, every=0.1, what="the first versions to be stored")
    (tmp_path / "go").touch()
    wait_for(lambda: any(grid.home.glob("work/*/again")), 60, every=0.001)
    go_down(grid)
    (one,) = grid.finished("r", 60)
    assert (one["state"], one["outcome"]) == (("completed", "exit") if resumed else ("failed", "lost"))
    grid("verify", "--deep", "r")
    grid("artifacts", "r", "--download_dir", tmp_path / "back")
    folder = tmp_path / "back" / "r" / "r-exp0"
    found = {path.name: path.read_text() for path in folder.iterdir()}
    first = {"cut": "short", "older": "two", "emptied": "one", "same": "one", "late": "one", "again": ""}
    then = first | {"older": "three", "emptied": "", "late": "later", "new": "x"}
    assert found == (then if resumed else first)


def test_a_store_that_is_away_after_the_restart_is_waited_for_and_the_run_can_be_stopped(grid: Grid) -> None:
    (grid.cwd / "write.py").write_text("import time\nopen('kept', 'w').write('x')\ntime.sleep(600)\n")
    grid("run", "--name", "r", "--auto_resume", "write.py")
    wait_for(lambda: stored(grid, "r") == 1, 60, every=0.1, what="its file to be stored")
    end_processes_of(grid.home)
    (grid.home / "store").rename(grid.home / "away")
    go_down(grid)
    wait_for(lambda: grid.json("status", "r")[0]["waiting_for"], 60, every=0.2)
    grid("stop", "r", timeout=20)
    assert grid.json("status", "r")[0]["state"] == "syncing"
    (grid.home / "away").rename(grid.home / "store")
    (one,) = grid.finished("r", 60)
    assert (one["state"], one["waiting_for"], one["attempt"]) == ("stopped", None, 1)
    grid("verify", "--deep", "r")


def has_bytes(path: Path) -> bool:
    return path.stat().st_size > 0


def stored(grid: Grid, run: str) -> int:
    (one,) = grid.json("status", run)
    return int(one["artifacts"])


def test_code_that_did_not_outlive_the_machine_is_not_executed(plugged: Grid, plug: disks.Plug) -> None:
    """Of one that waited for its turn, and of one that shall go on: each is known, and that its code is not there."""
    grid = plugged
    (grid.cwd / "write.py").write_text("import time\nopen('kept', 'w').write('x')\ntime.sleep(600)\n")
    grid("run", "--name", "r", "--auto_resume", "write.py")
    wait_for(lambda: stored(grid, "r") == 1, 60, every=0.2, what="its file to be stored")
    (grid.cwd / "write.py").write_text("open('g', 'w').write('x')\n")
    grid("run", "--name", "q", "--cpus", "1000", "write.py")
    go_down(grid, plug)
    copies = [path for path in (grid.home / "work").glob("*/write.py") if path.stat().st_size]
    assert not copies, "the plug was pulled too late"
    assert grid("status", "q", code=None).returncode == 0, "what was submitted is known"
    for name in ("r", "q"):
        (one,) = grid.finished(name, 60)
        assert (one["state"], one["outcome"]) == ("failed", "start")
        assert "the run's copy of the code lost" in one["reason"]
    assert [one["path"] for one in grid.json("ls", "r-exp0")] == [None, "kept"]
    grid("verify", "--deep", "r")
