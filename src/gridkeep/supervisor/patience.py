"""How long the files of an experiment still have to reach the store.

Counted in seconds of trying in vain, and noted in the ledger: the wall clock may be set meanwhile, a machine that was off
has not tried, and what takes a day because there is so much of it is not in vain.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress

from gridkeep.supervisor.finish import asked_again_at
from gridkeep.supervisor.ledger import Ledger

_NOTE_EVERY = 1.0  # seconds


class Patience:
    """`limit` seconds, anew whenever somebody asked for it (`finish.ask_again`) in the journal's `folder`."""

    def __init__(self, ledger: Ledger, folder: str, limit: float) -> None:
        self._ledger, self._limit = ledger, limit
        self._looked = self._noted = time.monotonic()
        asked = asked_again_at(folder)
        if asked != ledger.fact("sync_asked", 0.0):
            with ledger.transaction():
                ledger.set_fact("sync_tried", 0.0)
                ledger.set_fact("sync_asked", asked)
        self._tried: float = ledger.fact("sync_tried", 0.0)

    def is_over(self, *, waiting: bool) -> bool:
        """For whoever tries, after each try; `waiting`: something is in the way."""
        now = time.monotonic()
        if waiting:
            self._tried += now - self._looked
        self._looked = now
        if waiting and now - self._noted > _NOTE_EVERY:
            self._noted = now
            with suppress(sqlite3.OperationalError):  # the disk is full: so much the longer
                self._ledger.set_fact("sync_tried", self._tried)
        return waiting and self._tried > self._limit
