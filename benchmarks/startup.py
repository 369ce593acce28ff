"""How long `grid --help` and `grid status` take as whole processes, in a home with a thousand runs.

python benchmarks/startup.py [--rounds 20] [--json]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Figure, in_turn, medians, report

from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.context import user_name
from gridkeep.settings import Home

GRID = str(Path(sys.executable).parent / "grid")
RUNS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        environ = {**os.environ, "GRIDKEEP_HOME": folder}
        fill(Home(folder))
        jobs = {
            "python -c pass": timed([sys.executable, "-c", "pass"], environ),
            "grid --help": timed([GRID, "--help"], environ),
            "grid status": timed([GRID, "status"], environ),
            "grid history": timed([GRID, "history"], environ),
        }
        for job in jobs.values():  # once for the caches of the machine
            job()
        samples = in_turn(jobs, options.rounds)
    found = medians(samples)
    figures = [
        Figure(name, found[name], "ms", at_most=150 if name in ("grid --help", "grid status") else None)
        for name in jobs
    ]
    report("startup", figures, samples, as_json=options.json)


def timed(command: list[str], environ: dict[str, str]) -> Callable[[], float]:
    """A job that runs the command and gives its milliseconds."""

    def job() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return (time.perf_counter() - start) * 1000

    return job


def fill(home: Home) -> None:
    """A thousand finished runs of one experiment each."""
    catalog = open_catalog(home.catalog)
    now = time.time()
    for number in range(RUNS):
        at = now - RUNS + number
        run = Run(
            run_id=f"wr_{new_ulid(at)}",
            name=f"run-{number:04}",
            kind="script",
            cluster="local",
            created_by=user_name(os.environ),
            created_at=at,
            spec=RunSpec(argv=["python", "train.py"], display="train.py", workdir="", root="/project"),
        )
        experiment = Experiment(
            experiment_id=new_ulid(at),
            run_id=run.run_id,
            run=run.name,
            index=0,
            created_at=at,
            command="train.py",
        )
        catalog.create_run(run, [experiment])
        catalog.update_experiment(
            experiment.experiment_id,
            state=State.COMPLETED,
            outcome="exit",
            exit_code=0,
            started_at=at,
            ended_at=at + 1,
            finished_at=at + 1,
        )
    catalog.close()


if __name__ == "__main__":
    main()
