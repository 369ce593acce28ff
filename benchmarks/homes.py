"""What benchmarks of `grid run` share: a home of their own, runs to their end, and what the run's processes take meanwhile.

Small files are not deleted before the end of a benchmark: ext4 passes by every inode that was deleted in the last minutes
when it looks for a free one (`recently_deleted` in its ialloc.c), so each removal would make the next round slower.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

GRID = str(Path(sys.executable).parent / "grid")
FINAL = ("completed", "failed", "stopped")
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Home:
    """A project and a Gridkeep home below one folder of the disk to be measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        self.home = folder / "home"
        # As a user has it: a program whose modules were compiled once.
        self.environ = {**os.environ, "GRIDKEEP_HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": ""}
        self._numbers = iter(range(10**6))

    def script(self, name: str, text: str) -> Path:
        path = self.project / name
        path.write_text(text)
        return path

    def fresh(self, name: str) -> Path:
        """A name that nothing has yet, beside the project."""
        return self.folder / f"{name}-{next(self._numbers)}"

    def plain(self, *command: str | Path, under: Sequence[str | Path] = ()) -> str:
        """Runs it as it is, or by the program `under` which it is; what it printed."""
        rest()
        return self._run([*map(str, under), sys.executable, *map(str, command)])

    def captured(self, *command: str | Path, quiet: float, memory: bool = False) -> Experiment:
        """Runs it under `grid run` to its end. Looking costs the machine something too: so it looks first after `quiet`
        seconds, then every second; with `memory` at the run's processes ten times a second all the while."""
        rest()
        name = f"run-{next(self._numbers)}"
        self.grid("run", "--name", name, *map(str, command))
        peaks = Peaks(self.home)
        pause = quiet
        while True:
            until = time.monotonic() + pause
            while memory and time.monotonic() < until:
                peaks.look()
                time.sleep(0.1)
            time.sleep(max(0.0, until - time.monotonic()))
            (found,) = json.loads(self.grid("status", name, "--json"))
            if found["state"] in FINAL:
                break
            pause = 1.0
        if found["state"] != "completed" or found["missing"]:
            raise SystemExit(f"The run did not keep its files: {found}")
        return Experiment(found, self.grid("logs", f"{name}-exp0"), peaks.kib)

    def grid(self, *words: str) -> str:
        """Runs a command to its end; what it printed."""
        return self._run([GRID, *words])

    def peak_of(self, *words: str) -> int:
        """The same; the most memory that it took, in KiB."""
        return int(self._run([sys.executable, "-c", PEAK, GRID, *words]))

    def delete(self, experiment: Experiment) -> None:
        """Takes its run away: for files that are few and large."""
        self.grid("delete", "--yes", str(experiment.found["run"]))

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.project, env=self.environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


class Experiment:
    """A finished one. `seconds`: what its script printed last; `kib`: the most that shims and supervisors each took."""

    def __init__(self, found: dict[str, Any], output: str, kib: dict[str, int]) -> None:
        self.found = found
        self.seconds = float(output.split()[-1])
        self.kib = kib

    @property
    def until_final(self) -> float:
        """Seconds from the script's end to the experiment's."""
        ended, finished = (datetime.fromisoformat(self.found[name]) for name in ("ended_at", "finished_at"))
        return (finished - ended).total_seconds()


class Peaks:
    """The highest memory (VmHWM, KiB) of each kind of process that works for a home."""

    _KINDS: ClassVar = {
        "gridkeep.supervisor": "supervisor",
        "gridkeep-shim": "shim",
        "gridkeep.capture.shim": "shim",
    }

    def __init__(self, home: Path) -> None:
        self._mark = os.fsencode(f"GRIDKEEP_HOME={home}") + b"\0"
        self.kib: dict[str, int] = {}

    def look(self) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path("/proc", pid, "cmdline").read_text(errors="replace")
                kind = next((kind for word, kind in self._KINDS.items() if word in command), None)
                if kind and self._mark in Path("/proc", pid, "environ").read_bytes() + b"\0":
                    status = Path("/proc", pid, "status").read_text()
                    found = next(
                        int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")
                    )
                    self.kib[kind] = max(found, self.kib.get(kind, 0))
            except (OSError, StopIteration):
                continue


@contextmanager
def new_home(parent: str | None = None) -> Iterator[Home]:
    """On the disk that holds `parent` (default: where temporary files go); removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gridkeep-bench-", dir=parent))
    try:
        yield Home(folder)
    finally:
        shutil.rmtree(folder)


def rest() -> None:
    """Until the disk has what was written."""
    os.sync()
    time.sleep(1)
