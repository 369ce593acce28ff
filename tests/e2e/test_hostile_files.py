"""Links, loops, pipes and devices where files are looked for: nobody hangs, and nothing behind a link is taken for a file
of the run."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.e2e.support import downloaded, experiment, kill, listed, ran, states, submitted, supervisors
from tests.support import Grid, wait_for

SECRET = b"nobody's business: " + bytes(range(256))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's that no run has any business with."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def untouched(grid: Grid, outside: Path) -> None:
    """The folder is as it was, and no byte of it is in the home."""
    assert {path.name for path in outside.iterdir()} == {"secret"}
    assert (outside / "secret").read_bytes() == SECRET
    for path in grid.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET not in path.read_bytes(), path


def clean(grid: Grid) -> None:
    """Nothing of what is over is left in the home."""
    for part in ("work", "journal"):
        wait_for(lambda: os.listdir(grid.home / part) == [] or None, what=f"an empty {part}/")  # noqa: B023


def make_specials(folder: Path, outside: Path) -> None:
    (folder / "loop-a").symlink_to("loop-b")
    (folder / "loop-b").symlink_to("loop-a")
    (folder / "self").symlink_to("self")
    (folder / "up").symlink_to("..")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "file-out").symlink_to(outside / "secret")
    (folder / "folder-out").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s"))
    if os.getuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(folder / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def test_among_the_inputs(grid: Grid, outside: Path) -> None:
    for folder in (grid.cwd, grid.cwd / "sub"):
        folder.mkdir(exist_ok=True)
        make_specials(folder, outside)
    one = ran(
        grid,
        """
        import os
        assert open("file-out", "rb").read() and os.path.islink("sub/up")
        open("sub/up/up/written through a loop" if os.path.exists("sub/up/up/x") else "plain", "w").write("x")
        open("sub/up/sub/up/round about", "w").write("y")
        """,
    )
    assert (one["state"], one["missing"]) == ("completed", 0)
    assert downloaded(grid, "run-exp0") == {b"plain": b"x", b"round about": b"y"}
    untouched(grid, outside)
    clean(grid)


@pytest.mark.parametrize("capture", ["auto", "python", "watch"])
def test_made_by_the_run(grid: Grid, outside: Path, capture: str) -> None:
    one = ran(
        grid.with_env(GRIDKEEP_CAPTURE=capture),
        f"""
        import os, sys
        sys.path.insert(0, {os.getcwd()!r})
        from pathlib import Path
        from tests.e2e.test_hostile_files import make_specials
        os.mkdir("sub")
        for folder in (".", "sub"):
            os.chdir(folder)
            make_specials(Path(), Path({str(outside)!r}))
        open("folder", "w").write("x")
        """,
        options=("--exclude", "__pycache__"),
    )
    assert (one["state"], one["missing"], one["reason"]) == ("completed", 0, None)
    assert downloaded(grid, "run-exp0") == {b"sub/folder": b"x"}
    found = listed(grid, "run")
    assert found["sub/pipe"]["reason"] == found["pipe"]["reason"] == "pipe"
    assert found["sub/loop-a"]["reason"] == "symbolic link to loop-b"
    assert found["file-out"]["reason"] == f"symbolic link to {outside}/secret"
    assert {each["state"] for path, each in found.items() if path != "sub/folder"} == {"ignored"}
    untouched(grid, outside)
    clean(grid)


SWAP = """
import os, sys, threading, time
secret = sys.argv[1]
os.mkdir("d"); os.mkdir("e")
end = time.monotonic() + 1.5
def place(make, name):
    make(name + ".new"); os.rename(name + ".new", name)
def content(name):
    with open(name, "w") as file: file.write(f"mine {time.monotonic_ns()}")
turns = 0
while time.monotonic() < end:
    for name in ("a", "b", "d/c"):
        place(content, name)
        place(lambda each: os.symlink(secret, each), name)
        place(content, name)
        place(os.mkfifo, name)
    time.sleep(0.001)
    turns += 1
for name in ("a", "d/c"):
    place(lambda each: open(each, "w").write("the last"), name)
print(turns)
"""


@pytest.mark.parametrize("capture", ["auto", "watch"])
def test_swapped_for_links_and_pipes_between_look_and_open(grid: Grid, outside: Path, capture: str) -> None:
    """Again and again while the supervisor looks at them; whatever it meets, it neither follows nor waits."""
    quick = grid.with_env(GRIDKEEP_CAPTURE=capture, GRIDKEEP_QUIET="1ms", GRIDKEEP_QUIET_MAX="2ms")
    one = ran(quick, SWAP, outside / "secret")
    assert (one["state"], one["missing"], one["reason"]) == ("completed", 0, None)
    assert int(grid("logs", "run").stdout) > 10
    assert downloaded(grid, "run-exp0") == {b"a": b"the last", b"d/c": b"the last"}
    assert states(grid, "run")["b"] == "ignored"
    untouched(grid, outside)
    grid("verify", "--deep", "run")


def test_a_folder_swapped_for_a_link(grid: Grid, outside: Path) -> None:
    """What lies behind the link is not what the run wrote, though it bears the name."""
    one = ran(
        grid,
        f"""
        import os, time
        os.mkdir("d"); open("d/secret", "w").write("mine"); open("d/other", "w").write("mine too")
        time.sleep(1)
        os.rename("d", "kept"); os.symlink({str(outside)!r}, "d")
        time.sleep(1)
        """,
    )
    assert (one["state"], one["missing"]) == ("completed", 0)
    assert downloaded(grid, "run-exp0") == {b"kept/secret": b"mine", b"kept/other": b"mine too"}
    untouched(grid, outside)


@pytest.mark.parametrize("again", [False, True], ids=["", "supervisor-replaced"])
def test_a_working_copy_that_was_swapped_for_a_link(grid: Grid, outside: Path, again: bool) -> None:
    """It is not looked through, not removed, and nobody stumbles over it."""
    name = submitted(
        grid,
        f"""
        import os, time
        open("f", "w").write("x")
        here = os.getcwd()
        os.rename(here, here + "-moved"); os.symlink({str(outside)!r}, here)
        print("swapped", flush=True)
        time.sleep(2)
        """,
    )
    wait_for(lambda: grid("logs", name).stdout or None)
    if again:
        kill(supervisors(grid))
    (one,) = grid.finished(name)
    assert one["state"] == "completed"
    untouched(grid, outside)
    assert ran(grid, "open('g', 'w').write('y')", name="next")["state"] == "completed"
    wait_for(lambda: not os.path.lexists(grid.home / "work" / one["experiment_id"]) or None)
    grid("delete", "--yes", "run", name)
    untouched(grid, outside)


def test_a_working_copy_that_the_run_removed(grid: Grid) -> None:
    one = ran(grid, "import os, shutil; open('f', 'w').write('x'); shutil.rmtree(os.getcwd())")
    assert (one["state"], one["missing"]) == ("completed", 0)
    assert states(grid, "run") == {"f": "removed"}
    assert experiment(grid, "run-exp0")["artifacts"] == 0
    clean(grid)
