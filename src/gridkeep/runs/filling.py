"""How a large file is filled: what it lacks comes by lanes, and one proof follows them through the file.

A lane is a thread that fetches one span after another and writes each piece where it belongs as it comes: nothing waits
in memory for its turn. The proof reads the file from its first byte on, as far as that is there: what it vouches for is
what lies there, whether it came now or was there before. Knows neither names nor sidecars.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from gridkeep.stores.reading import LANE

MIB = 2**20
LANES = 3
# Bytes of a span: few requests at first, lanes that end together at last.
LONGEST, SHORTEST = LANE, 8 * MIB
_READ = MIB // 4  # bytes that are hashed at once: they stay in the processor's cache

Span = tuple[int, int]  # from one byte of a file up to, not including, another
Fetch = Callable[
    [int, int | None], Iterator[bytes]
]  # the bytes of a span, or on to the last; fewer when there are no more
Beat = Callable[[int], None]  # told of every so many bytes that moved; may raise to give up; from any thread
Note = Callable[[Sequence[Span]], None]  # told which spans a file lacks


class Mismatch(Exception):
    """The bytes that came are not those of the record."""


class Proof:
    """The SHA-256 of a file of `size` bytes, read from its beginning on."""

    def __init__(self, file: int, size: int) -> None:
        self.at = 0
        self._file = file
        self._digest = hashlib.sha256()
        self._buffer = memoryview(bytearray(min(size, _READ)))

    def follow(self, until: int, beat: Beat) -> None:
        """Reads on up to there. Raises Mismatch where the file ends before, OSError, and what `beat` raises."""
        while self.at < until:
            count = os.preadv(self._file, [self._buffer[: until - self.at]], self.at)
            if not count:
                raise Mismatch
            self._digest.update(self._buffer[:count])
            self.at += count
            beat(0)

    def sha256(self) -> str:
        return self._digest.hexdigest()


def fill(
    file: int, size: int, missing: Sequence[Span], lanes: int, fetch: Fetch, beat: Beat, note: Note
) -> str:
    """Writes what the file lacks of its `size` bytes, by so many lanes (one alone fetches each span as a whole); their
    SHA-256. `missing` is in order; what `note` is told is true whenever the process dies. Raises Mismatch when there are
    fewer bytes or more, OSError, and what `fetch`, `beat` and `note` raise: a lane that still waits then writes no more."""
    filling = _Filling(file, size, missing, lanes, fetch, beat, note)
    try:
        filling.start()
        proof = Proof(file, size)
        while proof.at < size:
            proof.follow(filling.front(proof.at), beat)
        filling.finish()
        return proof.sha256()
    finally:
        filling.close()


class _Filling:
    def __init__(
        self, file: int, size: int, missing: Sequence[Span], lanes: int, fetch: Fetch, beat: Beat, note: Note
    ) -> None:
        self._file, self._size = file, size
        self._fetch, self._beat, self._note = fetch, beat, note
        self._waiting = deque(missing)
        self._lacking = sum(stop - at for at, stop in missing)  # bytes of those
        self._coming: list[list[int]] = []  # the spans of the lanes, in order, and before all that wait
        self._lanes = lanes
        self._gate = threading.Condition()  # held by whoever writes
        self._closed = False
        self._error: BaseException | None = None

    def start(self) -> None:
        if self._lacking <= SHORTEST:  # not worth a thread
            self._lane()
            return
        for _ in range(min(self._lanes, -(-self._lacking // SHORTEST))):
            threading.Thread(target=self._lane, daemon=True, name="lane").start()

    def front(self, beyond: int) -> int:
        """Up to where the file is there, as soon as that is a good piece farther than `beyond`, or the end. Raises what a
        lane raised."""
        enough = min(beyond + MIB, self._size)
        with self._gate:
            self._wait(lambda: self._front() >= enough)
            return self._front()

    def finish(self) -> None:
        """Waits until no lane is under way. Raises what a lane raised."""
        self._wait(lambda: not self._coming)

    def close(self) -> None:
        """From now on the file may be another's: no lane touches it."""
        with self._gate:
            self._closed = True

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._gate:
            self._gate.wait_for(lambda: self._error is not None or until())
            if self._error is not None:
                raise self._error

    def _front(self) -> int:
        return next((at for at, _ in (*self._coming, *self._waiting)), self._size)

    def _lane(self) -> None:
        try:
            while span := self._claim():
                end = span[1] + (span[1] == self._size)  # one more than there may be
                for piece in self._fetch(span[0], end):
                    if not self._take(span, piece):
                        return
                self._leave(span)
        except BaseException as error:
            with self._gate:
                self._closed = True
                self._error = self._error or error
                self._gate.notify_all()

    def _claim(self) -> list[int] | None:
        """The next span for a lane."""
        with self._gate:
            if self._closed or not self._waiting:
                return None
            at, stop = self._waiting.popleft()
            share = self._lacking // self._lanes // SHORTEST * SHORTEST
            end = min(stop, at + max(SHORTEST, min(LONGEST, share))) if self._lanes > 1 else stop
            if end < stop:
                self._waiting.appendleft((end, stop))
            self._lacking -= end - at
            self._coming.append([at, end])
            return self._coming[-1]

    def _take(self, span: list[int], piece: bytes) -> bool:
        """False when it is too late."""
        with self._gate:
            if self._closed:
                return False
            if span[0] + len(piece) > span[1]:
                raise Mismatch
            write(self._file, piece, span[0])
            span[0] += len(piece)
            coming = ((at, stop) for at, stop in self._coming if at < stop)
            self._note([*coming, *self._waiting])
            self._gate.notify_all()
        self._beat(len(piece))
        return True

    def _leave(self, span: list[int]) -> None:
        if span[0] < span[1]:
            raise Mismatch
        with self._gate:
            self._coming.remove(span)
            self._gate.notify_all()


def write(file: int, content: bytes | bytearray, at: int = 0) -> None:
    """All of it, from that byte of the file on."""
    rest = memoryview(content)
    while rest:
        done = os.pwrite(file, rest, at)
        rest, at = rest[done:], at + done
