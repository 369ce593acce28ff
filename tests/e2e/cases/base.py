"""What a case is, how it is executed, and the oracle: what there really is afterwards, found without Gridkeep's help.

Each case is executed in a process of its own, in the folder `inputs` of the working copy and then in a copy of it
outside. The last line that it prints is what a walk over both found: that is what Gridkeep has to have kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANNOT = 77  # exit status: this machine has no such thing
EVERYWHERE = ("work", "outside")
CASES: dict[str, Case] = {}

# What the test says through the environment.
MODE = os.environ.get("GRIDKEEP_CAPTURE", "c")
SEEING = MODE != "watch"
BASE = Path(os.environ.get("CASES_BASE", "/nonexistent"))  # of all folders outside
TOOLS = BASE / "tools"
IS_ROOT = os.getuid() == 0


@dataclass(frozen=True)
class Loss:
    """Files that may be (and then must be) named as missing. `path`: a pattern of their listed path, None when it is
    unknown; `reason`: a pattern of the reason; `hides`: a pattern of the files that need not be listed by their names
    because of it. `modes`, `users`: where it is so; not `sure`: only if the file was not kept before that."""

    reason: str
    path: str | None = None
    hides: str | None = None
    modes: tuple[str, ...] = ("c", "python")
    users: tuple[str, ...] = ("root", "user")
    sure: bool = True


@dataclass(frozen=True)
class Case:
    """`places`: where it is executed; `removed`: patterns of listed paths that it made and took away, each of which must be
    listed where writes are seen; `comes_and_goes`: the same, of what may be listed (in mode watch folders, too); `swept`:
    how many files only the last sweep can find, by user; `xfail`: what is wrong today, by mode and user."""

    run: Callable[[], None]
    places: tuple[str, ...] = EVERYWHERE
    removed: tuple[str, ...] = ()
    comes_and_goes: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    swept: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    outlives: bool = False  # something goes on when the main program is gone: the oracle waits for that
    exit_code: int | None = 0
    long: bool = False
    xfail: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.run.__name__.removesuffix("_")


def case(**how: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Declares a function as a case: it is called in the folder in which it is to write."""

    def declare(run: Callable[[], None]) -> Callable[[], None]:
        declared = Case(run, **how)
        assert declared.name not in CASES
        CASES[declared.name] = declared
        return run

    return declare


# ----------------------------------------------------------------------------------------------------- for the cases


def sh(text: str) -> None:
    """A text that exits with 77 says that it cannot be done here."""
    done = subprocess.run(["/bin/sh", "-ec", textwrap.dedent(text)])
    if done.returncode == CANNOT:
        cannot(f"this kernel or user has no right to: {text.strip().splitlines()[0]}")
    assert done.returncode == 0, done


def writer(*args: str | bytes, program: str = "writer") -> None:
    """A way of writing that only C knows."""
    done = subprocess.run([TOOLS / program, *args])
    if done.returncode == CANNOT:
        cannot(f"this kernel or file system knows no {args[0]!r}")
    assert done.returncode == 0, (args, done)


def put(name: str | bytes, data: str | bytes = "new\n") -> None:
    with open(name, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def cannot(why: str) -> None:
    """The machine has no such thing: the case is skipped, in so many words."""
    print("cannot:", why, flush=True)
    os._exit(CANNOT)


def forked(action: Callable[[], object]) -> int:
    """Calls it in a child; its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def wait_for_all(pids: Iterable[int]) -> None:
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --------------------------------------------------------------------------------------------------------- execution


def main(name: str) -> None:
    """Executes a case, and prints what came of it."""
    chosen = CASES[name]
    outside = [BASE / place / name for place in ("outside", "user", "mounted", "overlay")]
    roots = [Path.cwd(), *outside, Path("/dev/shm", BASE.name, name)]
    folders = {"work": Path("inputs").absolute(), "outside": outside[0]}
    os.environ |= {"HOME": str(outside[1]), "TMPDIR": str(outside[0] / "tmp")}
    for folder in (os.environ["HOME"], os.environ["TMPDIR"]):
        os.mkdir(folder)
    before = look(roots)
    if chosen.outlives:
        reader, gate = os.pipe()
        if os.fork() == 0:
            os.close(gate)
            os.setsid()
            os.read(reader, 1)  # until nobody is left who could write
            tell(roots[0], before, look(roots))
            os._exit(0)
        os.close(reader)
    code = 0
    for place in chosen.places:
        os.chdir(folders[place])
        if chosen.outlives:
            chosen.run()
        else:
            pid = forked(chosen.run)
            code = code or os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not chosen.outlives:
        tell(roots[0], before, look(roots))
    sys.exit(code)


# ------------------------------------------------------------------------------------------------------------ oracle

Seen = dict[bytes, tuple[Any, ...]]


def look(roots: Iterable[Path]) -> Seen:
    """Everything but folders below the roots: kind, hash (None: it cannot be read), stamps."""
    found: Seen = {}
    for root in roots:
        _look(os.fsencode(root), os.open("/", os.O_PATH), found)
    return found


def _look(folder: bytes, above: int, found: Seen, name: bytes | None = None) -> None:
    """By descriptors, as a path may be longer than the kernel takes."""
    try:
        fd = os.open(name or folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError:
        return
    try:
        for entry in map(os.fsencode, os.listdir(fd)):
            st = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            path = folder + b"/" + entry
            if stat.S_ISDIR(st.st_mode):
                _look(path, fd, found, entry)
            else:
                stamp = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
                found[path] = (_kind(st.st_mode), _sha256(entry, fd, st), stamp)
    finally:
        os.close(fd)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _sha256(name: bytes, folder: int, st: os.stat_result) -> str | None:
    if not stat.S_ISREG(st.st_mode):
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return None
    with open(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tell(cwd: Path, before: Seen, after: Seen) -> None:
    """The last line: `written` (new, or with other bytes) and `touched` (the same bytes, other stamps) by path with their
    hashes, and `others` by path with their kinds."""
    files = {path: each for path, each in after.items() if each[0] == "file"}
    changed = {path: each for path, each in files.items() if before.get(path) != each}
    written = {p: e[1] for p, e in changed.items() if e[1] is None or before.get(p, e[:1])[:2] != e[:2]}
    touched = {path: each[1] for path, each in changed.items() if path not in written}
    others = {path: each[0] for path, each in after.items() if each[0] != "file"}
    shape = {
        name: {os.fsdecode(path): value for path, value in which.items()}
        for name, which in (("written", written), ("touched", touched), ("others", others))
    }
    print(json.dumps({"cwd": str(cwd), **shape}), flush=True)
