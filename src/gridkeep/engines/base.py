"""The contract of an engine: it executes supervisors, and knows nothing of runs, catalogs or files.

`submit` is idempotent on the job's key (experiment and attempt): one that is already there is not started twice. An engine's
word on how a job ended is only a hint; the outcome comes from the supervisor's own record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """What an engine knows of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A supervisor to execute."""

    key: str  # experiment and attempt
    command: list[str]
    lock: str  # the file that the supervisor holds locked while it lives
    log: str  # where its own messages go
    environ: Mapping[str, str] = field(default_factory=dict)  # added to the engine's
    cpus: float = 1
    gpus: int = 0
    memory: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be reserved in all."""

    cpus: float
    gpus: int
    memory: int  # bytes


class Engine(Protocol):
    """See the module's docstring."""

    def submit(self, job: Job) -> str:
        """Starts it, or finds it started; returns a handle. Raises OSError when it cannot."""
        ...

    def phase(self, handle: str) -> Phase: ...

    def cancel(self, handle: str) -> None:
        """Ends the supervisor, not its script: who wants that asks the supervisor through the catalog."""
        ...

    def capacity(self) -> Capacity: ...

    def forget(self, handle: str) -> None:
        """The job is over and will not be asked for again."""
        ...
