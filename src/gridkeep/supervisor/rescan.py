"""Looking through the files themselves for changes that no record told of.

The last resort of a captured run (once, at its end: it should find nothing), and the only eye of a run that could not be
captured (again and again, in its working copy alone). Knows the ledger and the file system.
"""

from __future__ import annotations

import os
import time

from gridkeep.capture.journal import Stamp
from gridkeep.supervisor.ledger import Entry, Ledger, Phase
from gridkeep.supervisor.tracker import Tracker, written

_PAUSE_MIN = 1.0  # seconds between two rescans
_PAUSE_SHARE = 10  # and no more than this share of the time is spent on them


class Rescan:
    """For one working copy, `tree`."""

    def __init__(self, ledger: Ledger, tracker: Tracker, tree: bytes) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._tree = tree
        self._next = 0.0

    def look_now_and_then(self) -> None:
        """One rescan, if it is time for it."""
        started = time.monotonic()
        if started < self._next:
            return
        self.look(started, unexpected=False)
        ended = time.monotonic()
        self._next = ended + max(_PAUSE_MIN, (ended - started) * _PAUSE_SHARE)

    def look(self, now: float, *, unexpected: bool) -> None:
        """Touches every file that is not as the ledger has it. `unexpected`: they are counted as found by the sweep."""
        with self._ledger.transaction():
            for entry in self._ledger.settled():
                if _changed(entry):
                    self._tracker.found(entry.path, Stamp(0, 0, 0, 0, 0, 0), now, unexpected=unexpected)
            for path, before in self._ledger.unseen_changes(self._tree):
                self._tracker.found(path, before, now, unexpected=unexpected)


def _changed(entry: Entry) -> bool:
    """Whether what is there now is not what the ledger knows; only of files that had come to rest."""
    try:
        st = os.lstat(entry.path)
    except OSError:
        return entry.phase is Phase.STORED
    if entry.phase is Phase.UNCHANGED:
        return written(entry, Stamp.of(st))
    if entry.phase is Phase.REMOVED:
        return True
    now = Stamp.of(st)
    return (entry.ino, entry.size, entry.mtime_ns) != (now.ino, now.size, now.mtime_ns)
