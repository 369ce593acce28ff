"""What capture costs real programs: a `make` of two C libraries, and the start of a Python program with heavy imports.

    python benchmarks/programs.py [--rounds 7] [--dir FOLDER] [--json]

Each is timed from its first to its last moment by a parent of its own, plain and under `grid run`, in turn. The make builds
libiberty and zlib as Debian's package binutils-source has them (scripts/install-system-packages brings it). With -j2 on
a machine of two cores the supervisor has none of its own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from homes import Home, new_home
from report import Figure, in_turn, report

SOURCES = Path("/usr/src/binutils")
TARGETS = ("libiberty", "zlib")
IMPORTS = "import duckdb, matplotlib.pyplot, scipy.stats, sklearn.ensemble"
TIMER = """\
import subprocess, sys, time

start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="those whose name begins so: make, imports")
    parser.add_argument("--dir", default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with new_home(options.dir) as home:
        bench = Bench(home)
        programs = {
            "make": bench.make,
            "make -j2": lambda: bench.make("-j2"),
            "imports": bench.imports,
        }
        samples: dict[str, list[float]] = {}
        for name, program in programs.items():
            if name.startswith(options.only):
                jobs = {
                    f"{name}, plain": partial(bench.plain, program),
                    f"{name}, under grid run": partial(bench.captured, program),
                }
                samples |= in_turn(jobs, options.rounds)
    found = {name: statistics.median(values) for name, values in samples.items()}
    figures = [Figure(name, seconds, "s") for name, seconds in found.items()]
    for name, bound in (("make", 1.05), ("make -j2", None), ("imports", 1.02)):
        if f"{name}, plain" not in found:
            continue
        ratio = found[f"{name}, under grid run"] / found[f"{name}, plain"]
        figures.append(Figure(f"{name}: ratio of the medians", ratio, "x", at_most=bound))
    report("programs", figures, samples, as_json=options.json)


class Bench:
    """The programs, and the two ways to run them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._timer = home.script("timed.py", TIMER)
        self._configured = configured(home.folder)
        self._longest = 0.0  # seconds that any has taken

    def plain(self, program: Callable[[], list[str]]) -> float:
        self._longest = max(self._longest, seconds := float(self._home.plain(self._timer, *program())))
        return seconds

    def captured(self, program: Callable[[], list[str]]) -> float:
        return self._home.captured(self._timer.name, *program(), quiet=1.3 * self._longest + 2).seconds

    def make(self, *options: str) -> list[str]:
        """In a copy of the configured tree: every round builds all."""
        place = self._home.fresh("make")
        shutil.copytree(self._configured, place, symlinks=True)
        return ["make", *options, "-C", str(place / "build"), *(f"all-{target}" for target in TARGETS)]

    def imports(self) -> list[str]:
        return [sys.executable, "-c", IMPORTS]


def configured(folder: Path) -> Path:
    """The sources with a `build/` in which nothing is left to do but to compile."""
    (archive,) = SOURCES.glob("binutils-*.tar.*")
    tree, build = folder / "configured", folder / "configured" / "build"
    build.mkdir(parents=True)
    subprocess.run(["tar", "-xf", archive, "-C", tree, "--strip-components=1"], check=True)
    for command in (["../configure", "--disable-nls"], ["make", *(f"configure-{name}" for name in TARGETS)]):
        subprocess.run(command, cwd=build, check=True, capture_output=True)
    return tree


if __name__ == "__main__":
    main()
