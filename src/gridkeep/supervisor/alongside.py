"""What lies in the store beside the files of a run that goes on, so that whoever has only the store sees what it is and how
it stands: its record, and now and then its output log.

In a thread of its own: a store that is silent must not keep the supervisor from files and script. Knows nothing of either.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from gridkeep.errors import StoreError
from gridkeep.model import Experiment, Run
from gridkeep.stores.base import Store
from gridkeep.supervisor import finish
from gridkeep.supervisor.record import put_record
from gridkeep.supervisor.settle import Changed


class Alongside:
    """For one experiment. `path`: its output log, which is looked at every `interval` seconds."""

    def __init__(self, store: Store, ulid: str, path: str, interval: float) -> None:
        self._store, self._ulid, self._path, self._interval = store, ulid, path, interval
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alongside")
        self._putting: Future[None] | None = None
        self._record: tuple[Run, Experiment] | None = None
        self._size = -1
        self._due = time.monotonic() + interval

    @property
    def busy(self) -> bool:
        """Whether something is on its way, which must not arrive after the last version of it."""
        return self._putting is not None and not self._putting.done()

    def announce(self, run: Run, experiment: Experiment, patience: float) -> None:
        """Puts up the record, and waits for that for `patience` seconds at most; `look` tries again until it is there."""
        self._record = run, experiment
        self._putting = self._thread.submit(self._put)
        wait([self._putting], patience)

    def look(self) -> None:
        """Puts up what is not there yet, or has grown, if it is time to."""
        now = time.monotonic()
        if now >= self._due and not self.busy:
            self._due = now + self._interval
            self._putting = self._thread.submit(self._put)

    def _put(self) -> None:
        with suppress(StoreError, Changed, OSError):
            if (record := self._record) is not None:
                put_record(self._store, *record)
                if self._record is record:
                    self._record = None
            if os.path.getsize(self._path) != self._size:
                self._size = finish.put_output(self._store, self._ulid, self._path)

    def close(self) -> None:
        self._thread.shutdown()
