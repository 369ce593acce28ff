"""One touched file as the ledger has it: how far it has come, what was there before, what is in the store.

Knows neither the ledger nor what becomes of a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

from gridkeep.model import new_ulid

SMALL = 1 << 20  # bytes; what is larger is sent by itself, and takes its time
UNKNOWN_INO = -1  # pre-state that cannot be trusted: whatever is there counts as written


class Phase(StrEnum):
    """How far a file has come."""

    TOUCHED = "touched"  # opened for writing, renamed, …: to be looked at
    GROWING = "growing"  # somebody has it open for writing
    READY = "ready"  # to be sent
    STORED = "stored"
    UNCHANGED = "unchanged"  # nothing was written: no artifact
    REMOVED = "removed"
    MISSING = "missing"
    IGNORED = "ignored"


UNSETTLED = (Phase.TOUCHED, Phase.GROWING, Phase.READY)


@dataclass(slots=True)
class Entry:
    """One file. Times of `due`, `touched_at` and `unsaved_since` are monotonic seconds of the present supervisor."""

    path: bytes  # canonical; for a loss whose path is unknown, a number
    artifact_id: str
    listed: bytes | None
    phase: Phase
    reason: str | None = None
    due: float | None = None  # when to look at it again
    # What was there before the run: ino 0 for nothing, UNKNOWN_INO for "cannot be told".
    pre_dev: int = 0
    pre_ino: int = 0
    pre_size: int = 0
    pre_mtime_ns: int = 0
    pre_ctime_ns: int = 0
    first_at_ns: int = 0  # time of the first record
    opened: bool = False  # for writing: only then can its content have changed in place
    proven: bool = False  # a version that the run wrote was seen to exist
    renamed_to: bytes | None = None  # it left: listed path of its new name, b"" for none; None: it did not
    leasable: bool = True  # whether a lease may be tried on it
    rewrites: int = 0
    touched_at: float = 0.0
    unsaved_since: float = 0.0  # since when the store lacks what is there: its first touch, or the last copy
    tries: int = 0  # copies thrown away in a row because it changed meanwhile
    # The version in the store, with the stamp of the file that it was read from; sha256 None: none.
    size: int | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    ino: int | None = None  # of a new name without a version yet: that of the file which it is to name
    mode: int | None = None
    key: str | None = None
    etag: str | None = None
    partial: bool = False  # that version is a prefix of a growing file
    summarized: bool = False  # listed as one of its folder's count only
    swept: bool = False  # found by the last sweep, not by capture
    dirty: bool = False  # the catalog does not have it as it is
    published: bool = False  # the catalog has it, or may have
    unsure: bool = (
        False  # last touched before its machine went down: the disk may have less of it than the store
    )

    @property
    def created(self) -> bool:
        return self.pre_ino == 0


COLUMNS = [item.name for item in fields(Entry)]
_PHASE, _PHASES = COLUMNS.index("phase"), {phase.value: phase for phase in Phase}
_values = attrgetter(*COLUMNS)


def new_artifact_id() -> str:
    return f"art_{new_ulid()}"


def row_of(entry: Entry) -> list[Any]:
    """In the order of COLUMNS, in the plain types that SQLite takes without asking what they may be."""
    row = [+value if value.__class__ is bool else value for value in _values(entry)]
    row[_PHASE] = entry.phase.value
    return row


def entry_from(row: Sequence[Any]) -> Entry:
    entry = Entry(*row)
    entry.phase = _PHASES[row[_PHASE]]
    return entry
