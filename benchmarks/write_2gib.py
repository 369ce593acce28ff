"""What capture costs a script that writes 2 GiB: its own time, plain and under `grid run`, in turn.

    python benchmarks/write_2gib.py [--rounds 5] [--size 2GiB] [--dir FOLDER] [--json]

The script times itself. Capture and sync are on; a round begins when all that the one before has written is on the disk,
kept, and deleted again. Two forms: 2 GiB again and again over the same 256 MiB, which is what the writes cost; and 2 GiB
into a new file, where on a virtual machine the host's supply of fresh memory decides (plain alone: 0.4 to 4 s).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Figure, in_turn, medians, report

from gridkeep.settings import parse_size

PART = 256 * 2**20  # bytes that are written over and over
GRID = str(Path(sys.executable).parent / "grid")

WRITER = """\
import sys, time


def main(path, size, part):
    block = bytes(range(256)) * 4096  # 1 MiB
    with open(path, "wb", buffering=0) as file:
        if part < size:
            fill(file, block, part)  # the memory is there when the clock starts
        start = time.perf_counter()
        for _ in range(size // part):
            file.seek(0)
            fill(file, block, part)
        print(time.perf_counter() - start)


def fill(file, block, size):
    for _ in range(size // len(block)):
        file.write(block)


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=2 * 2**30)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gridkeep-bench-", dir=options.dir))
    try:
        bench = Bench(folder, options.size)
        bench.plain(options.size)  # once for the caches of the machine
        samples = in_turn(
            {
                "over itself, plain": lambda: bench.plain(PART),
                "over itself, under grid run": lambda: bench.captured(PART),
                "new file, plain": lambda: bench.plain(options.size),
                "new file, under grid run": lambda: bench.captured(options.size),
            },
            options.rounds,
        )
    finally:
        shutil.rmtree(folder)
    found = medians(samples)
    figures = [Figure(f"write 2 GiB {job}", seconds, "s") for job, seconds in found.items()]
    for form, bound in (("over itself", 1.03), ("new file", None)):
        plain, ours = samples[f"{form}, plain"], samples[f"{form}, under grid run"]
        ratio = statistics.median(ours) / statistics.median(plain)
        figures.append(Figure(f"{form}: ratio of the medians", ratio, "x", at_most=bound))
    report("write_2gib", figures, samples, as_json=options.json)


class Bench:
    """The two ways to run the writer. Both begin on a machine at rest and leave nothing behind."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        self.script = self.project / "write.py"
        self.script.write_text(WRITER)
        self.target = folder / "written.bin"  # outside the working copy, on the same disk
        self.size = size
        self.environ = {**os.environ, "GRIDKEEP_HOME": str(folder / "home")}

    def plain(self, part: int) -> float:
        rest()
        done = self._run([sys.executable, str(self.script), *self._args(part)])
        self._clean()
        return float(done)

    def captured(self, part: int) -> float:
        rest()
        name = f"write-{time.time_ns()}"
        self._grid("run", "--name", name, str(self.script), *self._args(part))
        experiment = self._completed(name)
        if experiment["state"] != "completed" or experiment["bytes"] != part or experiment["missing"]:
            raise SystemExit(f"The run did not keep its file: {experiment}")
        seconds = float(self._grid("logs", f"{name}-exp0"))
        self._grid("delete", "--yes", name)
        self._clean()
        return seconds

    def _args(self, part: int) -> list[str]:
        return [str(self.target), str(self.size), str(part)]

    def _completed(self, name: str) -> dict[str, object]:
        while True:
            (experiment,) = json.loads(self._grid("status", name, "--json"))
            if experiment["state"] in ("completed", "failed", "stopped"):
                return dict(experiment)
            time.sleep(1)  # seldom: looking must not disturb what is measured

    def _grid(self, *args: str) -> str:
        return self._run([GRID, *args])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.project, env=self.environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command} failed:\n{done.stderr}")
        return done.stdout

    def _clean(self) -> None:
        self.target.unlink(missing_ok=True)


def rest() -> None:
    """Until the disk has what was written and the pages of what was deleted are free again."""
    os.sync()
    time.sleep(2)


if __name__ == "__main__":
    main()
