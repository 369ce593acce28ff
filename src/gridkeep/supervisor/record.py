"""The record of an experiment: all that the catalog knows of it and of its run, as JSON outside the catalog.

It lies in the store from the script's start (`experiment.json`) and, so that a store that is away takes nothing with it, in
the experiment's journal; what was submitted and may not have started yet lies in the run's journal (`run.json`). With the
manifest, or with the journal, it brings a lost catalog back. Holds no artifacts and no secrets.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from gridkeep.errors import GridError, StoreError
from gridkeep.files import read_json, write_json
from gridkeep.model import JSON, Experiment, Run, RunSpec, State, iso, valid_run_name
from gridkeep.settings import Home
from gridkeep.stores.base import Store
from gridkeep.stores.keys import experiment_key

FORMAT = 1
ULID = re.compile("[0-9a-hjkmnp-tv-z]{26}")
_RUN_ID = re.compile(f"(?:wr|tsk)_{ULID.pattern}")
_TIMES = ("created_at", "started_at", "ended_at", "finished_at")
_SPEC_FIELDS = frozenset(item.name for item in fields(RunSpec))


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a run's submission left in its journal: where its files go, and its experiments as they were queued."""

    store: str  # the URI
    run: Run
    experiments: list[Experiment]
    ended: frozenset[str]  # the ULIDs of those that are not to be executed any more
    endpoint: str | None = None  # of the cluster, as its region: the URI alone may not say where the store is
    region: str | None = None


# -------------------------------------------------------------------------------------------------------- writing


def put_record(store: Store, run: Run, experiment: Experiment) -> None:
    """Into the store: at the script's start, and again with the outcome. Raises StoreError."""
    record: JSON = {"format": FORMAT, **_experiment_shape(experiment), **_run_shape(run)}
    data = json.dumps(record, indent=1, ensure_ascii=True).encode() + b"\n"
    store.put(experiment_key(experiment.experiment_id), io.BytesIO(data))


def keep_record(home: Home, run: Run, experiment: Experiment) -> None:
    """Into the experiment's journal. Raises OSError."""
    record = {"format": FORMAT, **_experiment_shape(experiment), **_run_shape(run)}
    write_json(os.path.join(home.journal(experiment.experiment_id), "experiment.json"), record)


def keep_submission(
    home: Home,
    store: str,
    run: Run,
    experiments: Sequence[Experiment],
    *,
    endpoint: str | None = None,
    region: str | None = None,
) -> None:
    """Into the run's journal. Raises OSError."""
    shapes = [_experiment_shape(experiment) for experiment in experiments]
    place = {"store": store, "endpoint": endpoint, "region": region}
    record = {"format": FORMAT, **place, "run": _run_shape(run), "experiments": shapes}
    write_json(_submission_file(home, run.ulid), record)


def note_ended(home: Home, run_ulid: str, ulids: Iterable[str]) -> None:
    """Notes in the run's journal, if it is there, that these are not to be executed any more. Raises OSError."""
    with suppress(FileNotFoundError), open(_ended_file(home, run_ulid), "a", opener=_private) as file:
        file.write("".join(f"{ulid}\n" for ulid in ulids))


def _experiment_shape(experiment: Experiment) -> JSON:
    """`times` are those above it in seconds since the epoch: exact, where ISO 8601 is rounded."""
    return {
        **experiment.to_json(),
        "args": experiment.args,
        "index": experiment.index,
        "times": {name: getattr(experiment, name) for name in _TIMES},
    }


def _run_shape(run: Run) -> JSON:
    return {
        "run": run.name,
        "run_id": run.run_id,
        "kind": run.kind,
        "cluster": run.cluster,
        "created_by": run.created_by,
        "submitted_at": iso(run.created_at),
        "submitted": run.created_at,
        "parent": run.parent,
        "spec": asdict(run.spec),
    }


# -------------------------------------------------------------------------------------------------------- reading


def read_record(store: Store, ulid: str) -> tuple[Run, Experiment]:
    """From the store. Raises ObjectMissing when there is none, StoreError for one that is damaged."""
    data = b"".join(store.get(experiment_key(ulid)))
    try:
        shape = json.loads(data)
    except ValueError:
        raise StoreError("The record of the experiment is damaged: it is no JSON.") from None
    return _of(shape, ulid)


