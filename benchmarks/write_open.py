"""What capture adds to one open of a file for writing: bare, with the C shim, with the Python shim; and their memory.

    python benchmarks/write_open.py [--rounds 15] [--opens 10000] [--json]

Needs a C compiler: the loop that opens is in C (write_open.c), for the one that is measured is the kernel's and ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from report import Figure, in_turn, medians, report

from gridkeep.capture.session import Launch, Session

MODES = ("off", "c", "python")
REACH = {"c": 20.0, "python": 60.0}  # microseconds more than bare


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--opens", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        program = Path(folder, "write_open")
        source = Path(__file__).with_name("write_open.c")
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        jobs = {mode: lambda mode=mode: cost(program, mode, options.opens) for mode in MODES}
        samples = in_turn(jobs, options.rounds)
        kib = {mode: memory(mode) for mode in MODES if mode != "off"}
    found = medians(samples)
    figures = [Figure("write-open, bare", found["off"], "us")]
    for mode in ("c", "python"):
        more = found[mode] - found["off"]
        figures += [
            Figure(f"write-open, {mode} shim", found[mode], "us"),
            Figure(f"write-open, {mode} shim: more than bare", more, "us", at_most=REACH[mode]),
            Figure(f"write-open, {mode} shim: times bare", found[mode] / found["off"], "x"),
            Figure(f"memory of {mode} shim and guard", kib[mode], "KiB"),
        ]
    report("write_open", figures, samples, as_json=options.json)


def cost(program: Path, mode: str, opens: int) -> float:
    """Microseconds of one open."""
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        session = start(folder, mode, [str(program), str(opens)])
        wait(session)
        return float(Path(folder, "output").read_text()) / 1000


def memory(mode: str) -> float:
    """KiB that are the shim's and its guard's own (proportional set size), after some thousand records."""
    text = "i=0; while [ $i -lt 3000 ]; do echo new > a; i=$((i + 1)); done; echo > done; sleep 1"
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        session = start(folder, mode, ["/bin/sh", "-c", text])
        while not Path(folder, "done").exists():
            time.sleep(0.01)
        started = session.started()
        assert started is not None
        shim = started["shim"]
        guards = [pid for pid in children(shim) if pid != started["script"]]
        total = sum(proportional_set(pid) for pid in (shim, *guards))
        wait(session)
        return total


def start(folder: str, mode: str, argv: list[str]) -> Session:
    session = Session(os.path.join(folder, "session"))
    output = os.path.join(folder, "output")
    session.start(Launch(argv=argv, env={}, cwd=folder, output=output, capture=mode, linger=5, kill_grace=1))
    while session.started() is None:
        time.sleep(0.001)
    return session


def wait(session: Session) -> None:
    while session.end() is None or session.alive():
        time.sleep(0.005)


def children(parent: int) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", entry, "stat").read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue
        if int(stat[1]) == parent:
            found.append(int(entry))
    return found


def proportional_set(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
