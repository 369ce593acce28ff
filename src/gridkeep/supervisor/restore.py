"""One experiment of the store back into the catalog: from its manifest, or, where there is none, from what lies there.

The proof comes last: until all artifacts are recorded the experiment says that it is being rebuilt, so a rebuild that was
killed is finished by the next. What is there already as it should be is not touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from gridkeep.catalog.base import Catalog
from gridkeep.errors import Conflict, ObjectMissing, StoreError, StoreUnavailable
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, Outcome, Run, State
from gridkeep.stores.base import Store
from gridkeep.stores.digest import digest_of
from gridkeep.stores.keys import artifacts_prefix, manifest_key
from gridkeep.supervisor import manifest
from gridkeep.supervisor.entry import new_artifact_id
from gridkeep.supervisor.record import read_record

_BATCH = 2000
_NOT_COUNTED = (
    ArtifactState.MISSING,
    ArtifactState.IGNORED,
    ArtifactState.REMOVED,
)  # among a manifest's files
_BEING_REBUILT = "it is being rebuilt from the store; `grid catalog rebuild` again if that was cut off"
_UNKNOWN_END = "its end is not known: it was rebuilt from the store without a manifest"

Progress = Callable[[int], None]  # is told how many artifacts have come back so far


def manifest_digest(store: Store, ulid: str) -> str | None:
    """The SHA-256 of its manifest; None when it has none. Raises StoreError."""
    try:
        return digest_of(store, manifest_key(ulid))[0]
    except ObjectMissing:
        return None


def check_manifest(store: Store, ulid: str) -> JSON:
    """Reads all of it; returns its first line. Raises StoreError for one that is damaged, cut off, or another's."""
    header, artifacts = manifest.read(store.get(manifest_key(ulid)))
    try:
        if header["experiment_id"] != ulid:
            raise StoreError("The manifest is of another experiment.")
        if State(header["state"]).active:  # else it would be executed
            raise ValueError("it says that its experiment has not ended")
        datetime.fromisoformat(header["finished_at"])
        header["outcome"], header["reason"], header["exit_code"], header["capture"], int(header["attempt"])
        promised = header["totals"]["files"], header["totals"]["missing"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The manifest is damaged at line 1: {error!r}.") from None
    files = missing = 0
    for artifact in artifacts:
        files += artifact.downloadable and artifact.state not in _NOT_COUNTED
        missing += artifact.state is ArtifactState.MISSING
    if (files, missing) != promised:
        raise StoreError(f"The manifest is cut off: it lists {files} of {promised[0]} files.")
    return header


def from_manifest(
    catalog: Catalog,
    store: Store,
    run: Run,
    experiment: Experiment,
    header: JSON,
    digest: str,
    progress: Progress,
    *,
    supervised: bool = False,
) -> Run:
    """Brings it back exactly as it ended; returns its run. `experiment` is that of its record, `header` and `digest` are of
    its manifest, which was checked. `supervised`: should we be killed, a supervisor begins again. Raises StoreError,
    Conflict, CatalogError."""
    ended = _ended(experiment, header)
    for_now: dict[str, Any] = {"state": State.SYNCING, "outcome": None, "reason": None}
    if not supervised:
        for_now = {"state": State.FAILED, "outcome": str(Outcome.LOST), "reason": _BEING_REBUILT}
    for_now["manifest_sha256"] = None
    there = catalog.restore(run, [replace(ended, **for_now)])
    catalog.update_experiment(ended.experiment_id, **for_now)  # where an older record was there
    while stale := catalog.artifacts(ended.experiment_id, limit=_BATCH):
        catalog.record_artifacts(ended.experiment_id, [], [each.artifact_id for each in stale])
    _, artifacts = manifest.read(store.get(manifest_key(ended.experiment_id)))
    count = 0
    while batch := list(itertools.islice(artifacts, _BATCH)):
        catalog.record_artifacts(ended.experiment_id, batch)
        progress(count := count + len(batch))
    catalog.update_experiment(ended.experiment_id, **_fields(ended), manifest_sha256=digest)
    return there


def bring_back(catalog: Catalog, store: Store, run: Run, experiment: Experiment) -> bool:
    """Whether it has ended before, as its manifest says, though the catalog has it as active: then that is told to the
    catalog. What the home has of it is worth nothing: it may be older, or a machine that went down may have lost the rest.
    Raises StoreError, CatalogError."""
    ulid = experiment.experiment_id
    digest = manifest_digest(store, ulid)
    if digest is None:
        return False
    try:
        header = check_manifest(store, ulid)
    except StoreUnavailable:
        raise
    except StoreError:
        return False  # it is damaged, and says nothing
    try:
        _, experiment = read_record(store, ulid)
    except StoreUnavailable:
        raise
    except StoreError:
        pass  # the catalog knows enough of it
    with suppress(Conflict):  # it is being deleted
        from_manifest(catalog, store, run, experiment, header, digest, lambda _: None, supervised=True)
    return True


def from_objects(
    catalog: Catalog, store: Store, run: Run, experiment: Experiment, why: str | None, progress: Progress
) -> tuple[Run, bool]:
    """Brings back what the store holds of one without a (sound) manifest, hashing every object; `why`: what is wrong with
    the manifest, if there is one. Returns its run, and whether anything was not there already. Raises StoreError, Conflict,
    CatalogError."""
    wanted = _lost(experiment, why)
    known = catalog.experiment(wanted.experiment_id)
    there = catalog.restore(run, [wanted])
    changed = known is None
    if known is not None and _fields(known) != _fields(wanted):
        changed = catalog.update_experiment(wanted.experiment_id, **_fields(wanted))
    count = 0
    new = _unknown_objects(catalog, store, wanted.experiment_id)
    while batch := list(itertools.islice(new, _BATCH)):
        catalog.record_artifacts(wanted.experiment_id, batch)
        progress(count := count + len(batch))
    return there, changed or count > 0


def _ended(experiment: Experiment, header: JSON) -> Experiment:
    """As it ended: what its record says, which was put just before the manifest; should that be the one of its start, the
    manifest."""
    if not experiment.state.active:
        return experiment
    finished = datetime.fromisoformat(header["finished_at"]).timestamp()
    return replace(
        experiment,
        state=State(header["state"]),
        outcome=header["outcome"],
        reason=header["reason"],
        exit_code=header["exit_code"],
        attempt=header["attempt"],
        capture=header["capture"],
        ended_at=finished,
        finished_at=finished,
    )


def _lost(experiment: Experiment, why: str | None) -> Experiment:
    if not experiment.state.active and experiment.started_at is None and why is None:
        return experiment  # stopped before it had begun: there is nothing to prove
    return replace(
        experiment,
        state=State.FAILED,
        outcome=str(Outcome.LOST),
        reason=_UNKNOWN_END if why is None else f"{_UNKNOWN_END} ({why})",
        finished_at=experiment.finished_at
        or experiment.ended_at
        or experiment.started_at
        or experiment.created_at,
        waiting_for=None,
    )


def _fields(experiment: Experiment) -> dict[str, Any]:
    """What can be set of an experiment, the manifest apart."""
    names = ("state", "outcome", "reason", "exit_code", "attempt", "started_at", "ended_at", "finished_at")
    return {name: getattr(experiment, name) for name in (*names, "capture", "waiting_for")}


def _unknown_objects(catalog: Catalog, store: Store, ulid: str) -> Iterator[Artifact]:
    """An artifact for each object that the catalog does not list just so."""
    prefix = artifacts_prefix(ulid)
    for item in store.list(prefix):
        path = item.key.removeprefix(prefix).encode()
        try:
            sha256, size = digest_of(store, item.key)
        except ObjectMissing:
            continue  # just replaced or removed
        known = catalog.artifact_at(ulid, path)
        if known is not None and (known.sha256, known.size, known.key) == (sha256, size, item.key):
            continue
        yield Artifact(
            artifact_id=known.artifact_id if known else new_artifact_id(),
            experiment_id=ulid,
            path=path,
            state=ArtifactState.STORED,
            size=size,
            sha256=sha256,
            key=item.key,
            etag=item.etag,
        )
