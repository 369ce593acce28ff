"""The eyes of a run that could not be captured: events of the file system, rescans, and an honest word on what they miss.

Events tell of a change at once, even of a file that is gone before anybody has looked; but they may fail. Rescans find
whatever stands. Only a run in the mode `watch` has a lookout.
"""

from __future__ import annotations

import time

from gridkeep.capture.watch import Watch
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.rescan import Rescan
from gridkeep.supervisor.trees import Trees

_PATIENCE = 10.0  # seconds for events to begin before the script does, and to have come after its end
_MISSED = (
    "nobody listened for a moment"  # a supervisor was killed, or it was not foreseen that the kernel refuses
)


class Lookout:
    """For one experiment. That events were missed lies in the ledger: another supervisor may have to say it."""

    def __init__(self, ledger: Ledger, rescan: Rescan, trees: Trees, own: bytes) -> None:
        self._ledger = ledger
        self._rescan = rescan
        self._trees = trees
        self._own = own
        self._watch: Watch | None = None

    def begin(self) -> None:
        """Before the script starts: returns when events are told."""
        if self._watch is None:
            self._watch = Watch(self._trees.roots, self._own)
            self._catch_up(self._watch)

    def look(self) -> None:
        """Lets the ledger know what has changed meanwhile."""
        if self._watch is None:
            self._note(_MISSED)
            self.begin()
        elif changed := self._watch.changes():
            self._rescan.look_at(changed, time.monotonic())
        self._rescan.look_now_and_then()

    def finish(self) -> None:
        """After the script's end: the last events. What stands is left to the last rescan."""
        if self._watch is None:
            self._note(_MISSED)
        else:
            self._catch_up(self._watch)
            self._rescan.look_at(self._watch.changes(), time.monotonic())
        self.close()

    def means(self) -> str:
        """How changes were noticed, for the run's record."""
        if missed := self._ledger.fact("events_missed"):
            return f"rescans; events were missed: {missed}"
        return "events of the file system, and rescans"

    def blind(self, links: int) -> str:
        """What was not seen, for the run's record. `links`: how many entries of the working copy link to the project."""
        seen = "the working copy"
        if len(self._trees.roots) > 1:
            seen += " and the folders that it links to"
        told = f"files written outside {seen} are not seen"
        if links and len(self._trees.roots) == 1:
            told += ", nor through its links"
        if self._ledger.fact("events_missed"):
            told += ", nor those that were there for a moment only"
        if len(self._trees.roots) > 1:
            told += "; what others write to those folders counts as the run's"
        return told

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _catch_up(self, watch: Watch) -> None:
        if not watch.catch_up(_PATIENCE) or watch.trouble:
            self._note(watch.trouble or f"none came for {_PATIENCE:.0f} seconds")

    def _note(self, trouble: str) -> None:
        if not self._ledger.fact("events_missed"):
            self._ledger.set_fact("events_missed", trouble)
