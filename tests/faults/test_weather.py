"""A restart of the machine under a run, brought about on purpose; and proof that the rounds' weather is what it says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from gridkeep.catalog.sqlite import open_catalog
from tests.faults import disks, weather
from tests.support import Grid, wait_for


@pytest.fixture
def library(tmp_path: Path) -> Path:
    found = disks.build_faulty(tmp_path)
    if found is None:
        pytest.skip("there is no C compiler")
    return found


@pytest.fixture
def memory(grid: Grid) -> Iterator[Path]:
    """A folder in the machine's memory, which a restart of this round wipes."""
    folder = weather.memory_of(grid.cwd.parent)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def goes_down(grid: Grid) -> None:
    assert weather.restart(grid, grid.cwd.parent)


def states(grid: Grid) -> dict[str, str]:
    """Of the files, by their names."""
    return {one["path"].rpartition("/")[2]: one["state"] for one in grid.json("artifacts", "r-exp0")}


def goes_down_in_its_last_moment(grid: Grid, memory: Path, stored: int) -> dict[str, Any]:
    """When so many files are stored the script goes on, and the machine goes down when it is done."""
    wait_for(lambda: list(states(grid).values()).count("stored") == stored)
    (memory / "go").touch()
    wait_for(lambda: next(grid.home.glob("work/*/done"), None), every=0.001)
    goes_down(grid)
    (one,) = grid.finished("r")
    assert (one["state"], one["outcome"]) == ("failed", "lost")
    return one


def test_what_lay_in_memory_is_stored_or_missed_but_not_removed(grid: Grid, memory: Path) -> None:
    """One file has been stored, one was removed by the run, one was rewritten and one begun just before the end."""
    (grid.cwd / "script.py").write_text(
        "import pathlib, sys, time\n"
        "memory = pathlib.Path(sys.argv[1])\n"
        "for name in ('stored', 'rewritten', 'removed'): (memory / name).write_text(name)\n"
        "pathlib.Path('kept').write_text('on the disk')\n"
        "while not (memory / 'go').exists(): time.sleep(0.01)\n"
        "(memory / 'removed').unlink()\n"
        "(memory / 'rewritten').write_text('again')\n"
        "(memory / 'begun').write_text('begun')\n"
        "pathlib.Path('done').touch()\n"
        "time.sleep(60)\n"
    )
    grid("run", "--name", "r", "--strategy", "none", "script.py", memory)
    one = goes_down_in_its_last_moment(grid, memory, 4)
    found = states(grid)
    assert found.pop("done") == found.pop("kept") == "stored"
    assert found.pop("stored") == "stored"
    assert found.pop("removed") == "removed"
    assert set(found) == {"rewritten", "begun"}
    for name, state in found.items():  # unless they were stored in the last moment
        assert state in ("missing", "stored"), (name, state)
    assert found["begun"] == "missing" or one["missing"] == 0
    for artifact in grid.json("artifacts", "r-exp0"):
        if artifact["state"] == "missing":
            assert "it lay in memory" in artifact["reason"]
    grid("verify", "--deep", "r-exp0")


def test_a_file_in_memory_that_was_written_by_its_other_name(grid: Grid, memory: Path) -> None:
    """The one name was stored before; the other not, or in another version."""
    (grid.cwd / "script.py").write_text(
        "import os, pathlib, sys, time\n"
        "memory = pathlib.Path(sys.argv[1])\n"
        "for name in ('linked', 'same'): (memory / name).write_text(name)\n"
        "os.link(memory / 'same', memory / 'twin')\n"
        "while not (memory / 'go').exists(): time.sleep(0.01)\n"
        "os.link(memory / 'linked', memory / 'other')\n"
        "(memory / 'other').write_text('again')\n"
        "pathlib.Path('done').touch()\n"
        "time.sleep(60)\n"
    )
    grid("run", "--name", "r", "--strategy", "none", "script.py", memory)
    goes_down_in_its_last_moment(grid, memory, 3)
    found = states(grid)
    assert (found["same"], found["twin"], found["linked"]) == ("stored", "stored", "missing")
    assert found["other"] in ("missing", "stored")
    (linked,) = [each for each in grid.json("artifacts", "r-exp0") if each["path"].endswith("/linked")]
    assert "may be an earlier version" in linked["reason"]


