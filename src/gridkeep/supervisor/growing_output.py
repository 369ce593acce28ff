"""The output log of a run that goes on: put up now and then, so that whoever has only the store sees how it stands.

In a thread of its own: a store that is silent must not keep the supervisor from files and script. Knows nothing of either.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from gridkeep.errors import StoreError
from gridkeep.stores.base import Store
from gridkeep.supervisor import finish
from gridkeep.supervisor.settle import Changed


class GrowingOutput:
    """The file at `path`, looked at every `interval` seconds."""

    def __init__(self, store: Store, ulid: str, path: str, interval: float) -> None:
        self._store, self._ulid, self._path, self._interval = store, ulid, path, interval
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="output")
        self._putting: Future[None] | None = None
        self._size = -1
        self._due = time.monotonic() + interval

    @property
    def busy(self) -> bool:
        """Whether a copy is on its way, which must not arrive after the last one."""
        return self._putting is not None and not self._putting.done()

    def look(self) -> None:
        """Puts it up if it is time to, and it has grown."""
        now = time.monotonic()
        if now >= self._due and not self.busy:
            self._due = now + self._interval
            self._putting = self._thread.submit(self._put)

    def _put(self) -> None:
        with suppress(StoreError, Changed, OSError):
            if os.path.getsize(self._path) != self._size:
                self._size = finish.put_output(self._store, self._ulid, self._path)

    def close(self) -> None:
        self._thread.shutdown()
