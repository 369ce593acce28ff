"""What capture costs a script that writes 10,000 small files, and how long after its end they are all proven to be kept.

    python benchmarks/small_files.py [--rounds 5] [--files 10000] [--size 4096] [--dir FOLDER] [--json]

The script times its own writing, plain and under `grid run`, in turn. `answered unseen`: each open is trapped and let go on
by a program that does nothing else (unseen.c; needs a C compiler): less no notification can take. `closed long before`: it
waits until its files are stored, then ends.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
from pathlib import Path

from homes import Home, new_home
from report import Figure, in_turn, report

WRITER = """\
import os, sys, time

folder, files, size, pause = sys.argv[1], *map(int, sys.argv[2:])
data = os.urandom(size)
start = time.perf_counter()
os.mkdir(folder)
for number in range(files):
    with open(f"{folder}/{number:06}.bin", "wb") as file:
        file.write(data)
seconds = time.perf_counter() - start
time.sleep(pause)
print(seconds)
"""
LONG_BEFORE = 20  # seconds
QUIET = 5  # seconds: about as long as a round takes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with new_home(options.dir) as home:
        bench = Bench(home, options.files, options.size)
        jobs = {
            "plain": bench.plain,
            "answered unseen": bench.unseen,
            "under grid run": bench.captured,
            "closed long before": bench.closed,
        }
        samples = in_turn(jobs, options.rounds)
    plain, least, ours = map(statistics.median, list(samples.values())[:3])
    samples["completed after the end"] = bench.until_final
    samples["completed after the end, closed long before"] = bench.until_final_closed
    figures = [
        Figure(f"{options.files:,} files, plain", plain, "s"),
        Figure(f"{options.files:,} files, under grid run", ours, "s"),
        Figure("ratio of the medians", ours / plain, "x", at_most=1.3),
        Figure("… trapped and answered unseen", least / plain, "x"),
        Figure("end of the script to completed", statistics.median(bench.until_final), "s", at_most=2.5),
        Figure("… files closed long before", statistics.median(bench.until_final_closed), "s", at_most=1.0),
    ]
    report("small_files", figures, samples, as_json=options.json)


class Bench:
    """The ways to run the writer; each writes to a folder of its own."""

    def __init__(self, home: Home, files: int, size: int) -> None:
        self._home = home
        self._script = home.script("write.py", WRITER)
        self._args = [str(files), str(size)]
        self._eyeless = home.folder / "unseen"
        source = Path(__file__).with_name("unseen.c")
        subprocess.run(["cc", "-O2", "-o", self._eyeless, source], check=True)
        self.until_final: list[float] = []
        self.until_final_closed: list[float] = []

    def plain(self) -> float:
        return float(self._home.plain(self._script, *self._target(), "0"))

    def unseen(self) -> float:
        return float(self._home.plain(self._script, *self._target(), "0", under=[self._eyeless]))

    def captured(self) -> float:
        done = self._home.captured(self._script.name, *self._target(), "0", quiet=QUIET)
        self.until_final.append(done.until_final)
        return done.seconds

    def closed(self) -> float:
        done = self._home.captured(
            self._script.name, *self._target(), str(LONG_BEFORE), quiet=LONG_BEFORE + QUIET
        )
        self.until_final_closed.append(done.until_final)
        return done.seconds

    def _target(self) -> tuple[Path | str, ...]:
        return self._home.fresh("files"), *self._args


if __name__ == "__main__":
    main()
