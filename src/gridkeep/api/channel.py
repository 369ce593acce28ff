"""What followers of one experiment share: the end of its output log, read once for all, and the word that there is news."""

from __future__ import annotations

import asyncio
import threading

from gridkeep.api.lookup import with_run
from gridkeep.errors import GridError
from gridkeep.model import State
from gridkeep.runs.context import Context
from gridkeep.runs.logs import OutputLog

_KEPT = 1 << 20  # bytes of output that are kept for followers
_PIECE = 1 << 18


class Signal:
    """Tells all who wait, once each time. Used from the event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def turn(self) -> Turn:
        """To be taken before looking: what is told after that is not missed."""
        return Turn(self._event)

    def tell(self) -> None:
        told, self._event = self._event, asyncio.Event()
        told.set()


class Turn:
    """The wait for the next time that a signal tells."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, seconds: float) -> bool:
        """Whether it told within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class Channel:
    """`look`, `piece` and `close` block, and are called from threads."""

    def __init__(self, context: Context, experiment_id: str) -> None:
        """Raises NotFound."""
        self.news = Signal()
        self.followers = 0
        self._context = context
        self._experiment, self._run = with_run(context.catalog, experiment_id)
        self._state = self._experiment.state
        self._lock = threading.Lock()
        self._log: OutputLog | None = self._open()
        if self._printing:
            self._log.to_last_lines(0)
        self._kept = (self._log.position, b"")  # where it begins, and what was printed from there on

    def told(self, state: State | None) -> None:
        """The experiment, or an artifact of it, has changed."""
        self._state = state or self._state
        self.news.tell()

    def look(self) -> bool:
        """Reads on in the output log; whether there was more."""
        with self._lock:
            if self._log is None or not self._printing:
                return False
            try:
                new = next(self._log.read(), b"")
            except GridError:  # its store is away: the next look may find it
                return False
            kept = (self._kept[1] + new)[-_KEPT:]
            self._kept = (self._log.position - len(kept), kept)
        return bool(new)

    def at_hand(self, position: int) -> bytes | None:
        """What was printed after that position, or its first part, if it is kept here."""
        first, kept = self._kept
        if not self._printing or not first <= position <= first + len(kept):
            return None
        return kept[position - first : position - first + _PIECE]

    def piece(self, position: int) -> bytes:
        """The same, read anew. Raises StoreError."""
        with self._open() as log:
            log.position = position
            return next(log.read(), b"")[:_PIECE]

    def close(self) -> None:
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    @property
    def _printing(self) -> bool:
        return self._state in (State.RUNNING, State.SYNCING)

    def _open(self) -> OutputLog:
        return OutputLog(self._context, self._run, self._experiment)
