"""One captured execution, as files in a folder: what the supervisor writes to start it, and what the shim leaves behind.

    launch        what to execute (written by the supervisor)
    journal       records, growing (`journal`)
    shared        counters and the receive buffer, mapped by shim and guard
    lock          held (flock) by shim or guard while either lives
    started.json  the shim's and the script's process, once the script has started
    exit.json     how the script ended, fsynced at once
    end.json      when the last descendant was gone: the record of the run

The supervisor may die and be started again at any time: `Session(folder)` picks up where the files are.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gridkeep.capture import journal, processes
from gridkeep.errors import ConfigError
from gridkeep.files import is_locked, read_json, take_lock, write_file

_HERE = os.path.dirname(os.path.abspath(__file__))

COUNTERS = (
    "notices",  # notifications received
    "answered",
    "records",
    "lost",  # calls whose path could not be learnt, or whose record could not be written
    "late",  # calls that went on before we had looked
    "unreadable",  # of the lost: processes that may not be inspected
    "io_uring",  # refused, so that programs fall back to calls that can be seen
    "watchdog",  # answered by the guard because the shim was too slow
    "guard",  # answered by the guard: the shim was stuck, or dead
)
SHARED_SIZE = 2 * mmap.PAGESIZE  # counters in the first page, the receive buffer in the second
NATIVE_SHIM = os.path.join(_HERE, "native", "gridkeep-shim")
_READ = 1 << 20


def shim_command(capture: str, folder: str) -> list[str]:
    """What executes a session: the C shim where it is built, else the Python one. Raises ConfigError when only the C
    shim will do."""
    if capture != "python" and has_native_shim():
        return [NATIVE_SHIM, folder]
    if capture == "c":
        raise ConfigError(
            "Capture is set to `c`, but this installation has no C shim.",
            "Install Gridkeep again where there is a C compiler, or unset GRIDKEEP_CAPTURE.",
        )
    root = os.path.dirname(os.path.dirname(_HERE))
    # Isolated and without site: the shim must start fast, and the same whatever the user's Python variables say.
    boot = (
        "import sys; sys.path.append(sys.argv[1]); from gridkeep.capture.shim import main; main(sys.argv[2])"
    )
    return [sys.executable, "-I", "-S", "-c", boot, root, folder]


def has_native_shim() -> bool:
    """Whether the C shim was built when Gridkeep was installed."""
    return os.access(NATIVE_SHIM, os.X_OK)


@dataclass(slots=True, kw_only=True)
class Launch:
    """What the shim executes. Paths and words may hold any bytes (surrogateescape).

    As a file: `name=value` texts, each ended by NUL; `argv` and `env` (`NAME=VALUE`) come once for each of theirs.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    output: str  # the file that gets what the script prints
    capture: str  # auto, c, python, watch or off
    linger: float  # seconds that descendants may live on after the script
    kill_grace: float  # seconds between SIGTERM and SIGKILL
    umask: int = 0o022

    def encode(self) -> bytes:
        texts = [f"{name}={getattr(self, name)}" for name in ("cwd", "output", "capture")]
        texts += [f"linger={self.linger:f}", f"kill_grace={self.kill_grace:f}", f"umask={self.umask:o}"]
        texts += [f"argv={word}" for word in self.argv]
        texts += [f"env={name}={value}" for name, value in self.env.items()]
        return b"".join(os.fsencode(text) + b"\0" for text in texts)

    @classmethod
    def decode(cls, data: bytes) -> Launch:
        found: dict[str, list[str]] = {"argv": [], "env": []}
        for text in data.split(b"\0")[:-1]:
            name, _, value = os.fsdecode(text).partition("=")
            found.setdefault(name, []).append(value)
        return cls(
            argv=found["argv"],
            env=dict(text.split("=", 1) for text in found["env"]),
            cwd=found["cwd"][0],
            output=found["output"][0],
            capture=found["capture"][0],
            linger=float(found["linger"][0]),
            kill_grace=float(found["kill_grace"][0]),
            umask=int(found["umask"][0], 8),
        )


