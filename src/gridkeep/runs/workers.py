"""Threads that work through batches and can be given up one by one.

A thread that waits on a dead disk or server cannot be interrupted. So each says when it last moved something; one
that has been silent for too long is abandoned together with the item it is at, and a fresh thread takes the rest of
its batch. Knows nothing of downloads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

TICK = 0.25  # seconds between two looks at the threads


class Abandoned(BaseException):
    """Raised inside a thread that was given up, so that it drops what it has in hand. No error: nobody may catch it
    as one."""


class Worker(threading.Thread, Generic[T, R]):
    """One thread. `beat` is for the work: it says that something moved."""

    def __init__(self, pool: Pool[T, R], first: list[T] | None) -> None:
        super().__init__(daemon=True, name="gridkeep-worker")
        self.pool, self.batch, self.at = pool, first or [], -1
        self.abandoned = False
        self.last_sign: float | None = None  # None: idle
        self.lock = threading.Lock()

    def beat(self) -> None:
        """Raises Abandoned when it is too late."""
        if self.abandoned:
            raise Abandoned
        self.last_sign = time.monotonic()

    def run(self) -> None:
        try:
            self._work_off(self.batch)
            while (batch := self.pool.queue.get()) is not None:
                self._work_off(batch)
        except Abandoned:
            pass
        except BaseException as error:
            with self.lock:
                if not self.abandoned:
                    self.pool.broken = error

    def _work_off(self, batch: list[T]) -> None:
        if not batch:
            return
        for at, item in enumerate(batch):
            with self.lock:
                if self.abandoned:
                    raise Abandoned
                self.batch, self.at, self.last_sign = batch, at, time.monotonic()
            result = self.pool.work(item, self.beat)
            with self.lock:
                if self.abandoned:
                    raise Abandoned
                self.last_sign = None
            self.pool.done(item, result)
        self.pool.batch_done()


class Pool(Generic[T, R]):
    """`work(item, beat)` is called in the threads, then `done(item, result)`; `give_up(item)` is called by `run` for
    an item whose thread was silent for `patience` seconds, and `done` is not."""

    def __init__(
        self,
        threads: int,
        patience: float,
        *,
        work: Callable[[T, Callable[[], None]], R],
        done: Callable[[T, R], None],
        give_up: Callable[[T], None],
    ) -> None:
        self.queue: queue.Queue[list[T] | None] = queue.Queue(maxsize=2 * threads)
        self.work, self.done = work, done
        self.broken: BaseException | None = None
        self._patience, self._give_up = patience, give_up
        self._changed = threading.Condition()
        self._open = 0  # batches handed out and not yet done
        self._looked = time.monotonic()
        self._workers: list[Worker[T, R]] = []
        for _ in range(threads):
            self._start(None)

    def run(self, batches: Iterable[list[T]]) -> None:
        """Works off all batches. Whatever ends it early, from Ctrl-C to an error of a thread, abandons the threads."""
        try:
            for batch in batches:
                with self._changed:
                    self._open += 1
                self._hand_out(batch)
            while True:
                with self._changed:
                    if not self._open or self.broken:
                        break
                    self._changed.wait(TICK)
                self._look()
            self._raise_broken()
        finally:
            for worker in self._workers:
                worker.abandoned = True
            for _ in self._workers:  # wakes the idle ones; the others see that they are abandoned
                try:
                    self.queue.put_nowait(None)
                except queue.Full:
                    break

    def batch_done(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def _hand_out(self, batch: list[T]) -> None:
        while True:
            self._look()
            try:
                return self.queue.put(batch, timeout=TICK)
            except queue.Full:
                continue

    def _look(self) -> None:
        self._raise_broken()
        now = time.monotonic()
        if now - self._looked < TICK:
            return
        self._looked = now
        for worker in list(self._workers):
            with worker.lock:
                if worker.last_sign is None or now - worker.last_sign < self._patience:
                    continue
                worker.abandoned = True
                stuck, rest = worker.batch[worker.at], worker.batch[worker.at + 1 :]
            self._workers.remove(worker)
            self._give_up(stuck)
            self._start(rest)
            if not rest:
                self.batch_done()

    def _raise_broken(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _start(self, first: list[T] | None) -> None:
        worker = Worker(self, first)
        self._workers.append(worker)
        worker.start()
