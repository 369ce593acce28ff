"""Runs every benchmark of this folder, one after another, and writes down what they found.

    python benchmarks/run.py                    all of them
    python benchmarks/run.py startup listing    these
    python benchmarks/run.py --markdown         the table of docs/performance.md

A benchmark is a program here that takes `--json` (see `report`); one that prints a plain object of names and
numbers will do. The results go to `benchmarks/results/` as well. Exit status 1: one failed, or missed what it was to reach.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from report import Figure

HERE = Path(__file__).parent
HELPERS = {"run", "report", "homes", "buckets", "curves", "cloud_worker"}

# What is to be reached by benchmarks that print bare numbers.
BOUNDS = {
    "catalog_pages: .*page.*": Figure("", 0, "ms", at_most=20),
    "download: times_gridkeep, mlflow.*": Figure("", 0, "x", at_least=10),
}


def main() -> int:
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)}")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    results: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in options.names or known:
        print(f"== {name}", file=sys.stderr)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), "--json"], stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            failed.append(name)
            continue
        found = json.loads(done.stdout)
        if "figures" not in found:
            figures = [judged(name, what, value).to_json() for what, value in numbers(found)]
            found = {"benchmark": name, "figures": figures, "samples": found}
        results.append(found | {"seconds": round(time.monotonic() - start, 1)})

    record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "results": results}
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(markdown(record) if options.markdown else plain(record))
    for name in failed:
        print(f"{name} failed", file=sys.stderr)
    missed = [row for result in results for row in result["figures"] if row["reached"] is False]
    return 1 if failed or missed else 0


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(pages * size / 2**30),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def numbers(found: dict[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Each number in an object of a benchmark's own making, with the names that lead to it; samples are passed over."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{above}{name}, ")
        elif isinstance(value, int | float):
            yield f"{above}{name}", value


def judged(benchmark: str, what: str, value: float) -> Figure:
    """A bare number against what the design asks of it, if it does."""
    for pattern, bound in BOUNDS.items():
        if re.fullmatch(pattern, f"{benchmark}: {what}"):
            return replace(bound, what=what, value=value)
    return Figure(what, value, "")


def rows(record: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    verdict = {True: "yes", False: "NO", None: ""}
    return [
        (
            result["benchmark"],
            row["what"],
            f"{row['value']:,.6g} {row['unit']}".strip(),
            row["reach"] or "",
            verdict[row["reached"]],
        )
        for result in record["results"]
        for row in result["figures"]
    ]


def plain(record: dict[str, Any]) -> str:
    return "\n".join(f"{a:<14} {b:<58} {c:>16} {d:>10} {e}" for a, b, c, d, e in rows(record))


def markdown(record: dict[str, Any]) -> str:
    """The table, with what it was taken on above it."""
    on = record["machine"]
    lines = [
        f"{record['at'][:10]}, {on['cores']} cores, {on['memory_gib']} GiB, Linux {on['kernel']} {on['arch']}, "
        f"Python {on['python']}; load when it ended: {on['load']}.",
        "",
        "| benchmark | what | found | to reach | reached |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows(record))])


if __name__ == "__main__":
    sys.exit(main())
