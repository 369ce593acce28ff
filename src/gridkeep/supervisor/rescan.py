"""Looking through the files themselves for changes that no record told of.

The last resort of a captured run (once, at its end: it should find nothing but pipes and the like), and the only eye of
a run that could not be captured (again and again, and wherever an event points). Knows the ledger and the file system.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable

from gridkeep.capture.journal import ABSENT, Stamp
from gridkeep.supervisor import memory
from gridkeep.supervisor.entry import UNSETTLED, Entry, Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.tracker import Tracker, written
from gridkeep.supervisor.trees import Trees, within

_PAUSE_MIN = 1.0  # seconds between two rescans
_PAUSE_SHARE = 10  # and no more than this share of the time is spent on them


class Rescan:
    """For one experiment."""

    def __init__(self, ledger: Ledger, tracker: Tracker, trees: Trees) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._trees = trees
        self._next = 0.0
        self._folders: set[bytes] = set()  # that the run made, as far as events told

    def look_now_and_then(self) -> None:
        """One rescan, if it is time for it."""
        started = time.monotonic()
        if started < self._next:
            return
        self.look(started, unexpected=False)
        ended = time.monotonic()
        self._next = ended + max(_PAUSE_MIN, (ended - started) * _PAUSE_SHARE)

    def look(self, now: float, *, unexpected: bool, inputs_may_be_cut: bool = False) -> None:
        """Touches every file that is not as the ledger has it. `unexpected`: they are counted as found by the sweep, but for
        links and special files. `inputs_may_be_cut`: the machine went down; who wrote to them left a record."""
        overtaken: set[bytes] | None = None
        with self._ledger.transaction():
            for entry in self._ledger.settled():
                if not _changed(entry) or (entry.unsure and entry.phase is Phase.STORED and _is_gone(entry)):
                    continue
                if entry.phase is Phase.STORED and _is_gone(entry) and memory.took(self._ledger, entry):
                    if overtaken is None:
                        overtaken = memory.overtaken(self._ledger)
                    if entry.path in overtaken:
                        self._tracker.found(entry.path, ABSENT, now)
                else:
                    counted = unexpected and entry.phase is not Phase.IGNORED and not _awaited(entry)
                    self._tracker.found(entry.path, ABSENT, now, unexpected=counted)
            for path, st, before in self._ledger.unseen_changes(self._trees.walk(), captured=unexpected):
                is_file = stat.S_ISREG(st.st_mode)
                if unexpected and stat.S_ISDIR(st.st_mode):
                    continue  # nobody can look into it, but of each file in it there is a record
                if inputs_may_be_cut and before.exists and st.st_size < before.size:
                    continue  # it lost its end with its machine: nobody wrote it
                self._tracker.found(path, before, now, unexpected=unexpected and is_file, proven=is_file)

    def look_at(self, paths: Iterable[bytes], now: float) -> None:
        """Something was made, changed or removed at each of these (canonical) paths."""
        paths = sorted(filter(self._trees.holds, paths))
        self._folders.update(map(os.path.dirname, paths))
        looked_through = b"/"
        with self._ledger.transaction():
            for path in paths:
                try:
                    st = os.lstat(path)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENOTDIR):
                        self._gone(path, now)
                    continue
                if within(path, looked_through):
                    continue
                if stat.S_ISDIR(st.st_mode):
                    looked_through = path
                    self._look_below(path, now)
                else:
                    self._there(path, st, now)

    def _there(self, path: bytes, st: os.stat_result, now: float) -> None:
        if (entry := self._ledger.get(path)) is None:
            for _, _, before in self._ledger.unseen_changes([(path, st)], captured=False):
                self._tracker.found(path, before, now, proven=stat.S_ISREG(st.st_mode))
        elif entry.phase is Phase.READY or _changed(entry):
            self._tracker.found(path, ABSENT, now, proven=stat.S_ISREG(st.st_mode))

    def _gone(self, path: bytes, now: float) -> None:
        """What came and went at once is listed as removed, unless it was there before the run, or was a folder."""
        if (entry := self._ledger.get(path)) is not None:
            if entry.phase in UNSETTLED or _changed(entry):
                self._tracker.found(path, ABSENT, now, proven=True)
            return
        below = list(self._ledger.below(path))
        for entry in below:
            if _changed(entry):
                self._tracker.found(entry.path, ABSENT, now)
        if path in self._folders:
            self._folders.discard(path)
        elif not below and not self._ledger.was_there(path):
            self._tracker.found(path, ABSENT, now, proven=True)

    def _look_below(self, folder: bytes, now: float) -> None:
        """A folder that is new here, and may have been elsewhere before: no event tells what is in it."""
        self._folders.add(folder)
        for entry in self._ledger.below(folder):
            if _changed(entry):
                self._tracker.found(entry.path, ABSENT, now)
        below = self._ledger.unseen_changes(self._trees.below(folder), captured=False)
        for path, st, before in below:
            self._tracker.found(path, before, now, proven=stat.S_ISREG(st.st_mode))


def _is_gone(entry: Entry) -> bool:
    return not os.path.lexists(entry.path)


def _awaited(entry: Entry) -> bool:
    """Whether a record told of an opening that had not taken place when it was last looked for: on a busy machine any time
    may go by between the two."""
    gone = entry.phase is Phase.REMOVED or (entry.phase is Phase.UNCHANGED and entry.created)
    return gone and entry.renamed_to is None


def _changed(entry: Entry) -> bool:
    """Whether what is there now is not what the ledger knows; of what it will look at in any case it is not asked."""
    if entry.phase in UNSETTLED:
        return False
    try:
        st = os.lstat(entry.path)
    except OSError:
        return entry.phase in (Phase.STORED, Phase.IGNORED)
    if entry.phase is Phase.UNCHANGED:
        return written(entry, Stamp.of(st))
    if entry.phase is Phase.REMOVED:
        return True
    if entry.phase is Phase.IGNORED:
        return stat.S_ISREG(st.st_mode)
    now = Stamp.of(st)
    return (entry.ino, entry.size, entry.mtime_ns) != (now.ino, now.size, now.mtime_ns)
