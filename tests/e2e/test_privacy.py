"""Other users of the machine can read nothing of a home, whatever the umask, while a run goes on and afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import downloaded, engines, ran, save, submitted
from tests.support import Grid, end_processes_of, wait_for

TALKS = """
import os, time
open("f", "w").write("a secret of mine"); open("growing", "w").write("more of it")
held = open("held", "w"); held.write("x"); held.flush()
print("a secret word", flush=True)
while not os.path.exists("/dev/null/never") and not os.path.exists(os.environ["END"]): time.sleep(0.02)
"""


@pytest.fixture
def in_the_open(grid: Grid) -> Iterator[Grid]:
    """`grid` in a home below a folder that everybody may enter, called with the umask 000."""
    root = Path(tempfile.mkdtemp(prefix="gridkeep-open-"))
    root.chmod(0o755)
    before = os.umask(0)
    try:
        home = root / "home"
        yield Grid(grid.command, home, grid.cwd, {**grid.env, "GRIDKEEP_HOME": str(home)})
    finally:
        os.umask(before)
        end_processes_of(root)
        shutil.rmtree(root)


def loose(home: Path) -> list[str]:
    """What in the home has a mode that lets anybody else in; modes in working copies are the project's own."""
    found = []
    for at, folders, files in os.walk(home):
        inside = Path(at).relative_to(home).parts
        if len(inside) >= 2 and inside[0] == "work":
            continue
        for name in (*folders, *files):
            mode = os.lstat(os.path.join(at, name)).st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                found.append(f"{os.path.join(at, name)} {stat.filemode(mode)}")
    return found


def seen_by_others(*places: Path | str) -> str:
    """What an ordinary user of another name finds and can read of the tests' secrets."""
    if os.getuid() != 0:
        pytest.skip("only root can look as somebody else")
    nobody = pwd.getpwnam("nobody")
    command = 'find "$@" -mindepth 1 2>/dev/null; grep -rls "secret" -D skip "$@" 2>/dev/null; :'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *map(str, places)],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_others_read_nothing(in_the_open: Grid, tmp_path: Path) -> None:
    grid = in_the_open.with_env(END=str(tmp_path / "end"), PASSWORD="a secret")
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    save(grid, TALKS)
    grid("run", "--name", "r", "script.py", "--x", "[1,2]", "--env", "TOKEN=a secret")
    wait_for(lambda: len([each for each in grid.json("artifacts", "r") if each["path"] == "f"]) == 2 or None)
    assert stat.S_IMODE(grid.home.stat().st_mode) == 0o700
    assert loose(grid.home) == []
    assert seen_by_others(grid.home) == ""
    (tmp_path / "end").touch()
    assert {each["state"] for each in grid.finished("r")} == {"completed"}
    grid("stop", "r")
    grid("verify", "--deep", "r")
    grid("doctor", code=None)
    wait_for(lambda: not engines(grid) or None)
    assert loose(grid.home) == []
    assert seen_by_others(grid.home) == ""
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) - shared == set()
    grid("catalog", "rebuild", f"file://{grid.home}/store")
    grid("delete", "--yes", "r")
    assert loose(grid.home) == []


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_home_that_was_there_already(in_the_open: Grid, mode: int) -> None:
    """An empty folder becomes a home, and is closed."""
    grid = in_the_open
    grid.home.mkdir(mode=mode)
    ran(grid, "open('f', 'w').write('a secret')", name="r")
    assert stat.S_IMODE(grid.home.stat().st_mode) == 0o700
    assert loose(grid.home) == []
    assert seen_by_others(grid.home) == ""


def test_a_home_among_other_things(in_the_open: Grid) -> None:
    """It is left open, as it may be meant for others; what is ours in it is closed, and `grid doctor` tells."""
    grid = in_the_open
    grid.home.mkdir(mode=0o755)
    (grid.home / "readme").write_text("for everybody")
    (grid.home / "readme").chmod(0o644)
    submitted(grid, "open('f', 'w').write('a secret')", name="r")
    grid.finished("r")
    assert stat.S_IMODE(grid.home.stat().st_mode) == 0o755
    assert [line for line in loose(grid.home) if "readme" not in line] == []
    names = {line.rpartition("/")[2] for line in seen_by_others(grid.home).splitlines()}
    assert "f" not in names and "output.log" not in names
    assert "chmod 700" in grid("doctor", code=None).stdout
    assert downloaded(grid, "r-exp0") == {b"f": b"a secret"}