def kept_record(home: Home, ulid: str) -> tuple[Run, Experiment] | None:
    """From the experiment's journal; None when there is none. Raises GridError for one that is damaged."""
    shape = _read(os.path.join(home.journal(ulid), "experiment.json"))
    return None if shape is None else _of(shape, ulid)


def kept_submission(home: Home, run_ulid: str) -> Submitted | None:
    """From the run's journal; None when there is none. Raises GridError for one that is damaged."""
    shape = _read(_submission_file(home, run_ulid))
    if shape is None:
        return None
    try:
        found = [_parsed({**each, **shape["run"]}) for each in shape["experiments"]]
        (run,) = {run.run_id: run for run, _ in found}.values()
        if run.ulid != run_ulid:
            raise ValueError("it is of another run")
        experiments = [experiment for _, experiment in found]
        place = {name: shape.get(name) for name in ("endpoint", "region")}
        return Submitted(str(shape["store"]), run, experiments, _ended(home, run_ulid), **place)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GridError(f"What was kept of the submission {run_ulid} is damaged: {error}.") from None


def _submission_file(home: Home, run_ulid: str) -> str:
    return os.path.join(home.journal(run_ulid), "run.json")


def _ended_file(home: Home, run_ulid: str) -> str:
    return os.path.join(home.journal(run_ulid), "ended")


def _ended(home: Home, run_ulid: str) -> frozenset[str]:
    try:
        with open(_ended_file(home, run_ulid), encoding="ascii") as file:
            return frozenset(file.read().split())
    except FileNotFoundError:
        return frozenset()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: str) -> Any:
    try:
        return read_json(path)
    except ValueError:
        raise GridError(f"{path} is damaged: it is no JSON.") from None


def _of(shape: Any, ulid: str) -> tuple[Run, Experiment]:
    try:
        run, experiment = _parsed(shape)
        if experiment.experiment_id != ulid:
            raise ValueError("it is of another experiment")
        return run, experiment
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The record of the experiment is damaged: {error!r}.") from None


def _parsed(shape: Mapping[str, Any]) -> tuple[Run, Experiment]:
    """Nothing in it is believed that could do harm: ids and names become those of folders. What a newer version has
    added is passed over."""
    if shape.get("format", FORMAT) != FORMAT:
        raise ValueError(f"its format is {shape['format']!r}, not {FORMAT}")
    run = Run(
        run_id=_matching(_RUN_ID, shape["run_id"]),
        name=str(shape["run"]),
        kind=str(shape["kind"]),
        cluster=str(shape["cluster"]),
        created_by=str(shape["created_by"]),
        created_at=_seconds(shape.get("submitted", shape["submitted_at"])) or 0.0,
        spec=RunSpec(**{name: value for name, value in shape["spec"].items() if name in _SPEC_FIELDS}),
        parent=shape.get("parent"),
    )
    if not valid_run_name(run.name):
        raise ValueError(f"{run.name!r} is no name of a run")
    times = shape.get("times", shape)
    experiment = Experiment(
        experiment_id=_matching(ULID, shape["experiment_id"]),
        run_id=run.run_id,
        run=run.name,
        index=int(shape["index"]),
        state=State(shape["state"]),
        outcome=shape["outcome"],
        reason=shape["reason"],
        exit_code=shape["exit_code"],
        params=dict(shape["params"]),
        args=list(shape["args"]),
        command=str(shape["command"]),
        attempt=int(shape["attempt"]),
        created_at=_seconds(times["created_at"]) or 0.0,
        started_at=_seconds(times["started_at"]),
        ended_at=_seconds(times["ended_at"]),
        finished_at=_seconds(times["finished_at"]),
        capture=shape["capture"],
    )
    if experiment.index < 0:
        raise ValueError(f"its index is {experiment.index}")
    return run, experiment


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no id")
    return text


def _seconds(at: Any) -> float | None:
    """From seconds, or from the ISO 8601 of records that have nothing else."""
    if isinstance(at, str):
        return datetime.fromisoformat(at).timestamp()
    return None if at is None else float(at)
