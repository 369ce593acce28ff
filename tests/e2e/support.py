"""What the tests of commands share: scripts for whoever runs them, downloads as bytes, and a terminal to look at."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import Finished, Grid, Word, end_processes_of, environment, processes_of

BIN = Path(sys.executable).parent
Shape = dict[str, Any]


@contextmanager
def new_grid(root: Path) -> Iterator[Grid]:
    """`grid` in a home and a project below `root`, for tests that share what was run there."""
    for part in ("project", "user"):
        (root / part).mkdir()
    home = root / "home"
    path = f"{BIN}:{os.environ['PATH']}"
    try:
        yield Grid((str(BIN / "grid"),), home, root / "project", environment(home, root / "user", path))
    finally:
        end_processes_of(home)


# ------------------------------------------------------------------------------------------------------------- runs


def save(grid: Grid, text: str | bytes, name: str = "script.py") -> str:
    """Writes a file into the project, as the user that `grid` runs as; gives its name."""
    path = grid.cwd / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    if grid.uid is not None:
        for each in (path, *path.relative_to(grid.cwd).parents):
            os.chown(grid.cwd / each, grid.uid, grid.uid)
    return name


def submitted(grid: Grid, text: str, *args: Word, options: tuple[Word, ...] = (), name: str = "run") -> str:
    """Submits a script with this text and returns at once; gives the run's name."""
    done = grid("run", "--name", name, *options, save(grid, text), *args)
    assert done.last_line == name
    return name


def ran(
    grid: Grid,
    text: str,
    *args: Word,
    options: tuple[Word, ...] = (),
    name: str = "run",
    timeout: float = 120,
) -> Shape:
    """Runs a script with this text to its end; gives its only experiment."""
    (experiment,) = grid.finished(submitted(grid, text, *args, options=options, name=name), timeout)
    return experiment


def listed(grid: Grid, *names: str) -> dict[str, Shape]:
    """The artifacts in every state by path. Only for names that do not repeat a path."""
    found = grid.json("artifacts", *names)
    by_path = {each["path"]: each for each in found}
    assert len(by_path) == len(found), found
    return by_path


def states(grid: Grid, *names: str) -> dict[str, str]:
    return {path: each["state"] for path, each in listed(grid, *names).items()}


def experiment(grid: Grid, name: str) -> Shape:
    """One experiment by name."""
    run = name.rpartition("-exp")[0]
    (found,) = [each for each in grid.json("status", run) if each["name"] == name]
    assert isinstance(found, dict)
    return found


WORKS_ON = """
import hashlib, os, time
for i in range(60):
    open(f"{i}.bin", "wb").write(hashlib.sha256(b"%d" % i).digest() * 1000)
    open("log", "a").write(f"{i}\\n")
    print(i, flush=True)
    time.sleep(0.05)
"""


def check_work(grid: Grid, name: str) -> Shape:
    """WORKS_ON was kept whole, whatever happened meanwhile; gives its experiment."""
    (one,) = grid.finished(name)
    assert (one["state"], one["reason"], one["exit_code"]) == ("completed", None, 0)
    numbers = "".join(f"{i}\n" for i in range(60)).encode()
    assert downloaded(grid, f"{name}-exp0") == {
        **{b"%d.bin" % i: hashlib.sha256(b"%d" % i).digest() * 1000 for i in range(60)},
        b"log": numbers,
    }
    assert grid("logs", name).stdout_bytes == numbers
    grid("verify", "--deep", name)
    return one


# -------------------------------------------------------------------------------------------------------- downloads


def contents(folder: Path) -> dict[bytes, bytes]:
    """Every file below a folder: its path as bytes, and its bytes."""
    root = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(at, name), root): Path(os.fsdecode(os.path.join(at, name))).read_bytes()
        for at, _, names in os.walk(root)
        for name in names
    }


def downloaded(grid: Grid, name: str, *options: Word) -> dict[bytes, bytes]:
    """What `grid artifacts` brings of a run or an experiment, below a folder of its own."""
    target = grid.cwd.parent / f"download-{time.monotonic_ns()}"
    if grid.uid is not None:
        target.mkdir()
        os.chown(target, grid.uid, grid.uid)
    grid("artifacts", name, "--download_dir", target, *options)
    return contents(target / name) if (target / name).exists() else {}


def inside(path: Path) -> bytes:
    """Where an absolute path lies in a download."""
    return b"_abs/" + os.fsencode(path)[1:]


# -------------------------------------------------------------------------------------------------------- processes


def supervisors(grid: Grid) -> list[int]:
    return _those_with(grid, "gridkeep.supervisor")


def engines(grid: Grid) -> list[int]:
    return _those_with(grid, "gridkeep.runs.dispatcher")


def shims(grid: Grid) -> list[int]:
    """Shims, each followed by its guard."""
    return _those_with(grid, "gridkeep.capture", "gridkeep-shim")


def _those_with(grid: Grid, *words: str) -> list[int]:
    """Those processes of the home that have one of the words in their command, oldest first."""
    found = []
    for pid in processes_of(grid.home):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if any(word in command for word in words):
            found.append(pid)
    return sorted(found)


def kill(pids: list[int]) -> None:
    assert pids, "there is nothing to kill"
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_everything(grid: Grid) -> None:
    """As when the machine dies: engine, supervisors, shims and scripts in one go."""
    pids = processes_of(grid.home)
    for pid in pids:  # none may see another's end
        os.kill(pid, signal.SIGSTOP)
    kill(pids)


# --------------------------------------------------------------------------------------------------------- terminal


@dataclass(frozen=True)
class Shown:
    """What a command wrote to a terminal, escapes and all."""

    returncode: int
    text: str


def in_terminal(
    grid: Grid,
    *args: Word,
    columns: int = 120,
    env: dict[str, str] | None = None,
    act: Callable[[str, int], None] | None = None,
    timeout: float = 60,
) -> Shown:
    """Runs `grid` on a terminal of its own. `act(text so far, descriptor)` is called whenever something new was shown,
    and may write to the descriptor, as someone at the keyboard would."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [*grid.command, *args],
        cwd=grid.cwd,
        env={**grid.env, "TERM": "xterm-256color", **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    seen, end = b"", time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                more = os.read(ours, 65536)
            except OSError:  # nobody has the other side open any more
                break
            seen += more
            if act:
                act(seen.decode(errors="replace"), ours)
        else:
            process.kill()
            raise AssertionError(f"grid {args} still ran after {timeout} s; it showed {seen!r}")
        return Shown(process.wait(10), seen.decode(errors="replace"))
    finally:
        os.close(ours)


def explained(done: Finished) -> str:
    """The sentence of a refusal: one `Error:` line on stderr, perhaps a `Hint:`, nothing on stdout."""
    assert done.stdout == "", str(done)
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, str(done)
    if done.returncode == 1:
        assert all(line.startswith(("Error: ", "Hint: ")) for line in lines), str(done)
    return errors[0].removeprefix("Error: ")
