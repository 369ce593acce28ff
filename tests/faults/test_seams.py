"""Instants so short that random blows rarely meet them, each brought about on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridkeep.capture.session import Launch, Session
from tests.faults import acts, disks, killer
from tests.support import Grid, wait_for


def test_an_end_that_a_guard_noted_of_a_script_that_never_began_is_forgotten(tmp_path: Path) -> None:
    """The shim is killed before `started.json`; its guard sees the tree's end, and says so."""
    session = Session(str(tmp_path / "capture-1"))
    Path(session.folder).mkdir()
    for name, what in (
        ("exit.json", {"ended_at": 1.0, "exit_code": 127}),
        ("end.json", {"finished_at": 1.0}),
    ):
        (tmp_path / "capture-1" / name).write_text(json.dumps(what))
    launch = Launch(
        argv=["/bin/sh", "-c", "sleep 0.3; exit 5"], env={}, cwd="/", output=str(tmp_path / "output.log"),
        capture="auto", linger=1, kill_grace=1,
    )  # fmt: skip
    session.start(launch)
    wait_for(session.started)
    assert session.end() is None
    wait_for(session.end)
    ending = session.ending()
    assert ending is not None and ending.exit_code == 5
    wait_for(lambda: not session.alive())


@pytest.mark.parametrize("capture", ["c", "python"])
def test_a_shim_that_is_killed_before_the_script_began_is_started_again(
    grid: Grid, tmp_path: Path, capture: str
) -> None:
    """It dies as it makes its first file."""
    library = disks.build_faulty(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "life.0").touch()
    mortal = grid.with_env(
        **disks.preloading(library, tmp_path / "log", 1),
        FAULTY_PROGRAM="capture-1",
        FAULTY_PATHS=str(grid.home / "journal"),
        FAULTY_DEATH="1",
        FAULTY_LIVES=str(tmp_path / "life"),
        GRIDKEEP_CAPTURE=capture,
    )
    (grid.cwd / "script.py").write_text("open('began', 'a').write('x')")
    mortal("run", "--name", "r", "script.py")
    (one,) = grid.finished("r")
    assert one["state"] == "completed"
    assert grid("cat", "r-exp0:began").stdout == "x"
    assert "death" in (tmp_path / "log").read_text()


def test_a_supervisor_that_is_killed_while_it_cleans_leaves_nothing(grid: Grid) -> None:
    """The engine, which started it, does the rest, without another command."""
    (grid.cwd / "script.py").write_text(
        "import os\nos.mkdir('many')\nfor i in range(4000): open(f'many/{i}', 'w').close()"
    )
    grid("run", "--name", "r", "--exclude", "many/", "script.py")
    wait_for(lambda: next(grid.home.glob("store/experiments/*/manifest.jsonl"), None), 60, every=0.001)
    wait_for(lambda: acts.final(grid), 60, every=0.001)
    killer.strike(grid.home, killer.Blow(("supervisor",), None, 0))
    wait_for(lambda: not acts.held(grid.home), 30, what="an empty home")
