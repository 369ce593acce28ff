"""Executing real programs under capture, as any user, and reading what was seen. One `Bench` for each user and mode; a
mode joins the suite by joining `MODES`."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridkeep.capture.journal import LATE, Op, Record, Stamp
from gridkeep.capture.session import Ending, Launch, Session
from tests.support import end_processes_of, processes_of, wait_for

MODES = ("c", "python")
_START = """
import sys
from gridkeep.capture.session import Launch, Session
Session(sys.argv[1]).start(Launch.decode(sys.stdin.buffer.read()))
"""
Word = str | bytes | Path


@dataclass
class Bench:
    """A folder to work in and whom to work as. `python`: an interpreter that this user may run, with Gridkeep in it."""

    root: Path
    python: str
    uid: int | None
    mode: str
    work: Path = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        self.work = self.folder("work")

    @property
    def is_root(self) -> bool:
        return self.uid is None and os.getuid() == 0

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return self.given(path)

    def given(self, path: Path) -> Path:
        """The same, handed over to the user."""
        if self.uid is not None:
            os.lchown(path, self.uid, self.uid)
        return path

    def file(self, name: str, text: str = "old\n") -> Path:
        """A file in the working folder that is there before the script."""
        path = self.work / name
        path.write_text(text)
        return self.given(path)

    def start(
        self,
        *argv: Word,
        cwd: Path | None = None,
        linger: float = 10,
        kill_grace: float = 5,
        capture: str | None = None,
        place: Path | None = None,
        wait: bool = True,
    ) -> Execution:
        """`place`: for the session and the output; `wait`: until the script has begun."""
        folder = place or self.folder(f"execution-{next(self._numbers)}")
        launch = Launch(
            argv=[os.fsdecode(word) for word in argv],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(self.work),
            },
            cwd=str(cwd or self.work),
            output=str(folder / "output.log"),
            capture=capture or self.mode,
            linger=linger,
            kill_grace=kill_grace,
        )
        execution = Execution(self, Session(str(folder / "capture")), folder, launch)
        execution.start()
        if wait:
            execution.wait_for_start()
        return execution

    def run(self, *argv: Word, lost: int = 0, code: int | None = 0, **how: Any) -> Seen:
        """To the end. Fails the test if the exit code or the number of lost calls is another than expected, or a file
        of the working folder changed unseen."""
        before = _snapshot(self.work)
        seen = self.start(*argv, **how).seen()
        if seen.mode == self.mode:
            unseen = [name for name in _changed(before, _snapshot(self.work)) if not seen.tells_of(name)]
            assert not unseen, f"{unseen}\n{seen}"
        assert seen.counters["lost"] == len([each for each in seen.records if each.op is Op.LOST]) == lost, (
            seen
        )
        assert code is None or seen.ending.exit_code == code, seen
        return seen

    def sh(self, text: str, **how: Any) -> Seen:
        return self.run("/bin/sh", "-ec", textwrap.dedent(text), **how)

    def py(self, text: str, *args: Word, **how: Any) -> Seen:
        return self.run(self.python, "-c", textwrap.dedent(text), *args, **how)

    def start_py(self, text: str, *args: Word, **how: Any) -> Execution:
        return self.start(self.python, "-c", textwrap.dedent(text), *args, **how)


@dataclass
class Execution:
    """One session, perhaps still running."""

    bench: Bench
    session: Session
    folder: Path
    launch: Launch

    def start(self) -> None:
        """As a supervisor that does not look again: nobody reads the journal."""
        if self.bench.uid is None:
            self.session.start(self.launch)
        else:
            self.start_apart()

    def start_apart(self) -> None:
        """As a supervisor that is gone the next moment."""
        subprocess.run(
            [self.bench.python, "-c", _START, self.session.folder],
            input=self.launch.encode(),
            check=True,
            cwd="/",
            user=self.bench.uid,
            group=self.bench.uid,
            extra_groups=[],
        )

    def wait_for_start(self) -> dict[str, Any]:
        return wait_for(self.session.started, every=0.002, what=f"the script's start\n{self.log}")

    @property
    def script(self) -> int:
        return int(self.wait_for_start()["script"])

    @property
    def shim(self) -> int:
        return int(self.wait_for_start()["shim"])

    @property
    def keepers(self) -> list[int]:
        """The shim and its guard: only they have the session's folder in their command, but for a script about to be one."""
        mention = os.fsencode(self.session.folder) + b"\0"
        started = self.session.started() or {"script": None}
        return [
            pid for pid in processes_of(self.folder) if mention in _command(pid) and pid != started["script"]
        ]

    @property
    def guards(self) -> list[int]:
        return [pid for pid in self.keepers if pid != self.shim]

    @property
    def output(self) -> str:
        return (self.folder / "output.log").read_text(errors="backslashreplace")

    @property
    def log(self) -> str:
        """What the shim complained of."""
        path = Path(self.session.folder, "shim.log")
        return path.read_text() if path.exists() else ""

    def wait_for_file(self, name: str) -> Path:
        path = self.bench.work / name
        wait_for(path.exists, every=0.002, what=f"{name}; printed: {self.output}")
        return path

    def seen(self, timeout: float = 60) -> Seen:
        """Waits for the end."""
        wait_for(self.session.end, timeout, every=0.005, what="the end of the execution")
        wait_for(lambda: not self.session.alive(), every=0.005, what="the end of the shim")
        ending = self.session.ending()
        assert ending is not None, self.log
        records = [record for _, record in self.session.records(0)]
        started, end = self.session.started(), self.session.end()
        assert started is not None and end is not None
        assert self.log == "", self.log
        return Seen(self.bench, records, ending, started, end, self.output)


