"""How cost grows with the number of files: from 1,000 to 1,000,000 small files in one experiment.

    python benchmarks/growth.py [--files 1000,10000,100000,1000000] [--size 100] [--plot FILE.svg] [--dir FOLDER] [--json]

For each: the script's time a file, plain and under `grid run`; the time from its end until all are proven to be kept; and
the most memory that supervisor and shim ever took. The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from curves import Panel, draw
from homes import Home, new_home
from report import Figure, report

WRITER = """\
import os, sys, time

folder, files, size = sys.argv[1], *map(int, sys.argv[2:])
data = os.urandom(size)
start = time.perf_counter()
for number in range(files):
    if number % 1000 == 0:
        below = f"{folder}/{number // 1000:04}"
        os.makedirs(below)
    with open(f"{below}/{number:07}.bin", "wb") as file:
        file.write(data)
print(time.perf_counter() - start)
"""
FLAT = 200  # MiB that supervisor and shim may take more for the most files than for the fewest


@dataclass(frozen=True)
class Point:
    """One size. Times in microseconds a file, memory in MiB."""

    files: int
    plain: float
    captured: float
    until_final: float
    supervisor: float
    shim: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", default="1000,10000,100000,1000000")
    parser.add_argument("--size", type=int, default=100, help="bytes of a file")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file")
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    points = []
    with new_home(options.dir) as home:
        script = home.script("write.py", WRITER)
        for files in map(int, options.files.split(",")):
            points.append(measure(home, script, files, options.size))
            print(points[-1], file=sys.stderr)
    if options.plot:
        draw(picture(points), options.plot)
    figures = [
        Figure(f"{point.files:,} files: {what}", value, unit)
        for point in points
        for what, value, unit in (
            ("script, plain, a file", point.plain, "us"),
            ("script, under grid run, a file", point.captured, "us"),
            ("from its end to completed, a file", point.until_final, "us"),
            ("memory of the supervisor", point.supervisor, "MiB"),
            ("memory of the shim", point.shim, "MiB"),
        )
    ]
    first, last = points[0], points[-1]
    growth = last.supervisor + last.shim - first.supervisor - first.shim
    figures.append(Figure("memory: the most files against the fewest", growth, "MiB", at_most=FLAT))
    samples = {str(point.files): [point.plain, point.captured, point.until_final] for point in points}
    report("growth", figures, samples, as_json=options.json)


def measure(home: Home, script: Path, files: int, size: int) -> Point:
    args = (str(files), str(size))
    plain = float(home.plain(script, home.fresh("files"), *args))
    done = home.captured(script.name, home.fresh("files"), *args, quiet=0.0, memory=True)
    each = 1e6 / files
    return Point(
        files,
        plain * each,
        done.seconds * each,
        done.until_final * each,
        done.kib["supervisor"] / 1024,
        done.kib["shim"] / 1024,
    )


def picture(points: list[Point]) -> list[list[Panel]]:
    """Two panels over the number of files: time a file, and memory."""
    counts = [point.files for point in points]
    times = {
        "script, plain": [point.plain for point in points],
        "script, under grid run": [point.captured for point in points],
        "end to completed": [point.until_final for point in points],
    }
    memory = {name: [getattr(point, name) for point in points] for name in ("supervisor", "shim")}
    return [[Panel(counts, "files", "microseconds a file", times), Panel(counts, "files", "MiB", memory)]]


if __name__ == "__main__":
    main()
