"""How runs, experiments and artifacts become rows of the tables, and rows become them again.

Knows the columns and their order, and no query. Text that no database takes (a lone surrogate, from a file
name that is not UTF-8) is made readable; JSON and paths keep every byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from gridkeep.catalog.database import Row
from gridkeep.catalog.totals import TOTALS
from gridkeep.model import (
    Artifact,
    ArtifactState,
    Cluster,
    Experiment,
    Listed,
    Run,
    RunSpec,
    State,
    derive_state,
)

CLUSTER_COLUMNS = ("name", "engine", "store", "endpoint", "region")

RUN_COLUMNS = ("run_id", "name", "kind", "cluster", "created_by", "created_at", "parent", "spec")

# What is fixed when an experiment is made, and what `update_experiment` sets. Its TOTALS come from its artifacts.
_FIXED = ("experiment_id", "run_id", "number", "params", "args", "command", "created_at")
UPDATABLE = (
    *("state", "outcome", "reason", "exit_code", "attempt", "started_at", "ended_at", "finished_at"),
    *("waiting_for", "stop_requested", "capture", "manifest_sha256"),
)
EXPERIMENT_COLUMNS = (*_FIXED, *UPDATABLE)

ARTIFACT_COLUMNS = (
    *("artifact_id", "experiment_id", "path", "path_unknown", "state", "type", "size", "sha256"),
    *("mtime_ns", "mode", "reason", "key", "etag", "count", "change"),
)
LISTED_COLUMNS = tuple(  # the fields of `Listed`
    "CASE WHEN path_unknown THEN NULL ELSE path END" if name == "path" else name for name in Listed._fields
)

_JSON_COLUMNS = ("params", "args", "capture")
_SPEC_FIELDS = frozenset(item.name for item in fields(RunSpec))
_ARTIFACT_STATES = {str(state): state for state in ArtifactState}
_INT64 = 2**63 - 1


# ----------------------------------------------------------------------------------------------- parts of SQL


def columns(names: Iterable[str], table: str = "") -> str:
    """The names as a list for SELECT or INSERT, each with its table in front if given."""
    return ", ".join(f"{table}.{name}" if table else name for name in names)


def marks(count: int) -> str:
    """So many parameters of a list: `?, ?, ?`."""
    return ", ".join("?" * count)


def replaced(names: Iterable[str]) -> str:
    """What ON CONFLICT … DO UPDATE sets, to replace these columns."""
    return ", ".join(f"{name} = excluded.{name}" for name in names)


def chunks(items: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Parts short enough for a list of parameters."""
    return (items[start : start + size] for start in range(0, len(items), size))


# ---------------------------------------------------------------------------------------------------- to rows


def plain(text: str | None) -> str | None:
    """Text with each lone surrogate as U+FFFD."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cluster_row(cluster: Cluster) -> Row:
    """The values of CLUSTER_COLUMNS."""
    return tuple(plain(getattr(cluster, name)) for name in CLUSTER_COLUMNS)


def run_row(run: Run) -> Row:
    """The values of RUN_COLUMNS."""
    spec = json.dumps(asdict(run.spec))
    return (
        run.run_id,
        run.name,
        run.kind,
        run.cluster,
        plain(run.created_by),
        run.created_at,
        run.parent,
        spec,
    )


def experiment_row(experiment: Experiment) -> Row:
    """The values of EXPERIMENT_COLUMNS."""
    names = ("index" if name == "number" else name for name in EXPERIMENT_COLUMNS)
    return tuple(experiment_value(name, getattr(experiment, name)) for name in names)


def experiment_value(column: str, value: Any) -> Any:
    """A field of an experiment as its column takes it."""
    if column in _JSON_COLUMNS:
        return None if value is None else json.dumps(value)
    return plain(str(value)) if isinstance(value, str) else value


def artifact_row(artifact: Artifact, experiment_id: str, change: int) -> Row:
    """The values of ARTIFACT_COLUMNS."""
    mtime_ns = artifact.mtime_ns
    return (
        artifact.artifact_id,
        experiment_id,
        artifact.path or b"",
        artifact.path is None,
        str(artifact.state),
        artifact.type,
        artifact.size,
        artifact.sha256,
        None if mtime_ns is None else max(-_INT64, min(mtime_ns, _INT64)),  # a file may claim the year 2400
        artifact.mode,
        plain(artifact.reason),
        artifact.key,
        artifact.etag,
        artifact.count,
        change,
    )


# -------------------------------------------------------------------------------------------------- from rows


def cluster_from(row: Row) -> Cluster:
    """From CLUSTER_COLUMNS."""
    return Cluster(**dict(zip(CLUSTER_COLUMNS, row, strict=True)))


def run_from(row: Row, groups: Sequence[Row], reason: str | None) -> Run:
    """From RUN_COLUMNS and a row for each state that its experiments are in: (state, how many, first
    start, last finish, artifacts, bytes, missing, least and greatest outcome)."""
    shape = dict(zip(RUN_COLUMNS, row, strict=True))
    starts = [group[2] for group in groups if group[2] is not None]
    finishes = [group[3] for group in groups if group[3] is not None]
    counts = {State(group[0]): int(group[1]) for group in groups}
    outcomes = next((group[7:9] for group in groups if group[0] == derive_state(counts)), ("", None))
    return Run(
        spec=_spec_from(json.loads(shape.pop("spec"))),
        **shape,
        counts=counts,
        reason=reason,
        outcome=outcomes[1] if outcomes[0] == outcomes[1] else None,
        started_at=min(starts, default=None),
        finished_at=None if any(state.active for state in counts) else max(finishes, default=None),
        artifacts=sum(group[4] for group in groups),
        bytes=sum(group[5] for group in groups),
        missing=sum(group[6] for group in groups),
    )


def _spec_from(shape: dict[str, Any]) -> RunSpec:
    """Passes over what a newer version has added: a supervisor of this one must be able to finish its
    work."""
    return RunSpec(**{name: value for name, value in shape.items() if name in _SPEC_FIELDS})


def experiment_from(row: Row) -> Experiment:
    """From EXPERIMENT_COLUMNS, TOTALS and the run's name."""
    *values, run = row
    shape = dict(zip(EXPERIMENT_COLUMNS + TOTALS, values, strict=True))
    shape |= {name: json.loads(shape[name]) for name in _JSON_COLUMNS if shape[name] is not None}
    return Experiment(run=run, index=shape.pop("number"), state=State(shape.pop("state")), **shape)


def artifact_from(row: Row) -> Artifact:
    """From ARTIFACT_COLUMNS."""
    return Artifact(
        artifact_id=row[0],
        experiment_id=row[1],
        path=None if row[3] else bytes(row[2]),
        state=_ARTIFACT_STATES[row[4]],
        type=row[5],
        size=row[6],
        sha256=row[7],
        mtime_ns=row[8],
        mode=row[9],
        reason=row[10],
        key=row[11],
        etag=row[12],
        count=row[13],
        change=row[14],
    )