def test_it_starts_again_in_the_same_working_copy(grid: Grid) -> None:
    (grid.cwd / "script.py").write_text(
        "import pathlib, time\n"
        "again = pathlib.Path('first').exists()\n"
        "pathlib.Path('second' if again else 'first').touch()\n"
        "time.sleep(0 if again else 60)\n"
    )
    grid("run", "--name", "r", "--auto_resume", "script.py")
    wait_for(lambda: next(grid.home.glob("work/*/first"), None))
    goes_down(grid)
    (one,) = grid.finished("r")
    assert (one["state"], one["attempt"], one["artifacts"]) == ("completed", 2, 2)


def test_an_end_that_was_noted_stands(grid: Grid, memory: Path) -> None:
    """The store is away, so that the machine goes down between the script's end and that of the experiment."""
    (grid.cwd / "script.py").write_text(
        "import pathlib, sys\n"
        "memory = pathlib.Path(sys.argv[1])\n"
        "pathlib.Path('made').write_text('x')\n"
        "(memory / 'gone').write_text('x')\n"
        "(memory / 'removed').write_text('x')\n"
        "(memory / 'removed').unlink()\n"
        "raise SystemExit(3)\n"
    )
    grid("status")
    (grid.home / "store").rename(grid.home / "away")
    grid("run", "--name", "r", "--strategy", "none", "script.py", memory)
    wait_for(lambda: grid.json("status", "r")[0]["state"] == "syncing")
    assert not weather.restart(grid, grid.cwd.parent)
    (grid.home / "away").rename(grid.home / "store")
    (one,) = grid.finished("r")
    assert (one["state"], one["exit_code"], one["artifacts"], one["missing"]) == ("failed", 3, 1, 1)
    found = {each["path"].rpartition("/")[2]: each["state"] for each in grid.json("artifacts", "r-exp0")}
    assert found.pop("removed", "removed") == "removed"
    assert found == {"made": "stored", "gone": "missing"}


def test_a_run_that_ended_before_it_began(grid: Grid) -> None:
    """The clock was set back while it ran."""
    grid("run", "--follow", "--name", "r", "true")
    catalog = open_catalog(str(grid.home / "catalog.db"))
    try:
        one = catalog.experiment("r-exp0")
        assert one is not None and one.finished_at is not None
        catalog.update_experiment(one.experiment_id, ended_at=1000.0, finished_at=1000.0)
    finally:
        catalog.close()
    (run,) = grid.json("history")
    (experiment,) = grid.json("status", "r")
    assert (run["duration_s"], experiment["run_s"]) == (0, 0)
    for words in (
        ["history"],
        ["status", "r"],
        ["status"],
        ["logs", "r"],
        ["verify", "r"],
        ["artifacts", "r"],
    ):
        grid(*words)


# ------------------------------------------------------------------------------------------------- the library itself


def test_the_wall_clock_is_set_for_all_programs_alike(library: Path) -> None:
    kinds = {"right": (-5.0, 5.0), "ahead": (3000.0, inf), "behind": (-inf, -3000.0)}
    seen: set[str] = set()
    for seed in range(1, 500):
        env = {**os.environ, "LD_PRELOAD": str(library), "FAULTY_CLOCK": str(seed)}
        began = time.monotonic() // 2
        by_python = subprocess.check_output(
            [sys.executable, "-c", "import time; print(time.time())"], env=env
        )
        by_c = subprocess.check_output(["date", "+%s"], env=env)
        if began == time.monotonic() // 2:  # else it may have been set between the two
            assert abs(float(by_python) - float(by_c)) < 5
            wrong = float(by_c) - time.time()
            seen |= {kind for kind, (least, most) in kinds.items() if least < wrong < most}
        if seen == kinds.keys():
            return
    raise AssertionError(f"only {seen} in {seed} tries")


def test_a_program_dies_as_often_as_it_has_lives_to_lose(library: Path, tmp_path: Path) -> None:
    env = {
        **os.environ,
        **disks.preloading(library, tmp_path / "log", 1),
        "FAULTY_PROGRAM": "mortal",
        "FAULTY_PATHS": str(tmp_path / "below"),
        "FAULTY_DEATH": "1",
        "FAULTY_LIVES": str(tmp_path / "life"),
    }
    (tmp_path / "life.3").touch()

    def write(name: str, program: str = "mortal") -> int:
        words = [sys.executable, "-c", f"open({str(tmp_path / name)!r}, 'w').write('whole')", program]
        return subprocess.run(words, env=env).returncode

    assert write("beside") == 0
    assert write("below", "immortal") == 0
    assert write("below") == -signal.SIGKILL
    assert write("below") == 0
    assert (tmp_path / "below").read_text() == "whole"
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith("death")
