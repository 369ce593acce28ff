"""Proof that a store holds what the manifest says: every object, its size, with `deep` its bytes, and nothing else; and
that the catalog says the same.

The manifest is believed when its hash is the one that the catalog has. What store and catalog list lies in a temporary
database on disk, so that a million artifacts need no memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from gridkeep.errors import ObjectMissing, StoreError, StoreUnavailable
from gridkeep.model import JSON, Artifact, Experiment, path_json
from gridkeep.stores.base import Store
from gridkeep.stores.digest import digest_of
from gridkeep.stores.keys import experiment_key, experiment_prefix, manifest_key, output_log_key
from gridkeep.supervisor import manifest
from gridkeep.supervisor.record import read_record

AHEAD = 4  # files waiting for each thread

_OF_HEADER = ("state", "outcome", "reason", "exit_code", "attempt")
_OF_RECORD = (*_OF_HEADER, "run_id", "index", "params", "args", "command")
_OF_ARTIFACT = ("type", "size", "sha256", "mtime_ns", "mode", "reason", "key", "etag", "count")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the manifest says. `path` is None where it is of no artifact with a path."""

    problem: str  # missing, size, bytes, extra, manifest, record, catalog, unfinished
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


def verify(
    store: Store,
    experiment: Experiment,
    listed: Iterable[Artifact] | None = None,
    *,
    deep: bool = False,
    jobs: int = 8,
) -> Verification:
    """Compares store and manifest, and both with the catalog: with `experiment` and, where they are given, all artifacts
    that it lists. `deep` re-hashes the bytes in `jobs` threads. Raises StoreError when the store cannot be read."""
    result = Verification(experiment)
    if experiment.state.active:
        reason = f"it is {experiment.state}, and its manifest is written last of all"
        result.differences.append(Difference("unfinished", reason))
        return result
    if experiment.started_at is None and experiment.manifest_sha256 is None:
        return result  # never started: there is nothing to keep
    if not _manifest_is_sound(store, result):
        return result
    with _Listing(store, experiment.experiment_id, listed) as listing:
        _compare_record(store, listing, result)
        try:
            header, artifacts = manifest.read(store.get(manifest_key(experiment.experiment_id)))
            _compare_experiment(header, "the manifest", _OF_HEADER, result)
            held = _held(artifacts, listing, result)
            _compare_bytes(store, held, result, jobs) if deep else _count(held, result)
        except StoreError as error:
            result.differences.append(Difference("manifest", error.message))
            return result
        for key, size in listing.rest():
            result.differences.append(
                Difference("extra", f"{size} bytes that the manifest does not name", key=key)
            )
        for path in listing.rest_of_rows():
            result.differences.append(
                Difference("catalog", "the catalog lists it, and the manifest does not", path)
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


def _compare_record(store: Store, listing: _Listing, result: Verification) -> None:
    """Whether `experiment.json` says the same as the catalog. It is not hashed: what it holds is compared."""
    ulid = result.experiment.experiment_id
    listing.take(manifest_key(ulid))
    listing.take(output_log_key(ulid))
    key = experiment_key(ulid)
    if listing.take(key) is None:
        result.differences.append(Difference("missing", "the store does not have it", key=key))
        return
    try:
        _, recorded = read_record(store, ulid)
    except StoreUnavailable:
        raise
    except StoreError as error:
        result.differences.append(Difference("record", error.message, key=key))
        return
    shape = {name: getattr(recorded, name) for name in _OF_RECORD}
    _compare_experiment(shape, "experiment.json", _OF_RECORD, result)


def _compare_experiment(shape: JSON, where: str, names: Iterable[str], result: Verification) -> None:
    for name in names:
        ours, theirs = getattr(result.experiment, name), shape.get(name)
        if ours != theirs:
            detail = f"the catalog has {ours!s} as its {name}, {where} {theirs!s}"
            result.differences.append(Difference("catalog", detail))


class _Listing:
    """What the store lists of the experiment, and its rows of the catalog, on disk. What is taken is crossed off."""

    def __init__(self, store: Store, ulid: str, listed: Iterable[Artifact] | None) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)  # a temporary file that nobody else sees
        self._rows.execute("CREATE TABLE object (key BLOB PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        self._rows.execute("CREATE TABLE row (id TEXT PRIMARY KEY, path BLOB, said TEXT) WITHOUT ROWID")
        self._rows.execute("BEGIN")
        objects = (
            (item.key.encode(errors="surrogateescape"), item.size)
            for item in store.list(experiment_prefix(ulid))
        )
        self._rows.executemany("INSERT OR REPLACE INTO object VALUES (?, ?)", objects)
        self._has_rows = listed is not None
        said = ((each.artifact_id, each.path, json.dumps(_said(each))) for each in listed or ())
        self._rows.executemany("INSERT INTO row VALUES (?, ?, ?)", said)

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

    def unlike(self, artifact: Artifact) -> str | None:
        """What the catalog says otherwise of the artifact, which is crossed off."""
        if not self._has_rows:
            return None
        id_ = (artifact.artifact_id,)
        found = self._rows.execute("SELECT said FROM row WHERE id = ?", id_).fetchone()
        if found is None:
            return "the catalog does not list it"
        self._rows.execute("DELETE FROM row WHERE id = ?", id_)
        ours = json.loads(found[0])
        others = [
            f"{ours[name]!s} as its {name}, the manifest {theirs!s}"
            for name, theirs in _said(artifact).items()
            if ours[name] != theirs
        ]
        return f"the catalog has {'; '.join(others)}" if others else None

    def rest_of_rows(self) -> Iterator[bytes | None]:
        """The paths of those rows that were not crossed off."""
        for (path,) in self._rows.execute("SELECT path FROM row ORDER BY path"):
            yield path

    def rest(self) -> Iterator[tuple[str, int]]:
        """What was not crossed off."""
        for key, size in self._rows.execute("SELECT key, size FROM object ORDER BY key"):
            yield key.decode(errors="surrogateescape"), size


def _said(artifact: Artifact) -> JSON:
    """All that catalog and manifest both say of an artifact."""
    said = {name: getattr(artifact, name) for name in _OF_ARTIFACT}
    return {**path_json(artifact.path), **said, "state": str(artifact.state)}


def _held(artifacts: Iterable[Artifact], listing: _Listing, result: Verification) -> Iterator[Artifact]:
    """The artifacts with bytes whose object is there in the right size; the others become differences."""
    for artifact in artifacts:
        if unlike := listing.unlike(artifact):
            result.differences.append(Difference("catalog", unlike, artifact.path, artifact.key))
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
