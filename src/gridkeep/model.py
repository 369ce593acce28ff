"""The words of the product as types: run, experiment, artifact, their states, and their JSON shapes.

Knows nothing of where these are kept or how they are shown. Times are seconds since the epoch (UTC), sizes are bytes,
paths of artifacts are the exact bytes that the run used.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

JSON = dict[str, Any]


class State(StrEnum):
    """State of an experiment, and (derived) of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SYNCING = "syncing"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def active(self) -> bool:
        return self in ACTIVE_STATES


ACTIVE_STATES = (State.QUEUED, State.RUNNING, State.SYNCING)
FINAL_STATES = (State.COMPLETED, State.FAILED, State.STOPPED)
STATE_PRECEDENCE = (State.RUNNING, State.SYNCING, State.QUEUED, State.FAILED, State.STOPPED)


class Outcome(StrEnum):
    """How an experiment ended, beside its state."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    TERMINATED = "terminated"
    MAX_STEPS = "max_steps"
    LOST = "lost"
    SYNC = "sync"
    START = "start"


class ArtifactState(StrEnum):
    """State of an artifact. Whether it has bytes in the store is told by its `sha256`, not by the state alone:
    a growing file may have a crash copy, a removed one its last version."""

    GROWING = "growing"
    PENDING = "pending"
    STORED = "stored"
    MISSING = "missing"
    IGNORED = "ignored"
    REMOVED = "removed"


# Skyvern's own enumeration (client 1.0.56), and `file`: what a script run writes.
ArtifactType = Literal[
    "file",
    "recording",
    "audio",
    "session_replay",
    "eval_score",
    "eval_trajectory",
    "eval_rubrics",
    "browser_console_log",
    "browser_session_action_log",
    "skyvern_log",
    "skyvern_log_raw",
    "screenshot",
    "screenshot_llm",
    "screenshot_action",
    "screenshot_final",
    "screenshot_proxy",
    "screenshot_pre_submit",
    "llm_prompt",
    "llm_request",
    "llm_response",
    "llm_response_parsed",
    "llm_response_rendered",
    "visible_elements_id_css_map",
    "visible_elements_id_frame_map",
    "visible_elements_tree",
    "visible_elements_tree_trimmed",
    "visible_elements_tree_in_prompt",
    "hashed_href_map",
    "visible_elements_id_xpath_map",
    "html",
    "html_scrape",
    "html_action",
    "html_pre_submit",
    "trace",
    "har",
    "script_file",
    "pdf",
    "step_archive",
    "task_archive",
    "download",
    "unknown",
]
ARTIFACT_TYPES: tuple[str, ...] = get_args(ArtifactType)


# ---------------------------------------------------------------------------------------------------- names and ids

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
EXPERIMENT_SUFFIX = re.compile(r"-exp(\d+)$")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


_noise: deque[bytes] = deque()  # that no other process has
os.register_at_fork(after_in_child=_noise.clear)


def new_ulid(at: float | None = None) -> str:
    """A 26-character lowercase ULID: 48 bits of milliseconds, 80 bits of randomness (ulid/spec, Crockford base 32)."""
    millis = int((time.time() if at is None else at) * 1000)
    number = (millis & (1 << 48) - 1) << 80 | int.from_bytes(_ten_bytes(), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def _ten_bytes() -> bytes:
    """Of the system's randomness, for many at once: each call of the system lets other threads go first."""
    while True:
        try:
            return _noise.popleft()
        except IndexError:
            block = os.urandom(640)
            _noise.extend(block[at : at + 10] for at in range(0, len(block), 10))


def valid_run_name(name: str) -> bool:
    """Lowercase letters, digits and inner hyphens, 1 to 63 characters, not ending like an experiment's name."""
    return len(name) <= 63 and bool(NAME_PATTERN.fullmatch(name)) and not EXPERIMENT_SUFFIX.search(name)


def iso(at: float | None) -> str | None:
    """ISO 8601 in UTC with microseconds and `Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# ------------------------------------------------------------------------------------------------------------- types


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where runs execute (`engine`) and where their files are kept (`store`, a URI)."""

    name: str
    engine: str
    store: str
    endpoint: str | None = None
    region: str | None = None

    @property
    def uri(self) -> str:
        """Its store's, with a trailing slash, for people."""
        return f"{self.store.rstrip('/')}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """All that is needed to execute a run's experiments, fixed at submission. Kept in the catalog: holds no secrets
    (the environment lies in a 0600 file of the home)."""

    argv: list[str]  # the program and its fixed arguments, resolved; an experiment adds its own
    display: str  # what the user typed, for people
    workdir: str  # where the script starts, relative to the root of the working copy ("" is the root)
    root: str  # the folder that the working copy was taken from
    umask: int = 0o022  # the submitter's
    in_place: bool = False
    capture: bool = True
    linked: list[str] = field(
        default_factory=list
    )  # entries of the working copy that are links to the project's own
    exclude: list[str] = field(default_factory=list)
    env_names: list[str] = field(default_factory=list)  # names given by --env; values are never kept here
    inputs: list[str] = field(default_factory=list)
    cpus: float = 1
    gpus: int = 0
    memory: str | None = None
    parallel: int | None = None
    timeout: float | None = None  # seconds
    auto_resume: bool = False
    strategy: str = "grid_search"
    num_trials: int | None = None
    seed: int | None = None
    on_build: list[str] = field(default_factory=list)
    on_experiment_start: list[str] = field(default_factory=list)
    on_experiment_end: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the user submitted, once. State, times and totals are derived from its experiments when it is read."""

    run_id: str  # "wr_" + ULID for a script run, "tsk_" + ULID for a browser run
    name: str
    kind: str
    cluster: str
    created_by: str
    created_at: float
    spec: RunSpec
    parent: str | None = None  # experiment_id, when submitted from inside a run
    counts: dict[State, int] = field(default_factory=dict)
    reason: str | None = None
    outcome: str | None = None  # what all experiments that decide its state have in common
    started_at: float | None = None
    finished_at: float | None = None  # set once no experiment is active
    artifacts: int = 0
    bytes: int = 0
    missing: int = 0

    @property
    def ulid(self) -> str:
        return self.run_id.split("_", 1)[1]

    @property
    def experiments(self) -> int:
        return sum(self.counts.values())

    @property
    def state(self) -> State:
        return derive_state(self.counts)

    def to_json(self) -> JSON:
        end = self.finished_at if self.finished_at is not None else time.time()
        return {
            "name": self.name,
            "run_id": self.run_id,
            "kind": self.kind,
            "state": str(self.state),
            "reason": self.reason,
            "cluster": self.cluster,
            "created_by": self.created_by,
            "created_at": iso(self.created_at),
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at),
            "duration_s": None if self.started_at is None else round(max(0.0, end - self.started_at), 3),
            "experiments": self.experiments,
            "counts": {str(state): self.counts.get(state, 0) for state in State},
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "missing": self.missing,
        }


