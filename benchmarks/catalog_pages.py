"""How fast the catalog takes and gives back artifacts, and how long a `status` waits for it, at the sizes we
promise.

python benchmarks/catalog_pages.py [--artifacts 1000000] [--runs 10000] [--json]

Everything is made in a temporary folder. Figures are milliseconds unless the name says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from gridkeep.catalog.sql import SqlCatalog
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State, new_ulid

PAGE = 100
REPEATS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=1_000_000, help="of one experiment")
    parser.add_argument("--batch", type=int, default=5_000, help="artifacts recorded at once")
    parser.add_argument("--runs", type=int, default=10_000, help="and the experiments of one big run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "catalog.db")
        figures = {
            **recording(path, options.artifacts, options.batch),
            **pages(path, options.artifacts),
            **status(path, options.runs),
        }
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<58}{value:>14,.2f}")


def recording(path: str, count: int, batch: int) -> dict[str, float]:
    """New artifacts, then the same ones again (as when `pending` becomes `stored`), then removal of
    another experiment's."""
    catalog = open_catalog(path)
    ids = add_run(catalog, "big", 2)
    figures = {}
    for name, state in (
        ("recorded, rows/s", ArtifactState.PENDING),
        ("recorded again, rows/s", ArtifactState.STORED),
    ):
        spent = 0.0
        for artifacts in batches(ids[0], count, batch, state):
            start = time.perf_counter()
            catalog.record_artifacts(ids[0], artifacts)
            spent += time.perf_counter() - start
        figures[name] = count / spent
    tenth = max(batch, count // 10)
    for artifacts in batches(ids[1], tenth, batch, ArtifactState.STORED, shuffled=True):
        start = time.perf_counter()
        catalog.record_artifacts(ids[1], artifacts)
        figures["slowest batch, paths in random order"] = max(
            figures.get("slowest batch, paths in random order", 0.0), 1e3 * (time.perf_counter() - start)
        )
    start = time.perf_counter()
    catalog.begin_delete([ids[1]])
    figures["begin_delete"] = 1e3 * (time.perf_counter() - start)
    start = time.perf_counter()
    catalog.finish_delete(ids[1])
    figures["finish_delete, rows/s"] = tenth / (time.perf_counter() - start)
    catalog.close()
    return figures | {"file, bytes per artifact": os.path.getsize(path) / count}


def batches(
    experiment_id: str, count: int, batch: int, state: ArtifactState, *, shuffled: bool = False
) -> Iterator[list[Artifact]]:
    """The same artifacts at each call: 1,000 files a folder, one of 100,000 missing."""
    numbers = list(range(count))
    if shuffled:
        random.Random(1).shuffle(numbers)
    for start in range(0, count, batch):
        yield [artifact(experiment_id, number, state) for number in numbers[start : start + batch]]


def artifact(experiment_id: str, number: int, state: ArtifactState) -> Artifact:
    path = f"outputs/part-{number // 1000:04d}/sample-{number % 1000:04d}.json"
    missing = number % 100_000 == 50_000
    return Artifact(
        artifact_id=f"art_{experiment_id[-8:]}{number:018d}",
        experiment_id=experiment_id,
        path=path.encode(),
        state=ArtifactState.MISSING if missing else state,
        size=number,
        sha256=None if missing or state is ArtifactState.PENDING else f"{number:064x}",
        mtime_ns=1_700_000_000_000_000_000 + number,
        mode=0o644,
        key=f"experiments/{experiment_id}/artifacts/{path}",
        etag=f"{number:032x}",
    )


def pages(path: str, count: int) -> dict[str, float]:
    """A page of 100, by a connection that has seen nothing yet and by one that has; the worst of many
    places."""
    catalog = open_catalog(path)
    run = catalog.run("big")
    assert run is not None
    [experiment] = catalog.experiments(run.run_id)
    spots = sorted(random.Random(2).sample(range(count), min(count, REPEATS)))
    starts = [
        (f"outputs/part-{spot // 1000:04d}/sample-{spot % 1000:04d}.json".encode(), "art_") for spot in spots
    ]
    figures = {}

    def fresh() -> None:
        other = open_catalog(path)
        other.artifacts(experiment.experiment_id, limit=PAGE)
        other.close()

    figures["first page, fresh connection (open to close)"] = median(fresh)
    page = partial(catalog.artifacts, experiment.experiment_id, limit=PAGE)
    figures["page at a random place, worst"] = worst([partial(page, after=at) for at in starts])
    folders = [path.rpartition(b"/")[0] for path, _ in starts]
    figures["page within a folder, worst"] = worst([partial(page, under=folder) for folder in folders])
    for states in (
        {ArtifactState.MISSING},
        {ArtifactState.REMOVED, ArtifactState.GROWING},
        set(ArtifactState),
    ):
        name = "all states" if len(states) > 2 else " or ".join(sorted(states))
        figures[f"page of {name}, worst"] = worst([partial(page, states=states)] * 5)
    figures["page of a type that is not there, worst"] = worst([partial(page, types=["screenshot"])] * 5)
    figures["page of 1,000 changes, worst"] = worst([lambda: catalog.changes(catalog.last_change() // 2)] * 5)
    catalog.close()
    return figures


def status(path: str, count: int) -> dict[str, float]:
    """What `status`, `history` and the start of every command ask, beside many runs and one of many
    experiments."""
    catalog = open_catalog(path)
    for number in range(count):
        [experiment_id] = add_run(catalog, f"run-{number}", 1)
        if number % 1000:
            catalog.update_experiment(experiment_id, state=State.COMPLETED, started_at=1.0, finished_at=2.0)
    figures = {
        "runs(active), owner": median(lambda: catalog.runs(active=True, owner="me")),
        "runs(not active), first page": median(lambda: catalog.runs(active=False)),
        "count_runs(not active)": median(lambda: catalog.count_runs(active=False)),
        "count_runs(not active), owner": median(lambda: catalog.count_runs(active=False, owner="me")),
        "has_unfinished": median(catalog.has_unfinished),
        "run by name": median(lambda: catalog.run("run-77")),
    }
    start = time.perf_counter()
    ids = add_run(catalog, "sweep", count)
    figures["create_run of the big run"] = 1e3 * (time.perf_counter() - start)
    run = catalog.run("sweep")
    assert run is not None
    figures |= {
        "runs(active) with the big run": median(lambda: catalog.runs(active=True)),
        "count_runs(not active) with the big run": median(lambda: catalog.count_runs(active=False)),
        "all experiments of the big run": median(lambda: catalog.experiments(run.run_id), 5),
        "100 experiments of the big run": median(
            lambda: catalog.experiments(run.run_id, after=count // 2, limit=100)
        ),
        "update_experiment": median(lambda: catalog.update_experiment(ids[7], state=State.RUNNING)),
    }

    def command() -> None:
        other = open_catalog(path)
        other.has_unfinished()
        other.runs(active=True)
        other.count_runs(active=False)
        other.close()

    figures["all of `grid status`, open to close"] = median(command)
    catalog.close()
    return figures


def add_run(catalog: SqlCatalog, name: str, count: int) -> list[str]:
    ulid = new_ulid()
    spec = RunSpec(argv=["python", "train.py"], display="train.py", workdir="", root="/home/me/project")
    run = Run(
        run_id=f"wr_{ulid}",
        name=name,
        kind="script",
        cluster="local",
        created_by="me",
        created_at=time.time(),
        spec=spec,
    )
    experiments = [
        Experiment(
            experiment_id=new_ulid(),
            run_id=run.run_id,
            run=name,
            index=index,
            params={"lr": 0.1, "seed": index},
            args=["--lr", "0.1", "--seed", str(index)],
            command=f"train.py --lr 0.1 --seed {index}",
            created_at=run.created_at,
        )
        for index in range(count)
    ]
    catalog.create_run(run, experiments)
    return [experiment.experiment_id for experiment in experiments]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def median(work: Callable[[], object], repeats: int = REPEATS) -> float:
    return statistics.median(timed(work) for _ in range(repeats))


def worst(works: Sequence[Callable[[], object]]) -> float:
    return max(timed(work) for work in works)


if __name__ == "__main__":
    main()