@dataclass(slots=True, kw_only=True)
class Ending:
    """How the script ended. Exactly one of exit_code, signal and error is set; none when nobody saw it."""

    ended_at: float
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None  # it could not be started


class Session:
    """The supervisor's view of a captured execution; see the module's docstring for the folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._started: dict[str, Any] | None = None

    def start(self, launch: Launch) -> None:
        """Starts the shim, detached from this process. Starting twice is harmless: the second shim finds the lock or the
        beginning taken, and leaves. Raises ConfigError as `shim_command`."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._forget_what_never_began()
        write_file(self._at("launch"), launch.encode())
        with open(self._at("shim.log"), "ab") as log:
            subprocess.Popen(
                shim_command(launch.capture, os.path.abspath(self.folder)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _forget_what_never_began(self) -> None:
        """When a shim was killed before the script began, its guard wrote of an end that was none."""
        if (lock := take_lock(self._at("lock"))) is None:
            return
        try:
            if self.started() is None:
                for name in ("exit.json", "end.json"):
                    with suppress(FileNotFoundError):
                        os.unlink(self._at(name))
        finally:
            os.close(lock)

    def started(self) -> dict[str, Any] | None:
        """`{"shim", "script", "at", "mode", "why"}` once the script runs (or was tried)."""
        if self._started is None:  # written once
            self._started = read_json(self._at("started.json"))
        return self._started

    def ending(self) -> Ending | None:
        """How the script ended; descendants may still be alive."""
        found = read_json(self._at("exit.json"))
        return None if found is None else Ending(**found)

    def end(self) -> dict[str, Any] | None:
        """The record of the run, once no process of it is left: `{"finished_at", "terminated": [programs ended after
        lingering], "mode", "counters"}`."""
        found: dict[str, Any] | None = read_json(self._at("end.json"))
        return found

    def alive(self) -> bool:
        """Whether the shim or its guard lives (or is just being started by another supervisor)."""
        return is_locked(self._at("lock"))

    def age(self) -> float:
        """Seconds since the script was started, whatever the clock was set to meanwhile; 0 when it is not there."""
        started = self.started()
        return processes.age(started["script"]) if started else 0.0

    def counters(self) -> dict[str, int]:
        try:
            with open(self._at("shared"), "rb") as file:
                values = struct.unpack(f"={len(COUNTERS)}Q", file.read(8 * len(COUNTERS)))
        except (OSError, struct.error):
            return {}
        return dict(zip(COUNTERS, values, strict=True))

    def records(self, offset: int) -> Iterator[tuple[int, journal.Record]]:
        """(offset behind it, record) for each record in the journal from `offset` to its present end."""
        try:
            fd = os.open(self._at("journal"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            while True:
                data = os.pread(fd, _READ, offset)
                last = 0
                for last, record in journal.decode(data):
                    yield offset + last, record
                if last == 0:
                    return
                offset += last
        finally:
            os.close(fd)

    def is_whole(self) -> bool:
        """Whether the journal holds all that was recorded. It is not fsynced: a power cut may have cut it off."""
        end = self.end()
        if end is None:
            return False
        found = sum(
            not record.marks & journal.LATE for _, record in self.records(0)
        )  # else it is there twice
        return found >= int(end["counters"]["records"])

    def stop(self) -> bool:
        """Asks the shim to end the script and all its descendants: SIGTERM, grace, SIGKILL. False when there is no shim
        to ask: only its guard may be left, which has no power over them."""
        if (started := self.started()) and self.alive():
            try:
                os.kill(started["shim"], signal.SIGTERM)
            except ProcessLookupError:
                return False
        return True

    def _at(self, name: str) -> str:
        return os.path.join(self.folder, name)
