"""Rebuilding a lost catalog from a store, and from what this home still holds of runs of that store.

Adds what the catalog lacks and touches nothing that it has right: repeated, it changes nothing; killed, the next one goes
on. What is unfinished here comes first, a run at a time, so that nobody takes the rest of such a run for done with. Deletes
nothing anywhere. Knows nothing of how things are printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gridkeep.errors import Conflict, NotFound, ObjectMissing, StoreError, StoreUnavailable
from gridkeep.files import is_locked, take_lock
from gridkeep.model import JSON, Cluster, Experiment, Run
from gridkeep.runs.cluster import make_cluster
from gridkeep.runs.context import Context
from gridkeep.runs.unfinished import find_unfinished, has_ledger, let_sync_again, place_of, submissions
from gridkeep.stores import open_store
from gridkeep.stores.base import Store
from gridkeep.stores.keys import experiment_prefix, manifest_key
from gridkeep.supervisor import restore
from gridkeep.supervisor.finish import has_manifest
from gridkeep.supervisor.marks import marked
from gridkeep.supervisor.record import ULID, read_record

_PREFIX = "experiments/"


@dataclass(slots=True)
class RebuiltRun:
    """What came back of one run. Counts are of its experiments."""

    run: Run
    name: str  # as it was called when it was submitted; `run.name` is another when that was taken
    restored: int = 0  # brought back with what was kept of them
    resumed: int = 0  # brought back unfinished: they go on here
    unchanged: int = 0

    def to_json(self) -> JSON:
        counts = {name: getattr(self, name) for name in ("restored", "resumed", "unchanged")}
        return {**self.run.to_json(), "submitted_as": self.name, **counts}


@dataclass(slots=True)
class Rebuilt:
    """What came back, and what could not: a sentence for each, with the place."""

    store: str
    runs: list[RebuiltRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def rebuild(
    context: Context,
    uri: str,
    progress: Callable[[str], None] = lambda _: None,
    *,
    endpoint: str | None = None,
    region: str | None = None,
) -> Rebuilt:
    """Brings back all that the store `uri` and this home tell of its runs. `progress` is told what is at work. `endpoint`
    and `region` are known where the store has a cluster, or a run that was submitted here.

    Raises UsageError for what is no URI, StoreError when the store is not there, NotFound when there is nothing to rebuild,
    Conflict when another rebuild is at work.
    """
    place = _place(context, make_cluster("rebuild", uri, endpoint=endpoint, region=region))
    store = open_store(place, environ=context.environ, timeout=context.settings.store_timeout)
    lock = take_lock(os.path.join(context.home.path, "rebuild.lock"))
    if lock is None:
        raise Conflict("Another `grid catalog rebuild` is at work in this home.", "Wait until it has ended.")
    try:
        return _Rebuild(context, place, store, progress).run()
    finally:
        os.close(lock)


def _place(context: Context, asked: Cluster) -> Cluster:
    """With the endpoint and region that it has here, in so far as none were given."""
    known = [(each.store, each.endpoint, each.region) for each in context.catalog.clusters()]
    known += [(*place_of(each), each.region) for each in submissions(context.home)]
    for store, endpoint, region in known:
        if store.rstrip("/") == asked.store and asked.endpoint in (None, endpoint):
            return replace(asked, endpoint=endpoint, region=asked.region or region)
    return asked


class _Rebuild:
    def __init__(
        self, context: Context, place: Cluster, store: Store, progress: Callable[[str], None]
    ) -> None:
        self._context = context
        self._place = place
        self._catalog = context.catalog
        self._store = store
        self._progress = progress
        self._found: dict[str, RebuiltRun] = {}  # by run_id
        self._resumed: set[str] = set()
        self._result = Rebuilt(store.uri)
        self._known_cluster: str | None = None

    def run(self) -> Rebuilt:
        names = frozenset(self._store.folders(_PREFIX))
        stored = frozenset(filter(ULID.fullmatch, names))
        for name in sorted(names - stored):
            self._problem(f"{_PREFIX}{name}/", "it is no experiment's folder")
        self._bring_back_unfinished(stored)
        to_go = frozenset(marked(self._context.home))  # somebody deletes them
        for number, ulid in enumerate(sorted(stored - self._resumed - to_go), start=1):
            at = f"{number:,} of {len(stored):,} experiments"
            self._progress(at)
            try:
                self._bring_back(ulid, at)
            except StoreUnavailable:
                raise
            except (StoreError, Conflict) as error:
                self._problem(experiment_prefix(ulid), error.message)
        if not (names or self._found):
            raise NotFound(
                f"There is nothing to rebuild in {self._store.uri}: it has no {_PREFIX}",
                f"Name the folder or bucket that holds `{_PREFIX}`, as in file:///data/runs.",
            )
        self._result.runs = [self._as_it_is(each) for each in self._found.values()]
        self._result.runs.sort(key=lambda each: each.run.ulid)
        return self._result

    def _bring_back_unfinished(self, stored: frozenset[str]) -> None:
        for run, experiments in find_unfinished(self._context, self._place, self._store, stored):
            for experiment in experiments:
                let_sync_again(self._context.home, experiment)
            try:
                there = self._catalog.restore(self._here(run), experiments)
            except Conflict as error:
                self._result.problems.append(f"{run.name}: {error.message}")
                continue
            self._note(run, there).resumed += len(experiments)
            self._resumed.update(one.experiment_id for one in experiments)

    def _bring_back(self, ulid: str, at: str) -> None:
        known = self._catalog.experiment(ulid)
        if known is not None and known.state.active and self._goes_on(known):
            return self._unchanged(known)
        digest = restore.manifest_digest(self._store, ulid)
        if known is not None and known.manifest_sha256 is not None and known.manifest_sha256 == digest:
            return self._unchanged(known)
        try:
            run, experiment = read_record(self._store, ulid)
        except ObjectMissing:
            if next(iter(self._store.list(experiment_prefix(ulid))), None) is not None:
                self._problem(experiment_prefix(ulid), "it has no experiment.json: nothing says what it was")
            return None
        why = None
        if digest is not None:
            try:
                header = restore.check_manifest(self._store, ulid)
            except StoreUnavailable:
                raise
            except StoreError as error:
                why = error.message
                self._problem(manifest_key(ulid), why)
            else:
                there = restore.from_manifest(
                    self._catalog, self._store, self._here(run), experiment, header, digest, self._count(at)
                )
                self._note(run, there).restored += 1
                return None
        if known is not None and (known.outcome != "lost" or known.manifest_sha256 is not None):
            return self._unchanged(known)  # the catalog knows more of it than the store
        there, changed = restore.from_objects(
            self._catalog, self._store, self._here(run), experiment, why, self._count(at)
        )
        noted = self._note(run, there)
        noted.restored += changed
        noted.unchanged += not changed
        return None

    def _goes_on(self, known: Experiment) -> bool:
        """Whether one that the catalog has as active is in the hands of the engine here, or can be: else the catalog may be
        older than the store."""
        ulid, home = known.experiment_id, self._context.home
        return (
            has_ledger(home, ulid)
            or is_locked(home.supervisor_lock(ulid))
            or not has_manifest(self._store, ulid)
        )

    # -------------------------------------------------------------------------------------------------------- clusters

    def _here(self, run: Run) -> Run:
        """The run, of the cluster that has this store here."""
        if self._known_cluster is None:
            self._known_cluster = self._cluster(run.cluster)
        return replace(run, cluster=self._known_cluster)

    def _cluster(self, wanted: str) -> str:
        """The cluster with this store; where there is none it is added, by the name that it had if that is free."""
        here = (self._place.store, self._place.endpoint)
        for cluster in self._catalog.clusters():
            if (cluster.store.rstrip("/"), cluster.endpoint) == here:
                return cluster.name
        name, number = wanted, 2
        while (new := replace(self._place, name=name)) != self._catalog.add_cluster(new):
            name, number = f"{wanted}-{number}", number + 1
        return name

    # --------------------------------------------------------------------------------------------------------- results

    def _note(self, submitted: Run, there: Run) -> RebuiltRun:
        return self._found.setdefault(there.run_id, RebuiltRun(there, submitted.name))

    def _unchanged(self, known: Experiment) -> None:
        if known.run_id not in self._found:
            run = self._catalog.run(known.run_id)
            if run is None:
                return  # deleted in this moment
            self._found[run.run_id] = RebuiltRun(run, run.name)
        self._found[known.run_id].unchanged += 1

    def _as_it_is(self, each: RebuiltRun) -> RebuiltRun:
        return replace(each, run=self._catalog.run(each.run.run_id) or each.run)

    def _count(self, at: str) -> Callable[[int], None]:
        return lambda count: self._progress(f"{at}, {count:,} files of this one")

    def _problem(self, key: str, what: str) -> None:
        self._result.problems.append(f"{self._store.uri}{key}: {what}")
