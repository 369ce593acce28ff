"""Files that lay in memory, as in /dev/shm, and are gone although the run did not remove them: their machine went down.

They are not called removed: what was stored of them stays, and what was not is named as missing.
"""

from __future__ import annotations

import os

from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger

_FACT = "all_told"
_KINDS = {b"tmpfs", b"ramfs"}


def all_told(ledger: Ledger) -> None:
    """No call of the run's was made but those whose records were read."""
    ledger.set_fact(_FACT, 1)


def took(ledger: Ledger, entry: Entry) -> bool:
    """Whether this file, which is not there, went with its machine: no record tells that it was to go."""
    return bool(entry.created and entry.renamed_to is None and ledger.fact(_FACT) and _in_memory(entry.path))


def overtaken(ledger: Ledger) -> set[bytes]:
    """The paths of stored files in memory of which another name (a hard link) tells that they may have been written since:
    it is not stored in the same version."""
    versions: dict[int | None, set[tuple[int | None, int | None] | None]] = {}
    entries = [entry for entry in ledger.linked() if _in_memory(entry.path)]
    for entry in entries:
        version = (entry.size, entry.mtime_ns) if entry.phase is Phase.STORED else None
        versions.setdefault(entry.ino, set()).add(version)
    return {entry.path for entry in entries if len(versions[entry.ino]) > 1}


def _in_memory(path: bytes) -> bool:
    """Whether the file system that `path` is on is kept in memory, as /proc/self/mounts has it."""
    best, kind = b"", b""
    try:
        with open("/proc/self/mounts", "rb") as mounts:
            for line in mounts:
                top, its_kind = line.split(b" ")[1:3]
                top = top.replace(b"\\040", b" ")
                if os.path.join(path, b"").startswith(os.path.join(top, b"")) and len(top) >= len(best):
                    best, kind = top, its_kind
    except OSError:  # no Linux: nothing is known of it
        return False
    return kind in _KINDS
