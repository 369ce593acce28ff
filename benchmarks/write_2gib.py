"""What capture costs a script that writes 2 GiB: its own time, plain and under `grid run`, in turn.

    python benchmarks/write_2gib.py [--rounds 5] [--size 2GiB] [--dir FOLDER] [--json]

The script times itself. Capture and sync are on; a round begins when all that the one before has written is on the disk,
kept, and deleted again. Two forms: 2 GiB again and again over the same 256 MiB, which is what the writes cost; and 2 GiB
into a new file, where on a virtual machine the host's supply of fresh memory decides (plain alone: 0.4 to 4 s).
"""

from __future__ import annotations

import argparse
import statistics

from homes import Home, new_home
from report import Figure, in_turn, medians, report

from gridkeep.settings import parse_size

PART = 256 * 2**20  # bytes that are written over and over

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
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with new_home(options.dir) as home:
        bench = Bench(home, options.size)
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
    found = medians(samples)
    figures = [Figure(f"write 2 GiB {job}", seconds, "s") for job, seconds in found.items()]
    for form, bound in (("over itself", 1.02), ("new file", None)):
        plain, ours = samples[f"{form}, plain"], samples[f"{form}, under grid run"]
        ratio = statistics.median(ours) / statistics.median(plain)
        figures.append(Figure(f"{form}: ratio of the medians", ratio, "x", at_most=bound))
    report("write_2gib", figures, samples, as_json=options.json)


class Bench:
    """The two ways to run the writer. Both begin on a machine at rest and leave nothing behind: the disk holds no more than
    one round's files."""

    def __init__(self, home: Home, size: int) -> None:
        self._home = home
        self._script = home.script("write.py", WRITER)
        self._target = home.fresh("written")  # outside the working copy, on the same disk
        self._size = size
        self._longest = 0.0  # seconds that any has taken

    def plain(self, part: int) -> float:
        seconds = float(self._home.plain(self._script, *self._args(part)))
        self._longest = max(self._longest, seconds)
        self._target.unlink()
        return seconds

    def captured(self, part: int) -> float:
        done = self._home.captured(self._script.name, *self._args(part), quiet=self._longest + 5)
        if done.found["bytes"] != part:
            raise SystemExit(f"The run did not keep its file: {done.found}")
        self._home.delete(done)
        self._target.unlink()
        return done.seconds

    def _args(self, part: int) -> list[str]:
        return [str(self._target), str(self._size), str(part)]


if __name__ == "__main__":
    main()
