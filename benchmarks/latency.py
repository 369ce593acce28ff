"""How long after a script has closed a file it is called `stored`, while the script writes 100 files a second.

    python benchmarks/latency.py [--seconds 20] [--rate 100] [--size 4096] [--rounds 3] [--only local|s3]
                                 [--dir FOLDER] [--json]

On the local store, and on an S3 server of its own on loopback (tests/services.py). The script notes when it has closed each
file; this process looks into the catalog every 10 ms, as whoever follows a run does, and notes when it says `stored`. Each
file is written once, so none of them has a quiet time that would have to be subtracted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from buckets import s3_cluster
from homes import Home, new_home
from report import Figure, report

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import ArtifactState

WRITER = """\
import json, os, sys, time

files, rate, size = map(int, sys.argv[1:])
data = os.urandom(size)
closed = []
start = time.monotonic()
for number in range(files):
    time.sleep(max(0.0, start + number / rate - time.monotonic()))
    with open(f"{number:06}.bin", "wb") as file:
        file.write(data)
    closed.append(time.monotonic())
time.sleep(2)  # the last ones, too, are stored while it runs
print(json.dumps(closed))
"""
LOOK_EVERY = 0.01  # seconds
PATIENCE = 60.0  # seconds for the last files
BOUNDS = {50: 0.3, 99: 1.0}  # percentile: seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=20, help="how long the script writes")
    parser.add_argument("--rate", type=int, default=100, help="files a second")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=STORES)
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    args = [str(options.seconds * options.rate), str(options.rate), str(options.size)]
    figures: list[Figure] = []
    samples: dict[str, list[float]] = {}
    for name in [options.only] if options.only else STORES:
        found: list[float] = []
        with new_home(options.dir) as home, STORES[name](home):
            for number in range(options.rounds):
                found += latencies(home, f"run-{number}", args)
                print(f"  round {number + 1}/{options.rounds}  {name}: {shown(found)}", file=sys.stderr)
        samples[name] = found
        figures += [
            Figure(f"{name}: closed to stored, p{each}", percentile(found, each), "s", at_most=most)
            for each, most in BOUNDS.items()
        ]
        figures.append(Figure(f"{name}: closed to stored, the longest", max(found), "s"))
    report("latency", figures, samples, as_json=options.json)


@contextmanager
def local(home: Home) -> Iterator[None]:
    """The cluster that is always there."""
    yield


STORES = {"local": local, "s3": s3_cluster}


def latencies(home: Home, run: str, args: list[str]) -> list[float]:
    """Seconds from closed to stored, for each file of one run."""
    home.grid("status")  # makes the home
    catalog = open_catalog(str(home.home / "catalog.db"))
    try:
        since = catalog.last_change()
        home.grid("run", "--name", run, home.script("write.py", WRITER).name, *args)
        stored = watch(catalog, since, int(args[0]), PATIENCE + int(args[0]) / int(args[1]))
    finally:
        catalog.close()
    while json.loads(home.grid("status", run, "--json"))[0]["state"] != "completed":
        time.sleep(0.2)
    closed = json.loads(home.grid("logs", f"{run}-exp0"))
    return [stored[b"%06d.bin" % number] - at for number, at in enumerate(closed)]


def watch(catalog: Catalog, since: int, files: int, patience: float) -> dict[bytes, float]:
    """When the catalog first called each file stored, by its path; `since` is the change after which it is read."""
    stored: dict[bytes, float] = {}
    end = time.monotonic() + patience
    while len(stored) < files:
        if time.monotonic() > end:
            raise SystemExit(f"{len(stored)} of {files} files were stored in time")
        changes = catalog.changes(since)
        changed = [each for _, kind, each in changes if kind == "artifact"]
        for artifact in catalog.artifacts_by_id(changed):
            if artifact.state is ArtifactState.STORED and artifact.path is not None:
                stored.setdefault(artifact.path, time.monotonic())
        since = changes[-1][0] if changes else since
        time.sleep(LOOK_EVERY)
    return stored


def percentile(values: list[float], which: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]


def shown(values: list[float]) -> str:
    return ", ".join(f"p{each} {percentile(values, each):.3f} s" for each in BOUNDS)


if __name__ == "__main__":
    main()