def derive_state(counts: dict[State, int]) -> State:
    """A run's state from its experiments: the first of running, syncing, queued, failed, stopped that any has."""
    return next((state for state in STATE_PRECEDENCE if counts.get(state)), State.COMPLETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One execution of a run: the i-th combination of its sweep."""

    experiment_id: str  # ULID; names the folder in the store
    run_id: str
    run: str  # the run's name
    index: int
    state: State = State.QUEUED
    outcome: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    params: JSON = field(default_factory=dict)
    args: list[str] = field(default_factory=list)  # what this experiment adds to the run's argv
    command: str = ""  # for people
    attempt: int = 1
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None  # when the script ended; syncing follows
    finished_at: float | None = None
    artifacts: int = 0  # with bytes in the store, without removed ones
    bytes: int = 0
    missing: int = 0
    growing: int = 0
    waiting_for: str | None = None
    stop_requested: str | None = None  # the reason to give: "stopped by its owner"
    capture: JSON | None = None  # mode and counters
    manifest_sha256: str | None = None

    @property
    def run_ulid(self) -> str:
        return self.run_id.split("_", 1)[1]

    @property
    def name(self) -> str:
        return f"{self.run}-exp{self.index}"

    def to_json(self) -> JSON:
        now = time.time()
        queued_until = self.started_at or self.finished_at or now
        run_until = self.finished_at or now
        return {
            "name": self.name,
            "experiment_id": self.experiment_id,
            "run": self.run,
            "state": str(self.state),
            "outcome": self.outcome,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "params": self.params,
            "command": self.command,
            "attempt": self.attempt,
            "created_at": iso(self.created_at),
            "started_at": iso(self.started_at),
            "ended_at": iso(self.ended_at),
            "finished_at": iso(self.finished_at),
            "queued_s": round(max(0.0, queued_until - self.created_at), 3),
            "run_s": 0.0 if self.started_at is None else round(max(0.0, run_until - self.started_at), 3),
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "missing": self.missing,
            "growing": self.growing,
            "waiting_for": self.waiting_for,
            "capture": self.capture,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of one experiment. `size` and `sha256` are those of the version in the store when `sha256` is set:
    exactly then it can be downloaded."""

    artifact_id: str  # "art_" + ULID
    experiment_id: str
    path: bytes | None  # None: a loss whose path is unknown
    state: ArtifactState
    type: str = "file"
    size: int | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    mode: int | None = None
    reason: str | None = None
    key: str | None = None  # in the store
    etag: str | None = None
    count: int = 1  # more than one: stands for so many ignored or removed files of that folder
    change: int = 0

    @property
    def downloadable(self) -> bool:
        return self.sha256 is not None

    def to_json(self, experiment: str) -> JSON:
        shape: JSON = {"experiment": experiment, "artifact_id": self.artifact_id, **path_json(self.path)}
        shape |= {
            "type": self.type,
            "size": self.size,
            "sha256": self.sha256,
            "modified_at": None if self.mtime_ns is None else iso(self.mtime_ns / 1e9),
            "state": str(self.state),
            "reason": self.reason,
        }
        if self.count != 1:
            shape["count"] = self.count
        return shape


class Listed(NamedTuple):
    """An artifact in a long listing: the fields of `Artifact` that are told there, made of a row with little ado."""

    artifact_id: str
    experiment_id: str
    path: bytes | None
    state: str
    type: str
    size: int | None
    sha256: str | None
    mtime_ns: int | None
    reason: str | None
    key: str | None

    @property
    def downloadable(self) -> bool:
        return self.sha256 is not None


def path_json(path: bytes | None) -> JSON:
    """`path` as readable text, and `path_b64` with the exact bytes only where they are not UTF-8."""
    if path is None:
        return {"path": None}
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": path.decode(errors="replace"), "path_b64": base64.b64encode(path).decode()}


def path_from_json(shape: JSON) -> bytes | None:
    """The inverse of `path_json`."""
    if "path_b64" in shape:
        return base64.b64decode(shape["path_b64"])
    path = shape["path"]
    return None if path is None else str(path).encode()
