"""The catalogs that must keep the contract, processes that work on them, and a few words for their tests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

from gridkeep.catalog.base import Catalog
from gridkeep.model import Experiment, Run
from tests.contract import catalog_worker
from tests.contract.catalog_worker import a_run, an_experiment

KINDS = ["sqlite", "sqlite on a network"]

Worker = subprocess.Popen[str]


@dataclass
class CatalogFactory:
    """Opens one and the same catalog, here and in other processes. A new implementation joins by a name in
    KINDS and a line in `catalog_worker.open_kind`."""

    kind: str
    location: str
    workers: list[Worker] = field(default_factory=list)

    def open(self) -> Catalog:
        return catalog_worker.open_kind(self.kind, self.location)

    def start(self, *action: object) -> Worker:
        """A process that is ready for `go`; see `catalog_worker`."""
        command = [sys.executable, catalog_worker.__file__, self.kind, self.location, *map(str, action)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        return worker


def go(*workers: Worker) -> None:
    """Lets them begin together, when each is ready."""
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def done(worker: Worker, *, killed: bool = False) -> list[str]:
    """The lines that it has printed when it has ended."""
    lines = worker.communicate(timeout=120)[0].split("\n")
    assert worker.returncode == (-9 if killed else 0)
    return [line for line in lines[:-1] if line]


def submit(catalog: Catalog, name: str = "a", count: int = 1, **how: str) -> list[Experiment]:
    """A new run's experiments."""
    run = a_run(name, **how)
    catalog.create_run(run, [an_experiment(run, index) for index in range(count)])
    return catalog.experiments(run.run_id)


def found_run(catalog: Catalog, name: str = "a") -> Run:
    run = catalog.run(name)
    assert run is not None
    return run


def again(catalog: Catalog, experiment: Experiment) -> Experiment:
    """The same, read anew."""
    found = catalog.experiment(experiment.experiment_id)
    assert found is not None
    return found


def totals(experiment: Experiment) -> tuple[int, int, int, int]:
    return experiment.artifacts, experiment.bytes, experiment.missing, experiment.growing
