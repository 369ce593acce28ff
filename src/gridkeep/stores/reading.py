"""An object of a bucket as ordered chunks, fetched by windows, some of them ahead of the reader.

Knows the budget of bytes, against which counts what is under way or waits for the reader; not where windows come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future

from gridkeep.stores.budget import MIB, Budget

WINDOW = 4 * MIB  # twice as much takes twice the memory and saves no time
AHEAD = 2  # windows that are fetched while one is read
CHUNK = MIB

Fetch = Callable[[int, int], memoryview]  # the bytes from the one up to the other, all of one version


def chunks(fetch: Fetch, start: int, stop: int, pool: Executor, budget: Budget) -> Iterator[bytes]:
    """The bytes from `start` up to `stop`, which must be there, in chunks of at most 1 MiB. Raises what `fetch` raises."""
    if stop - start <= WINDOW:  # as most objects are: not worth a thread
        with budget.held(stop - start):
            yield from _cut(fetch(start, stop))
        return
    at, mine = start, 0
    ahead: deque[tuple[int, Future[memoryview]]] = deque()
    try:
        while at < stop or ahead:
            while at < stop and len(ahead) <= AHEAD:
                size = min(WINDOW, stop - at)
                if not mine:
                    budget.take(size)
                elif not budget.try_take(size):
                    break
                mine += size
                ahead.append((size, pool.submit(fetch, at, at + size)))
                at += size
            yield from _cut(ahead[0][1].result())
            size, _ = ahead.popleft()
            budget.give(size)
            mine -= size
    finally:
        for size, window in ahead:  # the reader went away, or there was an error
            window.cancel()
            _when_done(window, budget, size)


def _when_done(window: Future[memoryview], budget: Budget, size: int) -> None:
    window.add_done_callback(lambda _: budget.give(size))


def _cut(window: memoryview) -> Iterator[bytes]:
    for at in range(0, len(window), CHUNK):
        yield bytes(window[at : at + CHUNK])
