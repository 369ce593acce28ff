"""The contract of a catalog: the record of runs, experiments and artifacts.

Durability: a call that returned is durable against the death of any process (not each against a power cut: the journal
on disk and the store are the truth, the catalog only lags). Concurrency: any number of processes and threads call at
once; a busy database is waited for (at least a minute) and never shown as an error. One `Catalog` object may be used
from several threads.

Order: every change of an experiment's state or of an artifact takes the next *change number*; numbers become visible in
order, so a reader that has seen `after` never misses a smaller one.

Deletion: `begin_delete` hides at once, `finish_delete` removes; what is being deleted is in no listing and its name is
free. Only `deleting` shows it.

Raises CatalogError (or its kin in `errors`), never a driver's exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from gridkeep.catalog.access import AccessCatalog
from gridkeep.catalog.shares import ShareCatalog
from gridkeep.model import Artifact, ArtifactState, Cluster, Experiment, Listed, Run, State


class Catalog(AccessCatalog, ShareCatalog, Protocol):
    """See the module's docstring for what all calls share."""

    @property
    def warning(self) -> str | None:
        """What the user should know of where it lies (a network file system), if anything."""
        ...

    def is_newer(self) -> bool:
        """Whether a newer gridkeep has migrated it since it was opened. What has begun goes on as before; nothing else
        should be begun."""
        ...

    def close(self) -> None: ...

    # ------------------------------------------------------------------------------------------------------ clusters

    def put_cluster(self, cluster: Cluster) -> None:
        """Adds or replaces it."""
        ...

    def add_cluster(self, cluster: Cluster) -> Cluster:
        """Adds it unless its name is taken; returns the one that has the name then."""
        ...

    def delete_cluster(self, name: str) -> int:
        """Removes it unless runs are on it, in any state, or being deleted; returns how many are."""
        ...

    def runs_on(self, name: str) -> int:
        """How many runs are on a cluster, in any state, or being deleted."""
        ...

    def cluster(self, name: str) -> Cluster | None: ...

    def clusters(self) -> list[Cluster]:
        """By name."""
        ...

    # ---------------------------------------------------------------------------------------------------------- runs

    def create_run(self, run: Run, experiments: Sequence[Experiment]) -> None:
        """Adds a run and its queued experiments in one transaction. Raises NameTaken, with a free name in its hint."""
        ...

    def restore(self, run: Run, experiments: Sequence[Experiment]) -> Run:
        """Adds what is not there of a run and of these experiments of it, as they are (totals apart, which come with their
        artifacts), in one transaction; what is there stays as it is. Returns the run as it is then: where its name is taken
        by another, it got a free one. Tombstones of what was added go. Raises Conflict when any of it is being deleted, or
        another experiment has the index of one of them."""
        ...

    def run(self, name: str) -> Run | None:
        """By name or run_id, with counts, times and totals."""
        ...

    def run_id(self, name: str) -> str | None:
        """That of the run of this name or run_id, without what is summed up from its experiments; None as for `run`."""
        ...

    def runs(
        self,
        *,
        active: bool | None = None,
        owner: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Newest first (run_ids are ordered by time). `active`: only those with (True) or without (False) an experiment
        queued, running or syncing. `before`: the run_id after which the page starts."""
        ...

    def find_runs(
        self,
        *,
        owner: str | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State] | None = None,
        search: str | None = None,
        before: str | None = None,
        skip: int = 0,
        limit: int = 100,
    ) -> list[Run]:
        """As `runs`, those of these kinds and derived states with `search` in name or run_id, whatever its case. `skip`: so
        many are passed over first, each of which costs time."""
        ...

    def count_runs(self, *, active: bool, owner: str | None = None) -> int: ...

    def cluster_of(self, experiment_id: str) -> str | None:
        """The name of the cluster of its run, also of one that is being deleted; None when it is not known."""
        ...

    # --------------------------------------------------------------------------------------------------- experiments

    def experiment(self, name: str) -> Experiment | None:
        """By name (`RUN-expN`) or ULID."""
        ...

    def experiments(self, run_id: str, *, after: int = -1, limit: int | None = None) -> list[Experiment]:
        """In order of index, those with a greater index than `after`."""
        ...

    def unfinished(self) -> list[Experiment]:
        """All experiments queued, running or syncing, in order of submission (created_at, run_id, index)."""
        ...

    def has_unfinished(self) -> bool:
        """Whether there is any; cheap, asked by every command."""
        ...

    def update_experiment(
        self, experiment_id: str, *, only_from: Iterable[State] | None = None, **changes: Any
    ) -> bool:
        """Sets fields (those of `Experiment` that are not ids or totals: state, outcome, reason, exit_code, attempt,
        started_at, ended_at, finished_at, waiting_for, stop_requested, capture, manifest_sha256) unless its state is
        not among `only_from`; tells whether it did. Takes a change number."""
        ...

    def request_stop(self, experiment_id: str, reason: str) -> bool:
        """Asks for a stop: a queued experiment becomes `stopped` at once (outcome `terminated`, finished now), a running one
        gets `stop_requested`. False if it is past running."""
        ...

    # ----------------------------------------------------------------------------------------------------- artifacts

    def record_artifacts(
        self, experiment_id: str, artifacts: Sequence[Artifact], forget: Sequence[str] = ()
    ) -> None:
        """Adds or replaces artifacts by artifact_id, drops those in `forget`, and keeps the experiment's totals
        (`artifacts` and `bytes`: downloadable and not removed; `missing`; `growing`), all in one transaction.
        Idempotent. An experiment that is being deleted, or gone, takes nothing and says nothing."""
        ...

    def artifacts(
        self,
        experiment_id: str,
        *,
        after: tuple[bytes, str] | None = None,
        limit: int | None = None,
        states: Iterable[ArtifactState] | None = None,
        types: Iterable[str] | None = None,
        under: bytes | None = None,
    ) -> list[Artifact]:
        """In order of (path bytes, artifact_id); a path of None sorts as b"". `after` is that pair of the last one seen.
        `under`: only the path itself and what lies in it as a folder. Any page costs about the same (keyset)."""
        ...

    def artifacts_by_age(
        self,
        of: str,
        *,
        after: str = "",
        limit: int,
        kept: bool = True,
        types: Iterable[str] | None = None,
    ) -> list[Listed]:
        """The artifacts of a run (by run_id) or an experiment (by ULID) in order of artifact_id, which is that of time;
        `after` is that of the last one seen. `kept`: only those with bytes in the store, in whatever state. Any page costs
        about the same (keyset)."""
        ...

    def artifact(self, artifact_id: str) -> Artifact | None: ...

    def artifacts_by_id(self, artifact_ids: Sequence[str]) -> list[Artifact]:
        """Those that are there, in any order."""
        ...

    def artifact_at(self, experiment_id: str, path: bytes) -> Artifact | None: ...

    # ------------------------------------------------------------------------------------------------------- changes

    def last_change(self) -> int: ...

    def changes(self, after: int, limit: int = 1000) -> list[tuple[int, str, str]]:
        """(number, kind, id) in order; kind is `experiment`, `artifact`, `run_deleted` or `experiment_deleted`. Only
        the newest change of each thing is there; reading on from the last number seen misses nothing."""
        ...

    # ------------------------------------------------------------------------------------------------------ deletion

    def begin_delete(self, experiment_ids: Sequence[str]) -> None:
        """Hides them (and each run that has no other experiment left), all at once. Idempotent."""
        ...

    def deleting(self) -> list[Experiment]:
        """What is hidden and not yet finished, so that work goes on after a crash."""
        ...

    def finish_delete(self, experiment_id: str) -> None:
        """Removes the experiment's records, and its run with the last one. Idempotent."""
        ...
