"""The memory that a shim, its guard and the supervisor share: counters for all, and what shim and guard tell each other.

The first page begins with the counters (`session.COUNTERS`), which the supervisor reads; the rest is between shim and
guard. The second holds a receive buffer for each of the two, so that the call in flight is known after its owner's death.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum

from gridkeep.capture.session import COUNTERS, SHARED_SIZE

_BEATS, _PHASE, _HURRIED = range(len(COUNTERS), len(COUNTERS) + 3)
_HALF = mmap.PAGESIZE // 2


class Phase(IntEnum):
    """What the shim is at."""

    WAITING = 0
    RECEIVING = 1
    HOLDING = 2  # a call, which waits for its answer


class Shared:
    """See the module. Only the shim sets the phase, only the guard says what it hurried."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # A page that finds no space on the disk later kills who writes to it.
        os.posix_fallocate(fd, 0, SHARED_SIZE)
        self._values = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("Q")
        seats = memoryview(mmap.mmap(fd, mmap.PAGESIZE, offset=mmap.PAGESIZE))
        os.close(fd)
        self.shims_seat, self.guards_seat = seats[:_HALF], seats[_HALF:]

    def add(self, name: str, amount: int = 1) -> None:
        self._values[COUNTERS.index(name)] += amount

    def all(self) -> dict[str, int]:
        return {name: self._values[number] for number, name in enumerate(COUNTERS)}

    @property
    def phase(self) -> Phase:
        return Phase(self._values[_PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._values[_PHASE] = phase
        self._values[_BEATS] += 1

    @property
    def beats(self) -> int:
        """How often the phase has changed: a shim that is stuck has no pulse."""
        return self._values[_BEATS]

    def hurry(self, identity: int) -> None:
        """The guard lets this call go on in the shim's place."""
        self._values[_HURRIED] = identity

    def hurried(self, identity: int) -> bool:
        return self._values[_HURRIED] == identity
