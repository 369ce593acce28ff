"""An object of a bucket as ordered chunks: as one stream, or by windows, some of them ahead of the reader.

What comes is handed on as it comes: a slow line is not a silent one. Knows the budget of bytes, against which counts what is
under way or waits for the reader; not where the bytes come from.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from gridkeep.stores.budget import MIB, Budget

WINDOW = 8 * MIB
AHEAD = 2  # windows that are fetched while one is read
LANE = 32 * MIB  # bytes that come as one stream: who asks for no more than that asks for others beside it
_UNDER_WAY = 2 * MIB  # bytes of a stream that are held: the rest waits at the other end of the line

Fetch = Callable[[int, int], Iterator[bytes]]  # the bytes from the one up to the other, all of one version


def stream(fetch: Fetch, start: int, stop: int, budget: Budget) -> Iterator[bytes]:
    """The bytes from `start` up to `stop`, which must be there, in the pieces that `fetch` gives. Raises what `fetch`
    raises."""
    with budget.held(min(stop - start, _UNDER_WAY)):
        yield from fetch(start, stop)


def windows(fetch: Fetch, start: int, stop: int, budget: Budget) -> Iterator[bytes]:
    """The same, some of it ahead of the reader."""
    if stop - start <= WINDOW:  # as most objects are: not worth a thread
        yield from stream(fetch, start, stop, budget)
        return
    at, mine = start, 0
    ahead: deque[_Window] = deque()
    try:
        while at < stop or ahead:
            while at < stop and len(ahead) <= AHEAD:
                size = min(WINDOW, stop - at)
                if not mine:
                    budget.take(size)
                elif not budget.try_take(size):
                    break
                mine += size
                ahead.append(_Window(fetch, at, size, budget))
                at += size
            yield from ahead[0].pieces()
            window = ahead.popleft()
            window.leave()
            mine -= window.size
    finally:
        for window in ahead:  # the reader went away, or there was an error
            window.leave()


class _Window:
    """`size` bytes that a thread of its own fetches. The thread may outlive its reader, when it waits for a silent server;
    not the process."""

    def __init__(self, fetch: Fetch, start: int, size: int, budget: Budget) -> None:
        self.size = size
        self._budget = budget
        self._come: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._users = 2  # thread and reader
        threading.Thread(target=self._fill, args=(fetch, start), daemon=True, name="get").start()

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._come.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def leave(self) -> None:
        """Of thread and reader, whoever leaves last gives the bytes back."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._budget.give(self.size)

    def _fill(self, fetch: Fetch, start: int) -> None:
        try:
            for piece in fetch(start, start + self.size):
                self._come.put(piece)
                if self._users < 2:
                    break
            self._come.put(None)
        except BaseException as error:
            self._come.put(error)
        finally:
            self.leave()
