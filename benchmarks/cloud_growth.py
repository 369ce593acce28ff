"""How the cost of a bucket grows: from 1,000 to 100,000 small files, and from 1 to 4 GiB in one file, up and down.

    python benchmarks/cloud_growth.py [--files 1000,10000,100000] [--size 1024] [--gib 1,2,4] [--plot FILE.svg]
                                      [--dir FOLDER] [--json]

Each size has a fresh S3 server on loopback (tests/services.py) and a fresh home. Up: `grid run`, from the script's start to
`completed`, which is writing, capture, sync, listing and manifest. Down: `grid artifacts`, every byte verified. Memory: the
most that the supervisor, and the download, ever took. Room on the disk: three times the largest size. The plot needs
matplotlib.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from buckets import s3_cluster
from curves import Panel, draw
from homes import Home, new_home, rest
from report import Figure, report

WRITER = """\
import os, sys, time

files, size = map(int, sys.argv[1:])
start = time.perf_counter()
block = os.urandom(min(size, 2**24))
for number in range(files):
    below = f"{number // 1000:04}"
    os.makedirs(below, exist_ok=True)
    with open(f"{below}/{number:07}.bin", "wb") as file:
        for at in range(0, size, len(block)):
            file.write(block)
print(time.perf_counter() - start)
"""
FLAT = {"file": 200.0, "GiB": 50.0}  # MiB that may be taken more for the largest size than for the smallest
SECONDS = {"file": (1e3, "ms"), "GiB": (1.0, "s")}  # what a unit's time is told in
GIB = 2**30


@dataclass(frozen=True)
class Point:
    """One size: so many of `unit`. Seconds a unit, MiB."""

    unit: str
    count: int
    up: float
    down: float
    supervisor: float
    download: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", default="1000,10000,100000", help="how many small ones; empty for none")
    parser.add_argument("--size", type=int, default=1024, help="bytes of a small file")
    parser.add_argument("--gib", default="1,2,4", help="sizes of the large file; empty for none")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file")
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = [("file", count, count, options.size) for count in numbers(options.files)]
    sizes += [("GiB", count, 1, count * GIB) for count in numbers(options.gib)]
    points = []
    for size in sizes:
        points.append(measure(options.dir, *size))
        print(points[-1], file=sys.stderr)
    if options.plot:
        draw(picture(points), options.plot)
    samples = {f"{point.count} {point.unit}": [point.up, point.down] for point in points}
    report("cloud_growth", [*told(points), *held(points)], samples, as_json=options.json)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def measure(folder: str | None, unit: str, count: int, files: int, size: int) -> Point:
    """`count` units, which are `files` files of `size` bytes."""
    with new_home(folder) as home, s3_cluster(home):
        home.environ |= {"GRIDKEEP_GROWING_INTERVAL": "1h"}
        script = home.script("write.py", WRITER).name
        done = home.captured(script, str(files), str(size), quiet=0.0, memory=True)
        began, finished = (datetime.fromisoformat(done.found[name]) for name in ("started_at", "finished_at"))
        seconds, kib = download(home, str(done.found["run"]), files)
    up = (finished - began).total_seconds()
    return Point(unit, count, up / count, seconds / count, done.kib["supervisor"] / 1024, kib / 1024)


def download(home: Home, run: str, files: int) -> tuple[float, int]:
    """Seconds, and the most memory in KiB."""
    rest()
    target = home.fresh("down")
    began = time.perf_counter()
    kib = home.peak_of("artifacts", run, "--download_dir", str(target))
    seconds = time.perf_counter() - began
    found = sum(1 for path in target.rglob("*.bin") if path.is_file())
    assert found == files, f"{found} of {files} files came"
    shutil.rmtree(target)
    return seconds, kib


# ------------------------------------------------------------------------------------------------------------- results


def told(points: list[Point]) -> list[Figure]:
    figures = []
    for point in points:
        scale, unit = SECONDS[point.unit]
        size = f"{point.count:,} {point.unit}{'s' if point.unit == 'file' and point.count > 1 else ''}"
        figures += [
            Figure(f"{size}: up, a {point.unit}", point.up * scale, unit),
            Figure(f"{size}: down, a {point.unit}", point.down * scale, unit),
            Figure(f"{size}: memory of the supervisor", point.supervisor, "MiB"),
            Figure(f"{size}: memory of the download", point.download, "MiB"),
        ]
    return figures


def held(points: list[Point]) -> list[Figure]:
    """What memory is to stay within, as work grows."""
    figures = []
    for unit, most in FLAT.items():
        of_unit = [point for point in points if point.unit == unit]
        for name in ("supervisor", "download") if len(of_unit) > 1 else ():
            growth = getattr(of_unit[-1], name) - getattr(of_unit[0], name)
            what = f"memory of the {name}: the most {unit}s against the fewest"
            figures.append(Figure(what, growth, "MiB", at_most=most))
    return figures


def picture(points: list[Point]) -> list[list[Panel]]:
    """For each unit two panels over its number: time a unit, and memory."""
    rows = []
    for unit, (scale, seconds) in SECONDS.items():
        if of_unit := [point for point in points if point.unit == unit]:
            counts = [point.count for point in of_unit]
            times = {
                "grid run, start to completed": [point.up * scale for point in of_unit],
                "grid artifacts": [point.down * scale for point in of_unit],
            }
            memory = {
                name: [getattr(point, name) for point in of_unit] for name in ("supervisor", "download")
            }
            rows.append(
                [
                    Panel(counts, f"{unit}s", f"{seconds} a {unit}", times),
                    Panel(counts, f"{unit}s", "MiB", memory),
                ]
            )
    return rows


if __name__ == "__main__":
    main()
