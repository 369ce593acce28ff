"""How many bytes of objects this process may hold at once, whoever moves them: a semaphore in bytes.

Knows nothing of what the bytes are for. To stay clear of deadlock, whoever holds some asks for more by `try_take` only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MIB = 2**20


class Budget:
    """`limit` bytes to share. One who asks for more than that at once gets it when nobody else has any."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Waits until there is room for `size` bytes."""
        with self._changed:
            self._changed.wait_for(lambda: self._fits(size))
            self._taken += size

    def try_take(self, size: int) -> bool:
        """Takes them if there is room now."""
        with self._changed:
            if not self._fits(size):
                return False
            self._taken += size
            return True

    def give(self, size: int) -> None:
        """Gives back `size` bytes."""
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Takes them for the time of the block."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._limit


SHARED = Budget(64 * MIB)  # of all transfers of this process; libraries and allocators take as much again
