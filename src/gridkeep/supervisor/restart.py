"""A machine that was started again while an experiment was under way, as after a power cut.

Its disks may lack what was written last: files are gone, empty, cut, or as they were before; so are the journal, the ledger
and the catalog. The store lacks nothing that it once had. So what it has is taken stock of first (`stock`), and of what was
touched before (`Entry.unsure`) no file that has lost something replaces it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from gridkeep.capture.journal import Stamp
from gridkeep.errors import ObjectMissing
from gridkeep.files import write_file
from gridkeep.settings import Home
from gridkeep.stores.base import Store
from gridkeep.stores.keys import output_log_key
from gridkeep.supervisor.entry import Entry
from gridkeep.supervisor.ledger import Ledger

LOST_CALLS = "its machine went down, and the record of what it wrote last may have gone with it"
KEPT = "its machine went down, and what its disk has is older, cut or gone: this is what was stored before"
DOUBTFUL = "read after its machine went down: its disk may lack what was written last"

_ATTEMPT = "restarted_attempt"
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


def went_down(ledger: Ledger, attempt: int) -> None:
    """Notes that this attempt, and those before it, had begun before."""
    ledger.set_fact(_ATTEMPT, attempt)


def is_before(ledger: Ledger, attempt: int) -> bool:
    """Whether the machine was started again since this attempt had begun."""
    last: int | None = ledger.fact(_ATTEMPT)
    return last is not None and attempt <= last


def has_lost(entry: Entry, now: Stamp) -> bool:
    """Whether the file, as it is `now`, is not what came after its version in the store: it is empty, or no younger than
    that and another. What a power cut leaves is an earlier state of the inode; a change time nobody can set back. Where
    only the modification time of that version is known it has to do, and where nothing is, the size."""
    if entry.sha256 is None or not entry.size:
        return False
    if now.size == 0:
        return True
    if entry.ctime_ns is not None:
        return now.ctime_ns < entry.ctime_ns or (now.ctime_ns == entry.ctime_ns and now.size < entry.size)
    if entry.mtime_ns is not None:
        return now.mtime_ns < entry.mtime_ns or (now.mtime_ns == entry.mtime_ns and now.size < entry.size)
    return now.size < entry.size


def took(entry: Entry) -> bool:
    """Whether this file, which is not there and was not stored, went with its machine: no record tells that it was to go."""
    return entry.unsure and entry.created and entry.renamed_to is None


def mend_output(store: Store, ulid: str, path: str) -> None:
    """Puts the store's output log in the place of the one at `path` where that has lost its end. Raises StoreError,
    OSError."""
    with suppress(ObjectMissing):
        there = os.path.getsize(path) if os.path.exists(path) else 0
        if store.head(output_log_key(ulid)).size > there:
            with open(f"{path}.partial", "wb") as file:
                file.writelines(store.get(output_log_key(ulid)))
            os.rename(f"{path}.partial", path)


def _note_file(home: Home, ulid: str) -> str:
    return os.path.join(home.journal(ulid), "boot")


def _boot_id() -> bytes:
    """Of the present start of the machine; b"" where nobody tells."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read()
    except OSError:
        return b""
