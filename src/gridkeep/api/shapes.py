"""Runs and artifacts as JSON: the fields that Skyvern's client knows, and ours besides.

Pure: from what the catalog says to a dict. Listing artifacts is the busiest call, so their shape is made with little ado.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from gridkeep.api.places import Place
from gridkeep.model import JSON, Artifact, Experiment, Listed, Outcome, Run, State, iso, path_json

ORGANIZATION = "o_gridkeep"  # Skyvern's client wants one

RunStatus = Literal[
    "created", "queued", "running", "paused", "timed_out", "failed", "terminated", "completed", "canceled"
]
RunType = Literal[
    "task_v1",
    "task_v2",
    "task_v3",
    "workflow_run",
    "openai_cua",
    "anthropic_cua",
    "ui_tars",
    "yutori_navigator",
]

_KINDS: dict[str, RunType] = {"script": "workflow_run", "browser": "task_v2"}
_STATUS: dict[State, RunStatus] = {
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.SYNCING: "running",  # `completed` comes after the last byte
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.STOPPED: "canceled",
}
_FAILED: dict[str, RunStatus] = {Outcome.TIMEOUT: "timed_out", Outcome.TERMINATED: "terminated"}
_BASE_32 = bytes.maketrans(b"jkmnpqrstvwxyz", b"ijklmnopqrstuv")  # from Crockford's digits to those of `int`


# ---------------------------------------------------------------------------------------------------------------- runs


def run_type(kind: str) -> RunType:
    return _KINDS[kind]


def kinds_of(types: Sequence[str]) -> list[str]:
    """The kinds of runs that have one of these types."""
    return [kind for kind, name in _KINDS.items() if name in types]


def status_of(run: Run) -> RunStatus:
    """The run's state in Skyvern's words."""
    status = _STATUS[run.state]
    return _FAILED.get(run.outcome or "", status) if status == "failed" else status


def states_of(statuses: Sequence[str]) -> list[State]:
    """The states that runs of these statuses may be in."""
    wider = {"failed" if status in _FAILED.values() else status for status in statuses}
    return [state for state, status in _STATUS.items() if status in wider]


def run_shape(run: Run, base_url: str) -> JSON:
    """A run, without what its artifacts give (`downloaded_files`, `recording_url`, `screenshot_urls`)."""
    shape = run.to_json()
    changed = max(at for at in (run.created_at, run.started_at, run.finished_at) if at is not None)
    return {
        **shape,
        "run_type": run_type(run.kind),
        "status": status_of(run),
        "output": None,
        "downloaded_files": [],
        "recording_url": None,
        "screenshot_urls": [],
        "failure_reason": run.reason if run.state in (State.FAILED, State.STOPPED) else None,
        "modified_at": iso(changed),
        "queued_at": shape["created_at"],
        "app_url": f"{base_url}/runs/{run.name}",
        "errors": [],
        "step_count": 0 if run.kind == "browser" else None,
        "run_request": None,
        "syncing": run.state is State.SYNCING,
    }


def run_item(run: Run, base_url: str) -> JSON:
    """A run in a listing: what Skyvern's client needs there comes on top."""
    return run_shape(run, base_url) | {
        "task_run_id": run.run_id,
        "task_run_type": run_type(run.kind),
        "title": run.name,
        "script_run": False,
    }


def errors_of(experiments: Sequence[Experiment]) -> list[JSON]:
    """What went wrong, for each experiment that did not complete."""
    return [
        {
            "error_code": experiment.outcome,
            "reasoning": experiment.reason,
            "experiment": experiment.name,
            "exit_code": experiment.exit_code,
        }
        for experiment in experiments
        if experiment.state is State.FAILED
    ]


# ------------------------------------------------------------------------------------------------------------ artifacts


def artifact_shapes(
    artifacts: Sequence[Artifact | Listed],
    places: Mapping[str, Place],
    store_uri: str,
    urls: Sequence[str | None],
) -> Iterator[JSON]:
    """Each artifact of one store. `places` has their experiments, `urls` the signed URL of each."""
    common = {experiment_id: _in_common(place) for experiment_id, place in places.items()}
    for artifact, url in zip(artifacts, urls, strict=True):
        path, mtime_ns = artifact.path, artifact.mtime_ns
        created = _iso_ulid(artifact.artifact_id[4:14])
        shape = common[artifact.experiment_id].copy()
        shape["artifact_id"] = artifact.artifact_id
        shape["artifact_type"] = artifact.type
        shape["uri"] = store_uri + (artifact.key or places[artifact.experiment_id].prefix)
        shape["created_at"] = created
        shape["modified_at"] = created if mtime_ns is None else _iso_ns(mtime_ns)
        shape["signed_url"] = url
        shape["checksum"] = artifact.sha256
        shape["file_size"] = artifact.size
        shape["state"] = artifact.state
        shape["reason"] = artifact.reason
        shape["mime_type"] = mime_type_of(path)
        if path is not None and path.isascii():  # nearly all are
            shape["path"] = path.decode()
        else:
            shape |= path_json(path)
        yield shape


def _in_common(place: Place) -> JSON:
    """An artifact's fields in their order, with the values that all of one experiment have: a copy that is filled in costs
    half of a dict that is made of so many."""
    return {
        "artifact_id": None,
        "artifact_type": None,
        "uri": None,
        "organization_id": ORGANIZATION,
        "created_at": None,
        "modified_at": None,
        "signed_url": None,
        "run_id": place.run_id,
        "task_id": place.task_id,
        "workflow_run_id": place.workflow_run_id,
        "workflow_run_block_id": None,
        "step_id": None,
        "browser_session_id": None,
        "observer_cruise_id": None,
        "observer_thought_id": None,
        "ai_suggestion_id": None,
        "bundle_key": None,
        "checksum": None,
        "file_size": None,
        "archived": False,
        "experiment": place.experiment,
        "path": None,
        "state": None,
        "reason": None,
        "mime_type": None,
        "step_number": None,
    }


@lru_cache(4096)  # many are made in one ms
def _iso_ulid(digits: str) -> str:
    """When an id was made: a ULID begins with the time in ms, in ten digits."""
    try:
        millis = int(digits.encode().translate(_BASE_32), 32)
    except ValueError:
        millis = 0
    return f"{_second(millis // 1000)}.{millis % 1000:03d}000Z"


def _iso_ns(ns: int) -> str:
    second, rest = divmod(ns, 1_000_000_000)
    return f"{_second(second)}.{rest // 1000:06d}Z"


@lru_cache(4096)
def _second(at: int) -> str:
    """Of any time that a file may claim, or as near as there is one: 2026-01-31T23:59:59."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59" if at > 0 else "0001-01-01T00:00:00"


def mime_type_of(path: bytes | None) -> str | None:
    """What the file at that path most likely is."""
    return None if path is None else mime_type(path.rpartition(b".")[2])


@lru_cache(1024)
def mime_type(suffix: bytes) -> str:
    """What a file with that ending (without its dot) most likely is."""
    guess = mimetypes.guess_type(f"x.{suffix.decode(errors='replace')}", strict=False)
    return guess[0] if guess[0] and not guess[1] else _compressed(guess[1])


def _compressed(encoding: str | None) -> str:
    return f"application/x-{encoding}" if encoding else "application/octet-stream"
