"""What tests share: `grid` run as people run it, waiting for things, and no process left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")
Word = str | bytes | Path

FINAL = {"completed", "failed", "stopped"}


@dataclass(frozen=True)
class Finished:
    """A command that has ended, with what it printed."""

    args: list[Word]
    returncode: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="surrogateescape")

    @property
    def last_line(self) -> str:
        """The last line of stdout: the run's name, after `grid run`."""
        return self.stdout.splitlines()[-1]

    def json(self) -> Any:
        return json.loads(self.stdout_bytes)

    def __str__(self) -> str:
        words = " ".join(os.fsdecode(word) for word in self.args)
        return f"$ {words}\nexit {self.returncode}\nstdout: {self.stdout}\nstderr: {self.stderr}"


@dataclass(frozen=True)
class Grid:
    """The `grid` command in one home and one folder, as a real process of one user.

    grid("run", "hello.py")                   fails the test unless it exits 0
    grid("status", "nobody", code=1).stderr   an expected error
    grid.json("status", "my-run")             what `--json` printed
    """

    command: tuple[str, ...]
    home: Path
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    uid: int | None = None

    def __call__(
        self,
        *args: Word,
        code: int | None = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 120,
    ) -> Finished:
        """Runs it to its end; `code` None accepts any exit status."""
        process = self.start(*args, cwd=cwd, env=env, stdin=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            raise AssertionError(
                f"grid {args} still ran after {timeout} s; it printed {late.stdout!r}, {late.stderr!r}"
            ) from None
        done = Finished(["grid", *args], process.returncode, out, err)
        assert b"Traceback" not in err and b"An unexpected" not in err, str(done)
        assert code is None or done.returncode == code, str(done)
        return done

    def start(
        self,
        *args: Word,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts it and returns at once; stdout and stderr are pipes."""
        other_user: dict[str, Any] = {}
        if self.uid is not None:
            other_user = {"user": self.uid, "group": self.uid, "extra_groups": []}
        return subprocess.Popen(
            [*self.command, *args],
            cwd=cwd or self.cwd,
            env={**self.env, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **other_user,
        )

    def json(self, *args: Word, **how: Any) -> Any:
        return self(*args, "--json", **how).json()

    def with_env(self, **more: str) -> Grid:
        """The same, with more variables."""
        return replace(self, env={**self.env, **more})

    def finished(self, run: str, timeout: float = 120) -> list[dict[str, Any]]:
        """Waits until no experiment of the run is active; its experiments. `grid status` says so, and is asked once a
        second (it also brings an engine back that was killed) or when the catalog has the end: a process that is started
        over and over takes the time of those that are waited for."""

        def ended() -> list[dict[str, Any]] | None:
            experiments: list[dict[str, Any]] = self.json("status", run)
            if all(each["state"] in FINAL for each in experiments):
                return experiments
            soon = time.monotonic() + 1
            while self._is_active(run) and time.monotonic() < soon:
                time.sleep(0.02)
            return None

        return wait_for(ended, timeout, every=0.1, what=f"the end of {run}")

    def _is_active(self, run: str) -> bool:
        """Whether the catalog has an active experiment of a run of this name. False when it cannot be told."""
        active = """SELECT 1 FROM experiments JOIN runs USING (run_id)
                    WHERE name = ? AND NOT runs.deleting AND state NOT IN ('completed', 'failed', 'stopped')"""
        try:
            with closing(
                sqlite3.connect(f"file:{quote(str(self.home))}/catalog.db?mode=ro", uri=True)
            ) as catalog:
                return catalog.execute(active, [run]).fetchone() is not None
        except sqlite3.Error:
            return False


def wait_for(
    condition: Callable[[], T | None],
    timeout: float = 30,
    *,
    every: float = 0.02,
    what: str = "the condition",
) -> T:
    """The first true value of `condition`; fails the test after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {timeout} s (last seen: {value!r})"
        time.sleep(every)
    return value


def environment(home: Path, user_home: Path, path: str) -> dict[str, str]:
    """This process's environment without anything of ours in it but the test's own home."""
    ours = re.compile("GRID(KEEP)?_|NO_COLOR$|FORCE_COLOR$|COLUMNS$|PYTHON(PATH|HOME)$|VIRTUAL_ENV$")
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return {**kept, "GRIDKEEP_HOME": str(home), "HOME": str(user_home), "PATH": path}


# --------------------------------------------------------------------------------------- processes


def processes_of(home: Path) -> list[int]:
    """The processes that have this home in their command, environment or current folder: engines, supervisors, shims,
    scripts, and whatever these started."""
    mention = re.compile(re.escape(os.fsencode(home)) + rb"(?![^/\0:'\" ])")
    return [pid for pid in _pids() if pid != os.getpid() and mention.search(_traces(pid))]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _traces(pid: int) -> bytes:
    found = b""
    try:
        found += Path(f"/proc/{pid}/cmdline").read_bytes() + b"\0"
        found += Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
        found += os.readlink(f"/proc/{pid}/cwd".encode())
    except OSError:  # gone meanwhile, a zombie, or another user's
        pass
    return found


def end_processes_of(home: Path, timeout: float = 20) -> None:
    """Kills them all, and those that they start meanwhile, until there are none."""
    end = time.monotonic() + timeout
    while left := [pid for pid in processes_of(home) if not _is_zombie(pid)]:
        assert time.monotonic() < end, f"processes of {home} cannot be ended: {left}"
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True
