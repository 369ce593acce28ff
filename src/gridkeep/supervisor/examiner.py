"""Looks at one touched file and says what it is now: unchanged, gone, growing, or ready to be sent.

Reads the file system and the ledger's entry, nothing else; sends nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from gridkeep.capture.journal import Stamp
from gridkeep.settings import Settings
from gridkeep.supervisor import memory, restart
from gridkeep.supervisor.entry import SMALL, Entry, Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.settle import Rest, is_straight, open_for_reading, rest
from gridkeep.supervisor.tracker import Tracker, written
from gridkeep.supervisor.transfers import ToSend

_PROBE_MIN, _PROBE_MAX = 0.1, 1.0  # seconds between two looks at an open file: a tenth of its age
_STILL_TO_COME = 10.0  # seconds in which a file whose opening was recorded is looked for again and again
_GROWTH = 1.25  # a growing file is copied again when it has grown by a quarter
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}  # the rest are devices


class Examiner:
    """`final`: the script and all its descendants are gone, so nobody has a file open any more. Not `all_told`: they are,
    and what they did is still being read; whether a file was removed, or went with its machine, shows at the end of it."""

    def __init__(self, ledger: Ledger, tracker: Tracker, settings: Settings) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._settings = settings
        self.final, self.all_told = False, True
        self._as_of = 0.0
        self._straight: dict[bytes, bool] = {}

    def examine(self, entry: Entry, now: float) -> ToSend | None:
        """Moves the entry on; returns what to send. An entry that is to be sent has no version in the store any more as
        far as the ledger says: the catalog must hear that before it is overwritten."""
        try:
            st = self._lstat(entry.path, now)
        except OSError as error:
            if error.errno in _GONE:
                self._gone(entry, now)
            else:
                self._unreadable(entry, error, now)
            return None
        entry.renamed_to = None
        if not stat.S_ISREG(st.st_mode):
            self._not_a_file(entry, st, now)
            return None
        is_written = written(entry, Stamp.of(st))
        if entry.unsure and entry.sha256 and (not is_written or restart.has_lost(entry, Stamp.of(st))):
            self._keep(entry)
            return None
        entry.proven = entry.proven or is_written
        if is_written and self._is_asked_by_sender(entry, st):
            return self._send(entry, st, Phase.READY, prefix=False, asked=False)
        try:
            resting = self._is_resting(entry)
        except OSError as error:
            if error.errno in _GONE:
                self._later(entry, now)
            elif is_written:
                self._unreadable(entry, error, now)
            else:
                self._settle(entry, Phase.UNCHANGED)
            return None
        if not resting:
            if is_written:
                return self._growing(entry, st, now)
            self._later(entry, now)
            return None
        if not is_written:
            self._settle(entry, Phase.UNCHANGED)
            return None
        if entry.sha256 and not entry.partial and _same_version(entry, st):
            self._settle(entry, Phase.STORED)
            return None
        return self._send(entry, st, Phase.READY, prefix=False)

    def _lstat(self, path: bytes, now: float) -> os.stat_result:
        """What lies there itself: what a link leads to, which was put in the place of a folder, is none of the run's. Each
        folder is looked at once in a turn (`now`). Raises OSError."""
        if now != self._as_of:
            self._as_of, self._straight = now, {}
        folder = os.path.dirname(path)
        straight = self._straight.get(folder)
        if straight is None:
            straight = self._straight[folder] = is_straight(folder)
        if not straight:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.lstat(path)

    def _is_resting(self, entry: Entry) -> bool:
        """Whether nobody has it open for writing. Raises OSError when it cannot be opened."""
        if self.final and entry.key is None:
            # Its sender will see. What is stored is not given up for a version that cannot be read: asked here.
            return True
        fd = open_for_reading(entry.path)
        try:
            return self.final or not self.all_told or (bool(entry.leasable) and rest(fd) is Rest.CLOSED)
        finally:
            os.close(fd)

    def _is_asked_by_sender(self, entry: Entry, st: os.stat_result) -> bool:
        """A small file that was written once is most likely closed: whoever sends it opens it anyway, and asks then."""
        first = entry.phase is Phase.TOUCHED and not entry.rewrites and entry.key is None
        return first and bool(entry.leasable) and not self.final and st.st_size <= SMALL

    def is_as_sent(self, entry: Entry) -> bool:
        """Whether the file is still the version that the entry says is in the store."""
        try:
            return _same_version(entry, os.lstat(entry.path))
        except OSError:
            return False

    # ------------------------------------------------------------------------------------------------------- what it is

    def _gone(self, entry: Entry, now: float) -> None:
        if not self.all_told:
            self._later(entry, now)
        elif entry.renamed_to and entry.sha256 is None:
            # The new name is listed in its place.
            self._withdraw(entry)
        elif entry.unsure and entry.sha256 and entry.renamed_to is None:
            self._keep(entry)
        elif memory.took(self._ledger, entry) or restart.took(entry):
            self._went_with_its_machine(entry)
        elif entry.proven:
            reason = "removed by the run"
            if entry.renamed_to:
                reason = f"renamed to {entry.renamed_to.decode(errors='replace')}"
            self._tracker.leave_out(entry, Phase.REMOVED, reason)
        elif entry.created and not self.final and now - entry.touched_at < _STILL_TO_COME:
            self._later(entry, now)
        else:
            self._withdraw(entry)

    def _keep(self, entry: Entry) -> None:
        """What the store has is not given up for what the disk has after a restart of the machine."""
        entry.reason = restart.KEPT
        self._settle(entry, Phase.STORED)

    def _went_with_its_machine(self, entry: Entry) -> None:
        entry.phase, entry.due, entry.dirty = Phase.MISSING, None, True
        cause = "had not reached its disk when its machine went down," if entry.unsure else "lay in memory"
        entry.reason = f"it {cause} and is gone, and the run did not remove it"
        if entry.sha256:
            entry.reason += "; what was stored may be an earlier version"
        self._ledger.put(entry)

    def _withdraw(self, entry: Entry) -> None:
        """It is no artifact, or not yet: until the end it is remembered, and looked for once more then. A record stands
        before its call, and on a busy machine there may be any time between the two."""
        if entry.created and self.final:
            self._ledger.drop(entry)
        else:
            self._settle(entry, Phase.UNCHANGED)

    def _not_a_file(self, entry: Entry, st: os.stat_result, now: float) -> None:
        if stat.S_ISDIR(st.st_mode):
            try:
                os.scandir(entry.path).close()
            except OSError as error:
                self._unreadable(entry, error, now)  # it stands for all that it holds
            else:
                self._tracker.moved_folder(entry, st, now)
            return
        reason = _KINDS.get(stat.S_IFMT(st.st_mode), "device")
        if stat.S_ISLNK(st.st_mode):
            with contextlib.suppress(OSError):
                reason += f" to {os.readlink(entry.path).decode(errors='replace')}"
        self._tracker.leave_out(entry, Phase.IGNORED, reason)

    def _settle(self, entry: Entry, phase: Phase) -> None:
        if phase is Phase.UNCHANGED and entry.published:
            self._ledger.drop(entry)  # the catalog must forget it
            entry.published = False
        entry.phase, entry.due, entry.rewrites = phase, None, 0
        entry.dirty = phase is Phase.STORED  # what is unchanged is nothing that the catalog should hear of
        self._ledger.put(entry)

    def _later(self, entry: Entry, now: float) -> None:
        entry.due = now + min(max((now - entry.touched_at) / 10, _PROBE_MIN), _PROBE_MAX)
        self._ledger.put(entry)

    def _unreadable(self, entry: Entry, error: OSError, now: float) -> None:
        reason = f"cannot be read: {error.strerror}"
        if self.final:
            entry.phase, entry.due = Phase.MISSING, None
        else:
            entry.phase, entry.due = Phase.READY, now + _PROBE_MAX  # it may be let go later
        entry.dirty = entry.dirty or entry.reason != reason or self.final
        entry.reason = reason
        self._ledger.put(entry)

    def _growing(self, entry: Entry, st: os.stat_result, now: float) -> ToSend | None:
        if entry.phase is not Phase.GROWING:
            entry.phase, entry.dirty = Phase.GROWING, True
        self._later(entry, now)
        grown = entry.sha256 is None or st.st_size >= (entry.size or 0) * _GROWTH
        limit = self._settings.growing_interval if grown else self._settings.growing_interval_max
        if now - entry.unsaved_since < limit or (entry.sha256 and _same_version(entry, st)):
            return None
        return self._send(entry, st, Phase.GROWING, prefix=True)

    def _send(
        self, entry: Entry, st: os.stat_result, phase: Phase, *, prefix: bool, asked: bool = True
    ) -> ToSend:
        entry.phase, entry.due, entry.dirty = phase, None, True
        entry.sha256 = None  # about to be replaced: listing and bytes never differ
        entry.size = st.st_size
        self._ledger.put(entry)
        assert entry.listed is not None
        leasable = bool(entry.leasable) and not self.final
        return ToSend(
            entry.path,
            entry.listed,
            st.st_size,
            prefix,
            leasable,
            replaces=entry.key is not None,
            asked=asked,
        )


def _same_version(entry: Entry, st: os.stat_result) -> bool:
    now = Stamp.of(st)
    return (entry.ino, entry.size, entry.mtime_ns, entry.ctime_ns) == (
        now.ino,
        now.size,
        now.mtime_ns,
        now.ctime_ns,
    )
