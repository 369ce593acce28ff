"""Runs written straight into a real catalog, in any state, for the tests of what looks at them."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridkeep.files import take_lock
from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.context import Context, open_context
from gridkeep.stores.keys import artifact_key, output_log_key

START = 1_700_000_000.0
_later = itertools.count()


@contextmanager
def quiet_home(home: Path) -> Iterator[Context]:
    """An open home in which no engine starts: its lock is held, as by an engine that has nothing to do."""
    environ = {"GRIDKEEP_HOME": str(home)}
    with open_context(environ, start_engine=False) as context:
        lock = take_lock(context.home.engine_lock)
        assert lock is not None
        try:
            yield context
        finally:
            os.close(lock)


def make_run(
    context: Context, name: str, states: Sequence[str], **of_each: Any
) -> tuple[Run, list[Experiment]]:
    """A run with one experiment for each of `states`; `of_each` are more fields of all experiments."""
    spec = RunSpec(argv=["python", "hello.py"], display="hello.py", workdir="", root="/project")
    ulid = new_ulid(START + next(_later))  # in the order that they are made in, even within a millisecond
    owner = of_each.pop("created_by", context.user)
    at = of_each.pop("created_at", START)
    run = Run(
        run_id=f"wr_{ulid}",
        name=name,
        kind="script",
        cluster="local",
        created_by=owner,
        created_at=at,
        spec=spec,
    )
    experiments = [
        Experiment(
            experiment_id=new_ulid(),
            run_id=run.run_id,
            run=name,
            index=index,
            state=State(word),
            created_at=at,
            command="hello.py --lr 0.1",
            started_at=None if word == "queued" else at + 5,
            finished_at=None if State(word).active else at + 146,
            **of_each,
        )
        for index, word in enumerate(states)
    ]
    context.catalog.create_run(run, experiments)
    return run, experiments


def keep(context: Context, experiment: Experiment, path: bytes, content: bytes) -> Artifact:
    """Puts a file of the experiment into the store and records it."""
    key = artifact_key(experiment.experiment_id, path)
    context.store("local").put(key, io.BytesIO(content))
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path,
        state=ArtifactState.STORED,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        key=key,
    )
    context.catalog.record_artifacts(experiment.experiment_id, [artifact])
    return artifact


def finish(context: Context, experiment: Experiment, state: str = "completed", **more: Any) -> None:
    """Lets the experiment end."""
    assert context.catalog.update_experiment(
        experiment.experiment_id, state=State(state), finished_at=START + 200, **more
    )


def print_to_journal(context: Context, experiment: Experiment, text: bytes) -> None:
    """Appends to the output log that lies in the journal while the experiment is active."""
    folder = Path(context.home.journal(experiment.experiment_id))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "output.log", "ab") as log:
        log.write(text)


def move_log_to_store(context: Context, experiment: Experiment) -> None:
    """What the supervisor does at the end: the log goes to the store, the journal goes away."""
    folder = Path(context.home.journal(experiment.experiment_id))
    with open(folder / "output.log", "rb") as log:
        context.store("local").put(output_log_key(experiment.experiment_id), log)
    shutil.rmtree(folder)
