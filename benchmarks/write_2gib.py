"""What capture costs a script that writes 2 GiB: its own time, plain and under `grid run`, in turn.

    python benchmarks/write_2gib.py [--rounds 5] [--size 2GiB] [--dir FOLDER] [--json]

The script times itself, from the start of its `main` to its end. Capture and sync are on; a round begins when all that
the one before has written is on the disk, kept, and deleted again.
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

GRID = str(Path(sys.executable).parent / "grid")

WRITER = """\
import sys, time


def main(path, size):
    block = bytes(range(256)) * 4096  # 1 MiB
    with open(path, "wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)


start = time.perf_counter()
main(sys.argv[1], int(sys.argv[2]))
print(time.perf_counter() - start)
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
        bench.plain()  # once for the caches of the machine
        samples = in_turn({"plain": bench.plain, "under grid run": bench.captured}, options.rounds)
    finally:
        shutil.rmtree(folder)
    found = medians(samples)
    ratios = [ours / plain for ours, plain in zip(samples["under grid run"], samples["plain"], strict=True)]
    figures = [
        Figure("write 2 GiB, plain", found["plain"], "s"),
        Figure("write 2 GiB, under grid run", found["under grid run"], "s"),
        Figure("ratio of the medians", found["under grid run"] / found["plain"], "x", at_most=1.03),
        Figure("median of the rounds' ratios", statistics.median(ratios), "x"),
    ]
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
        self.args = [str(self.target), str(size)]
        self.size = size
        self.environ = {**os.environ, "GRIDKEEP_HOME": str(folder / "home")}

    def plain(self) -> float:
        rest()
        done = self._run([sys.executable, str(self.script), *self.args])
        self._clean()
        return float(done)

    def captured(self) -> float:
        rest()
        name = self._grid("run", "--name", f"write-{time.time_ns()}", str(self.script), *self.args).split()[
            -1
        ]
        experiment = self._completed(name)
        if experiment["state"] != "completed" or experiment["bytes"] != self.size or experiment["missing"]:
            raise SystemExit(f"The run did not keep its file: {experiment}")
        seconds = float(self._grid("logs", f"{name}-exp0"))
        self._grid("delete", "--yes", name)
        self._clean()
        return seconds

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
