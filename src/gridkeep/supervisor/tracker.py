"""From the journal's records to the ledger's entries: which files to look at, and what was there before the run.

A record stands *before* its call goes on, and the call may fail: nothing here believes that it took place. Every path
is only noted as touched; what became of it is judged later from the file itself (`examiner`).
"""

from __future__ import annotations

import os
import stat
import time

from gridkeep.capture.journal import ABSENT, EXCHANGE, LATE, Op, Record, Stamp
from gridkeep.settings import Settings
from gridkeep.supervisor.entry import UNKNOWN_INO, UNSETTLED, Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from gridkeep.supervisor.trees import walk

_FIRST_LOOK = 0.05  # seconds after the call: most files are closed by then
_COARSE_STAMPS_NS = 10_000_000  # older kernels stamp files with the last timer tick
_MANY = 10_000  # ignored or removed files of an experiment that are listed one by one


class Tracker:
    """Notes touched files. One that is touched again has to be quiet for a moment before it is looked at, doubled each
    time."""

    def __init__(self, ledger: Ledger, naming: Naming, settings: Settings) -> None:
        self._ledger = ledger
        self._naming = naming
        self._quiet = settings.quiet
        self._quiet_max = settings.quiet_max
        self._growing = settings.growing_interval
        self.unsure = False  # the records are from before the machine went down
        self._listed = {phase: ledger.count(phase) for phase in (Phase.IGNORED, Phase.REMOVED)}

    def apply(self, record: Record, now: float) -> None:
        """One record of the journal; `now` in monotonic seconds."""
        match record.op:
            case Op.LOST:
                self._ledger.add_loss(record.paths[0][0].decode(errors="replace"))
            case Op.RENAME:
                self._rename(record, now)
            case Op.LINK:
                (old, old_stamp), (new, new_stamp) = record.paths
                if old_stamp.regular and self._ledger.get(old) is None:
                    self._touch(old, old_stamp, record, now)  # a write through the new name changes it too
                entry = self._touch(new, new_stamp, record, now)
                if not new_stamp.exists and entry.phase is not Phase.IGNORED:
                    entry.ino = old_stamp.ino
                    self._ledger.put(entry)
            case Op.UNLINK:
                path, stamp = record.paths[0]
                if stamp.exists:
                    self._leaves(path, stamp, b"", record, now)
            case _:
                path, stamp = record.paths[0]
                self._touch(path, stamp, record, now, opened=record.op in (Op.OPEN, Op.TRUNCATE, Op.MKNOD))

    def found(
        self, path: bytes, before: Stamp, now: float, *, unexpected: bool = False, proven: bool = False
    ) -> None:
        """A change that no record told of; `unexpected`: a record should have. `proven`: a file stands there, or stood."""
        entry = self._touch(path, before, None, now, opened=True)
        entry.swept = entry.swept or (unexpected and not self._moved_along(path))
        entry.proven = entry.proven or (proven and entry.created)
        self._ledger.put(entry)

    def _moved_along(self, path: bytes) -> bool:
        """Whether a record told of a folder above it, renamed to there, that has not been looked into yet."""
        while (path := os.path.dirname(path)) != b"/":
            if self._ledger.get(path):
                return True
        return False

    def leave_out(self, entry: Entry, phase: Phase, reason: str | None) -> None:
        """The file is ignored or removed: it is listed by itself, or beyond so many as one of its folder's."""
        self.bring_back(entry)
        entry.phase, entry.reason, entry.due = phase, reason, None
        self._listed[phase] += 1
        entry.dirty = True
        if self._listed[phase] > _MANY and not entry.published and entry.sha256 is None:
            self._ledger.summarize(entry)
            entry.dirty = False
        self._ledger.put(entry)

    def bring_back(self, entry: Entry) -> None:
        """The file is no longer what it was left out for."""
        if entry.phase in self._listed:
            self._listed[entry.phase] -= 1
            if entry.summarized:
                self._ledger.summarize(entry, by=-1)

    def _touch(
        self, path: bytes, before: Stamp, record: Record | None, now: float, *, opened: bool = False
    ) -> Entry:
        entry = self._ledger.get(path)
        if entry is None:
            place = self._naming.place(path)
            entry = Entry(
                path=path,
                artifact_id=new_artifact_id(),
                listed=place.listed,
                phase=Phase.TOUCHED,
                due=_first_look(record, now),
                pre_dev=before.dev,
                pre_ino=UNKNOWN_INO if record and record.marks & LATE else before.ino,
                pre_size=before.size,
                pre_mtime_ns=before.mtime_ns,
                pre_ctime_ns=before.ctime_ns,
                first_at_ns=record.time_ns if record else 0,
                touched_at=now,
                unsaved_since=now,
            )
            if place.rule:
                self.leave_out(entry, Phase.IGNORED, place.rule)
                return entry
        elif entry.phase is Phase.IGNORED and self._naming.place(path).rule:
            return entry
        else:
            self._touch_again(entry, now)
        entry.unsure = self.unsure if record else entry.unsure or self.unsure
        if record and record.marks & LATE and entry.first_at_ns == record.time_ns:
            entry.pre_ino = UNKNOWN_INO  # the note of the same call without the mark came first
        entry.opened = entry.opened or opened
        entry.renamed_to = None
        if opened and record and record.flags & os.O_NONBLOCK:
            entry.leasable = False  # while we held a lease, such an open would fail
        self._ledger.put(entry)
        return entry

    def _touch_again(self, entry: Entry, now: float) -> None:
        self.bring_back(entry)
        if entry.phase not in UNSETTLED:
            entry.unsaved_since = now
        entry.phase = Phase.TOUCHED
        entry.rewrites += 1
        entry.touched_at = now
        rest = min(self._quiet * 2 ** min(entry.rewrites - 1, 16), self._quiet_max)
        # A file that is never quiet is saved as often as one that grows.
        entry.due = min(now + rest, max(now, entry.unsaved_since + self._growing))

    def _leaves(self, path: bytes, stamp: Stamp, to: bytes, record: Record, now: float) -> None:
        """The file, which was there, is to go from this path: to that listed one, or (b"") for good."""
        entry = self._touch(path, stamp, record, now)
        if entry.phase is Phase.IGNORED:
            return
        entry.proven = bool(entry.proven or written(entry, stamp))
        entry.renamed_to = to
        entry.due = now + _FIRST_LOOK
        self._ledger.put(entry)

    def _rename(self, record: Record, now: float) -> None:
        (old, old_stamp), (new, new_stamp) = record.paths
        if not old_stamp.exists:
            return
        if stat.S_ISDIR(old_stamp.mode):
            self._rename_folder(old, new, old_stamp, record, now)
            if record.marks & EXCHANGE:
                self._rename_folder(new, old, new_stamp, record, now)
            return
        if record.marks & EXCHANGE:
            self._touch(old, old_stamp, record, now)
        else:
            self._leaves(old, old_stamp, self._naming.place(new).listed, record, now)
        self._touch(new, new_stamp, record, now)

    def _rename_folder(self, old: bytes, new: bytes, folder: Stamp, record: Record, now: float) -> None:
        """All files below go along: those that the ledger knows by name, and those that will be found in the new folder
        once it is there (`moved_folder`)."""
        for entry in self._ledger.below(old):
            if entry.renamed_to is not None or entry.phase is Phase.REMOVED:
                continue  # it had left before
            target = new + entry.path[len(old) :]
            if entry.phase is not Phase.IGNORED:
                entry.renamed_to = self._naming.place(target).listed
                entry.phase, entry.due = Phase.TOUCHED, now + _FIRST_LOOK
                self._ledger.put(entry)
            self._touch(target, ABSENT, record, now)
        entry = self._touch(new, ABSENT, record, now)
        if entry.phase is not Phase.IGNORED:
            entry.ino = folder.ino
            self._ledger.put(entry)

    def moved_folder(self, entry: Entry, st: os.stat_result, now: float) -> None:
        """Where a folder was to be renamed to there is one: all that it holds is new here, if it is that one."""
        if entry.ino == st.st_ino:
            for path, _ in walk(entry.path):
                if self._ledger.get(path) is None:
                    self._touch(path, ABSENT, None, now)
        self._ledger.drop(entry)


def _first_look(record: Record | None, now: float) -> float:
    """When: at once where the call was long ago. (The clock may have been set since.)"""
    ago = (time.time_ns() - record.time_ns) / 1e9 if record else 0.0
    return now + min(max(_FIRST_LOOK - ago, 0.0), _FIRST_LOOK)


def written(entry: Entry, stamp: Stamp) -> bool:
    """Whether what is there now (`stamp`) was written by the run."""
    if entry.pre_ino in (0, UNKNOWN_INO):
        return True
    before = (entry.pre_dev, entry.pre_ino, entry.pre_size, entry.pre_mtime_ns)
    if entry.pre_ctime_ns == 0:  # known from the snapshot only, which has no device and no ctime
        return before[1:] != (stamp.ino, stamp.size, stamp.mtime_ns)
    if before != (stamp.dev, stamp.ino, stamp.size, stamp.mtime_ns):
        return True
    # The same but for ctime: a changed mode or a rename there and back, unless it was opened (utime can hide the rest).
    return bool(entry.opened) and (
        entry.pre_ctime_ns != stamp.ctime_ns
        or 0 <= entry.first_at_ns - entry.pre_ctime_ns < _COARSE_STAMPS_NS
    )