@dataclass
class Seen:
    """What is known after the end."""

    bench: Bench
    records: list[Record]
    ending: Ending
    started: dict[str, Any]
    end: dict[str, Any]
    output: str

    @property
    def mode(self) -> str:
        return str(self.started["mode"])

    @property
    def counters(self) -> dict[str, int]:
        found: dict[str, int] = self.end["counters"]
        return found

    @property
    def calls(self) -> list[str]:
        """What was recorded of the working folder, as `open a`, `rename a b`."""
        return [line for each in self.records if (line := self._line(each)) is not None]

    @property
    def files(self) -> set[str]:
        """Every path of the working folder that a record names."""
        paths = {path for each in self.records for path, _ in each.paths}
        return {name for path in paths if (name := self._name(path)) is not None}

    def tells_of(self, name: str) -> bool:
        """Whether a record names this file of the working folder, or a folder above it that was renamed."""
        return name in self.files or any(str(each) in self.files for each in Path(name).parents)

    @property
    def losses(self) -> list[str]:
        return [os.fsdecode(each.paths[0][0]) for each in self.records if each.op is Op.LOST]

    def before(self, name: str) -> Stamp:
        """What the first record of this path says was there."""
        for each in self.records:
            for path, stamp in each.paths:
                if self._name(path) == name and not each.marks & LATE:
                    return stamp
        raise AssertionError(f"no record of {name}\n{self}")

    def __str__(self) -> str:
        lines = [f"{each.op.name} {each.paths} {each.marks}" for each in self.records]
        return "\n".join([*lines, f"{self.ending}", f"{self.end}", self.output])

    def _line(self, record: Record) -> str | None:
        names = [self._name(path) for path, _ in record.paths]
        if record.op is Op.LOST or all(name is None for name in names):
            return None
        marks = " late" if record.marks & LATE else ""
        return " ".join([record.op.name.lower(), *(name or "-" for name in names)]) + marks

    def _name(self, path: bytes) -> str | None:
        work = os.fsencode(self.bench.work) + b"/"
        return os.fsdecode(path[len(work) :]) if path.startswith(work) else None


@contextmanager
def new_bench(mode: str, python: str, uid: int | None) -> Iterator[Bench]:
    # Not under tmp_path: pytest's folders are closed to other users.
    root = Path(tempfile.mkdtemp(prefix="gridkeep-capture-"))
    root.chmod(0o755)
    try:
        yield Bench(root, python, uid, mode)
    finally:
        end_processes_of(root)
        shutil.rmtree(root, onerror=_open_up)


def users() -> dict[str, int | None]:
    """Whom the suite is run as: whoever runs the tests (None), and an ordinary user if that is root."""
    found: dict[str, int | None] = {"this_user": None}
    if os.getuid() == 0:
        found["ordinary_user"] = pwd.getpwnam("nobody").pw_uid
    return found


def signal_each(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


def later(seconds: float) -> float:
    """A deadline, for what has to be watched for a while."""
    return time.monotonic() + seconds


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


Snapshot = dict[str, tuple[int, int, int, int]]


def _snapshot(folder: Path) -> Snapshot:
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                found[os.path.relpath(path, folder)] = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns)
    return found


def _changed(before: Snapshot, after: Snapshot) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _open_up(function: Any, path: str, _: Any) -> None:
    """Scripts leave folders behind that nobody may write into."""
    os.chmod(os.path.dirname(path), 0o700)
    os.chmod(path, 0o700)
    function(path)
