"""Taking stock after a restart of the machine: what the catalog lists and the store holds is in the ledger again.

The ledger may have been cut back to any earlier state. Everything in it is `unsure` from then on, until it is touched
anew. Each of these may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from gridkeep.capture.session import Session
from gridkeep.catalog.base import Catalog
from gridkeep.errors import ObjectMissing
from gridkeep.model import Artifact, ArtifactState
from gridkeep.stores.base import ObjectInfo, Store
from gridkeep.stores.digest import digest_of
from gridkeep.stores.keys import artifacts_prefix, encoded_key
from gridkeep.supervisor.entry import Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from gridkeep.supervisor.restart import KEPT

_PAGE = 2000
_PHASES = {
    ArtifactState.PENDING: Phase.TOUCHED,
    ArtifactState.GROWING: Phase.TOUCHED,
    ArtifactState.STORED: Phase.STORED,
    ArtifactState.REMOVED: Phase.REMOVED,
    ArtifactState.MISSING: Phase.MISSING,
    ArtifactState.IGNORED: Phase.IGNORED,
}


def recall(catalog: Catalog, ulid: str, ledger: Ledger, naming: Naming) -> None:
    """What the catalog lists, and the ledger does not know any more. Raises CatalogError."""
    ledger.all_unsure()
    known = ledger.without_file() | set(ledger.forgotten())
    after: tuple[bytes, str] | None = None
    while page := catalog.artifacts(ulid, after=after, limit=_PAGE):
        for artifact in page:
            after = (artifact.path or b"", artifact.artifact_id)
            if artifact.artifact_id in known:
                continue
            path = artifact.artifact_id.encode()
            if artifact.path is not None:
                path = ledger.path_listed_as(artifact.path) or naming.path_of(artifact.path)
            entry = ledger.get(path)
            if entry is None and artifact.count == 1:
                ledger.put(_entry_of(artifact, path))
            elif entry is None or entry.artifact_id != artifact.artifact_id:
                ledger.forget(artifact.artifact_id)


def take(
    store: Store,
    ulid: str,
    ledger: Ledger,
    naming: Naming,
    sessions: Sequence[Session],
    each: Callable[[], object] = lambda: None,
) -> None:
    """What the store holds is stored, as it is there: where the ledger does not know of it, or knows another version. All is
    read, but for what the store itself tells to be unchanged. `sessions`: of all attempts, whose journals may tell of more
    paths than the ledger; `each` is called before each object. Raises StoreError."""
    prefix = artifacts_prefix(ulid)
    encoded = _paths_of_encoded(store, ulid, ledger, naming, sessions)
    for item in store.list(prefix):
        each()
        listed = item.key.removeprefix(prefix).encode()
        path = encoded.get(item.key) or ledger.path_listed_as(listed) or naming.path_of(listed)
        entry = ledger.get(path)
        if entry is None:
            listed = naming.place(path).listed if item.key in encoded else listed
            entry = Entry(path, new_artifact_id(), listed, Phase.STORED, proven=True, unsure=True)
        elif item.etag is not None and (item.key, item.etag) == (entry.key, entry.sha256 and entry.etag):
            continue
        with suppress(ObjectMissing):  # removed while we look
            _note(ledger, entry, item, *digest_of(store, item.key))


def _note(ledger: Ledger, entry: Entry, item: ObjectInfo, sha256: str, size: int) -> None:
    if (item.key, sha256) != (entry.key, entry.sha256):
        # Later than the version that the ledger knows, or was about to replace.
        entry.ino = None
        entry.ctime_ns = None if entry.ctime_ns is None else entry.ctime_ns + 1
        entry.mtime_ns = None if entry.mtime_ns is None else entry.mtime_ns + 1
        if entry.phase in (Phase.STORED, Phase.UNCHANGED, Phase.MISSING):
            entry.phase, entry.due, entry.reason, entry.proven = Phase.STORED, None, KEPT, True
    entry.key, entry.sha256, entry.size, entry.etag = item.key, sha256, size, item.etag
    entry.dirty = True
    ledger.put(entry)


def _paths_of_encoded(
    store: Store, ulid: str, ledger: Ledger, naming: Naming, sessions: Sequence[Session]
) -> dict[str, bytes]:
    """Of the keys that do not say which file they are of."""
    prefix = f"{artifacts_prefix(ulid)}_enc/"
    paths = ledger.paths_of_keys(prefix)
    unknown = {item.key for item in store.list(prefix)} - paths.keys()
    for session in sessions if unknown else ():
        for _, record in session.records(0):
            for path, _ in record.paths:
                key = encoded_key(ulid, naming.place(path).listed)
                if key in unknown:
                    paths[key] = path
    return paths


def _entry_of(artifact: Artifact, path: bytes) -> Entry:
    phase = _PHASES[artifact.state]
    return Entry(
        path=path,
        artifact_id=artifact.artifact_id,
        listed=artifact.path,
        phase=phase,
        reason=artifact.reason,
        due=0.0 if phase is Phase.TOUCHED else None,
        proven=True,
        size=artifact.size,
        sha256=artifact.sha256,
        mtime_ns=artifact.mtime_ns,
        mode=artifact.mode,
        key=artifact.key,
        etag=artifact.etag,
        published=True,
        unsure=True,
    )
