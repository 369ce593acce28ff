"""A process that works on a catalog, for the tests in which several do, or in which one is killed.

Run as a script: KIND LOCATION ACTION ARGUMENTS. It prints `ready` when its catalog is open, waits for a line
on stdin, and prints a line for each call that has returned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.database import migrate
from gridkeep.catalog.sql import SqlCatalog
from gridkeep.catalog.sqlite import SqliteDatabase, open_catalog
from gridkeep.errors import NameTaken
from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State, new_ulid


def open_kind(kind: str, location: str) -> Catalog:
    """The implementations that must keep the contract."""
    if kind == "sqlite":
        return open_catalog(location)
    assert kind == "sqlite on a network"  # a rollback journal instead of WAL
    database = SqliteDatabase(location, network=True)
    migrate(database)
    return SqlCatalog(database)


def a_run(name: str, *, kind: str = "script", owner: str = "me") -> Run:
    spec = RunSpec(argv=["python", "train.py"], display="train.py", workdir="", root="/project")
    prefix = "wr" if kind == "script" else "tsk"
    return Run(
        run_id=f"{prefix}_{new_ulid()}",
        name=name,
        kind=kind,
        cluster="local",
        created_by=owner,
        created_at=1.5,
        spec=spec,
    )


def an_experiment(run: Run, index: int = 0) -> Experiment:
    return Experiment(
        experiment_id=new_ulid(), run_id=run.run_id, run=run.name, index=index, created_at=run.created_at
    )


def stored(experiment_id: str, path: bytes, *, artifact_id: str = "", size: int = 1) -> Artifact:
    return Artifact(
        artifact_id=artifact_id or f"art_{new_ulid()}",
        experiment_id=experiment_id,
        path=path,
        state=ArtifactState.STORED,
        size=size,
        sha256="0" * 64,
    )


# --------------------------------------------------------------------------------------------- what it can do


def record(catalog: Catalog, experiment_id: str, prefix: str, batches: str, size: str) -> Iterator[str]:
    """New artifacts, `size` in a batch; every second batch also replaces the batch before by larger files."""
    before: list[Artifact] = []
    for batch in range(int(batches)):
        paths = [f"{prefix}/{batch:04d}/{i:04d}".encode() for i in range(int(size))]
        new = [stored(experiment_id, path, size=i + 1) for i, path in enumerate(paths)]
        larger = [
            stored(experiment_id, old.path or b"", artifact_id=old.artifact_id, size=1000) for old in before
        ]
        catalog.record_artifacts(experiment_id, new + larger)
        before = new if batch % 2 == 0 else []
        yield f"{prefix}/{batch:04d}"


def create(catalog: Catalog, names: str) -> Iterator[str]:
    """A run of each name, unless another process was first."""
    for name in names.split(","):
        run = a_run(name)
        try:
            catalog.create_run(run, [an_experiment(run)])
        except NameTaken:
            continue
        yield name


def take(catalog: Catalog) -> Iterator[str]:
    """Starts every queued experiment that no other process has started."""
    while queued := [each for each in catalog.unfinished() if each.state is State.QUEUED]:
        for each in queued:
            if catalog.update_experiment(each.experiment_id, only_from=[State.QUEUED], state=State.RUNNING):
                yield each.experiment_id


def delete(catalog: Catalog, *experiment_ids: str) -> Iterator[str]:
    """Hides them together, then removes one after the other."""
    catalog.begin_delete(experiment_ids)
    for experiment_id in experiment_ids:
        catalog.finish_delete(experiment_id)
        yield experiment_id


def nothing(catalog: Catalog) -> Iterator[str]:
    """Only opens it."""
    catalog.last_change()
    yield "opened"


def main() -> None:
    kind, location, action, *arguments = sys.argv[1:]
    late = action == "nothing"  # here the opening is what is tested
    if late:
        print("ready", flush=True)
        sys.stdin.readline()
    catalog = open_kind(kind, location)
    if not late:
        print("ready", flush=True)
        sys.stdin.readline()
    actions: dict[str, Callable[..., Iterator[str]]] = {
        "record": record,
        "create": create,
        "take": take,
        "delete": delete,
        "nothing": nothing,
    }
    for done in actions[action](catalog, *arguments):
        print(done, flush=True)
    catalog.close()


if __name__ == "__main__":
    main()
