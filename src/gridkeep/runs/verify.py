"""Proof that a store holds what the manifest says: every object, its size, with `deep` its bytes, and nothing else.

Reads the store and the experiment's recorded hash of the manifest, nothing else of ours. The listing lies in a
temporary database on disk, so that a million artifacts need no memory.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from gridkeep.errors import ObjectMissing, StoreError
from gridkeep.model import JSON, Artifact, Experiment, path_json
from gridkeep.stores.base import Store
from gridkeep.stores.digest import digest_of
from gridkeep.stores.keys import artifacts_prefix, manifest_key
from gridkeep.supervisor import manifest

AHEAD = 4  # files waiting for each thread


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the manifest says. `path` is None where the key belongs to no artifact."""

    problem: str  # missing, size, bytes, extra, manifest, unfinished
    detail: str
    path: bytes | None = None
    key: str | None = None

    def to_json(self) -> JSON:
        return {"problem": self.problem, **path_json(self.path), "key": self.key, "detail": self.detail}


@dataclass(slots=True)
class Verification:
    """`verified` of `total` artifacts with bytes are as they should be. `missing` counts the losses that the manifest
    itself names."""

    experiment: Experiment
    total: int = 0
    verified: int = 0
    missing: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.differences

    def to_json(self) -> JSON:
        return {
            "experiment": self.experiment.name,
            "experiment_id": self.experiment.experiment_id,
            "state": str(self.experiment.state),
            "ok": self.ok,
            "verified": self.verified,
            "total": self.total,
            "missing": self.missing,
            "differences": [difference.to_json() for difference in self.differences],
        }


def verify(store: Store, experiment: Experiment, *, deep: bool = False, jobs: int = 8) -> Verification:
    """Compares store and manifest; `deep` re-hashes the bytes in `jobs` threads. Raises StoreError when the store
    cannot be read."""
    result = Verification(experiment)
    if experiment.state.active:
        reason = f"it is {experiment.state}, and its manifest is written last of all"
        result.differences.append(Difference("unfinished", reason))
        return result
    if experiment.started_at is None and experiment.manifest_sha256 is None:
        return result  # never started: there is nothing to keep
    if not _manifest_is_sound(store, result):
        return result
    with _Listing(store, experiment.experiment_id) as listing:
        try:
            _, artifacts = manifest.read(store.get(manifest_key(experiment.experiment_id)))
            held = _held(artifacts, listing, result)
            _compare_bytes(store, held, result, jobs) if deep else _count(held, result)
        except StoreError as error:
            result.differences.append(Difference("manifest", error.message))
            return result
        for key, size in listing.rest():
            result.differences.append(
                Difference("extra", f"{size} bytes that the manifest does not name", key=key)
            )
    return result


def _manifest_is_sound(store: Store, result: Verification) -> bool:
    """Whether the manifest is there and the one that was recorded; one that was changed proves nothing."""
    key = manifest_key(result.experiment.experiment_id)
    try:
        found, _ = digest_of(store, key)
    except ObjectMissing:
        result.differences.append(Difference("manifest", "the manifest is not in the store", key=key))
        return False
    recorded = result.experiment.manifest_sha256
    if recorded is not None and recorded != found:
        detail = f"the manifest was changed: its SHA-256 is {found}, {recorded} was recorded"
        result.differences.append(Difference("manifest", detail, key=key))
        return False
    return True


class _Listing:
    """What the store lists below `artifacts/`, on disk."""

    def __init__(self, store: Store, ulid: str) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)  # a temporary file that nobody else sees
        self._rows.execute("CREATE TABLE object (key BLOB PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        self._rows.execute("BEGIN")
        objects = (
            (item.key.encode(errors="surrogateescape"), item.size)
            for item in store.list(artifacts_prefix(ulid))
        )
        self._rows.executemany("INSERT OR REPLACE INTO object VALUES (?, ?)", objects)

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def take(self, key: str) -> int | None:
        """The size of the object, which is crossed off; None when there is none."""
        parameters = (key.encode(errors="surrogateescape"),)
        found = self._rows.execute("SELECT size FROM object WHERE key = ?", parameters).fetchone()
        self._rows.execute("DELETE FROM object WHERE key = ?", parameters)
        return None if found is None else int(found[0])

    def rest(self) -> Iterator[tuple[str, int]]:
        """What was not crossed off."""
        for key, size in self._rows.execute("SELECT key, size FROM object ORDER BY key"):
            yield key.decode(errors="surrogateescape"), size


def _held(artifacts: Iterable[Artifact], listing: _Listing, result: Verification) -> Iterator[Artifact]:
    """The artifacts with bytes whose object is there in the right size; the others become differences."""
    for artifact in artifacts:
        if artifact.state == "missing":
            result.missing += artifact.count
        if not artifact.downloadable or artifact.key is None:
            continue
        result.total += 1
        size = listing.take(artifact.key)
        if size is None:
            detail = "the store does not have it"
            result.differences.append(Difference("missing", detail, artifact.path, artifact.key))
        elif size != artifact.size:
            detail = f"{size} bytes in the store, {artifact.size} in the manifest"
            result.differences.append(Difference("size", detail, artifact.path, artifact.key))
        else:
            yield artifact


def _count(held: Iterable[Artifact], result: Verification) -> None:
    for _ in held:
        result.verified += 1


def _compare_bytes(store: Store, held: Iterable[Artifact], result: Verification, jobs: int) -> None:
    waiting: deque[tuple[Artifact, Future[str | None]]] = deque()

    def settle_one() -> None:
        artifact, future = waiting.popleft()
        if fault := future.result():
            result.differences.append(Difference("bytes", fault, artifact.path, artifact.key))
        else:
            result.verified += 1

    pool = ThreadPoolExecutor(jobs)
    try:
        for artifact in held:
            if len(waiting) >= AHEAD * jobs:
                settle_one()
            waiting.append((artifact, pool.submit(_fault_of, store, artifact)))
        while waiting:
            settle_one()
    finally:
        pool.shutdown(cancel_futures=True)


def _fault_of(store: Store, artifact: Artifact) -> str | None:
    try:
        found, _ = digest_of(store, artifact.key or "")
    except ObjectMissing:
        return "it vanished from the store while it was read"
    return None if found == artifact.sha256 else f"its SHA-256 is {found}, not {artifact.sha256}"
