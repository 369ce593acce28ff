"""A machine that was started again while an experiment was under way, as after a power cut.

Its disks may lack what was written last: files are gone, shorter, empty, or as they were before; so are the journal, the
ledger and the catalog. The store lacks nothing that it once had. So what it has is taken stock of first, and no file that
lost something replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from gridkeep.catalog.base import Catalog
from gridkeep.errors import ObjectMissing
from gridkeep.files import write_file
from gridkeep.model import Artifact, ArtifactState
from gridkeep.settings import Home
from gridkeep.stores.base import Store
from gridkeep.stores.digest import digest_of
from gridkeep.stores.keys import artifacts_prefix, encoded_key, output_log_key
from gridkeep.supervisor.entry import Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming

LOST_CALLS = "its machine went down, and the record of what it wrote last may have gone with it"
KEPT = "its machine went down and its disk has less of it: this is what was stored before"
DOUBTFUL = "read after its machine went down: its disk may lack what was written last"

_FACT = "restarted"
_PAGE = 2000
_PHASES = {
    ArtifactState.PENDING: Phase.TOUCHED,
    ArtifactState.GROWING: Phase.TOUCHED,
    ArtifactState.STORED: Phase.STORED,
    ArtifactState.REMOVED: Phase.REMOVED,
    ArtifactState.MISSING: Phase.MISSING,
    ArtifactState.IGNORED: Phase.IGNORED,
}
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def noticed(home: Home, ulid: str) -> bool:
    """Whether the machine was started again since `note`. False where nothing was noted."""
    try:
        with open(_note_file(home, ulid), "rb") as file:
            return file.read() != _boot_id()
    except FileNotFoundError:
        return False


def note(home: Home, ulid: str) -> None:
    """Before anything of the experiment is done on this start of the machine that must be known of after the next. Durable.
    Raises OSError."""
    if noticed(home, ulid) or not os.path.exists(_note_file(home, ulid)):
        write_file(_note_file(home, ulid), _boot_id())


def recall(catalog: Catalog, ulid: str, ledger: Ledger, naming: Naming) -> None:
    """What the catalog lists, and the ledger does not know any more, is in the ledger again. May be repeated. Raises
    CatalogError."""
    elsewhere = ledger.without_file()
    after: tuple[bytes, str] | None = None
    while page := catalog.artifacts(ulid, after=after, limit=_PAGE):
        for artifact in page:
            after = (artifact.path or b"", artifact.artifact_id)
            if artifact.artifact_id in elsewhere:
                continue
            path = artifact.artifact_id.encode() if artifact.path is None else naming.path_of(artifact.path)
            known = ledger.get(path)
            if known is None and artifact.count == 1:
                ledger.put(_entry_of(artifact, path))
            elif known is None or known.artifact_id != artifact.artifact_id:
                ledger.forget(artifact.artifact_id)


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
    )


def take_stock(
    store: Store, ulid: str, ledger: Ledger, naming: Naming, touched: Iterable[bytes], now: float
) -> None:
    """What the store has is stored, as it is there: where the ledger does not know of it, or knows another version.
    `touched`: canonical paths of which the journal still tells; `now` in seconds since the epoch. May be repeated. Raises
    StoreError."""
    prefix = artifacts_prefix(ulid)
    encoded = ledger.paths_of_keys(f"{prefix}_enc/")
    for path in touched:
        encoded.setdefault(encoded_key(ulid, naming.place(path).listed), path)
    for item in store.list(prefix):
        listed = item.key.removeprefix(prefix).encode()
        path = encoded.get(item.key) or naming.path_of(listed)
        entry = ledger.get(path)
        if entry is None:
            listed = naming.place(path).listed if item.key in encoded else listed
            entry = Entry(path, new_artifact_id(), listed, Phase.STORED, reason=KEPT, proven=True)
        elif item.etag is not None and (item.key, item.etag) == (entry.key, entry.sha256 and entry.etag):
            continue
        with suppress(ObjectMissing):
            sha256, size = digest_of(store, item.key)
            if (item.key, sha256) != (entry.key, entry.sha256):
                entry.mtime_ns = entry.ctime_ns = entry.ino = None  # of the file that it was read from
            entry.key, entry.sha256, entry.size, entry.etag = item.key, sha256, size, item.etag
            entry.dirty = True
            ledger.put(entry)
    ledger.set_fact(_FACT, now)


def mend_output(store: Store, ulid: str, path: str) -> None:
    """Puts the store's output log in the place of the one at `path` where that has lost its end. Raises StoreError,
    OSError."""
    with suppress(ObjectMissing):
        there = os.path.getsize(path) if os.path.exists(path) else 0
        if store.head(output_log_key(ulid)).size > there:
            with open(f"{path}.partial", "wb") as file:
                file.writelines(store.get(output_log_key(ulid)))
            os.rename(f"{path}.partial", path)


def since(ledger: Ledger) -> float | None:
    """When it was found out, in seconds since the epoch; None: the machine has been up all the time."""
    at: float | None = ledger.fact(_FACT)
    return at


def has_lost(entry: Entry, st: os.stat_result) -> bool:
    """Whether a file of such a machine lacks something that its version in the store has."""
    if entry.sha256 is None or entry.size is None:
        return False
    if st.st_size == 0 or entry.mtime_ns is None:
        return st.st_size < entry.size
    if st.st_mtime_ns == entry.mtime_ns:
        return st.st_size < entry.size
    return st.st_mtime_ns < entry.mtime_ns


def _note_file(home: Home, ulid: str) -> str:
    return os.path.join(home.journal(ulid), "boot")


def _boot_id() -> bytes:
    """Of the present start of the machine; b"" where nobody tells."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read()
    except OSError:
        return b""
