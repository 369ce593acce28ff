"""Folders made and made durable, for many threads at once: a name counts only when the folder it stands in
was fsynced.

Works on descriptors alone; knows nothing of stores. Errors are the system's own (OSError).
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from weakref import WeakValueDictionary

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def enter(current: int, name: str) -> int:
    """The descriptor of a folder inside another; a symbolic link is none."""
    return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=current)


class Folders:
    """What one process makes durable in its folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fsyncs: WeakValueDictionary[tuple[int, int], SharedFsync] = WeakValueDictionary()
        self._unsettled: set[tuple[int, int, str]] = set()  # made, their names not yet durable

    def settle(self, folder: int) -> None:
        """Makes the names in a folder durable; callers that arrive together share one fsync."""
        place = _identity(folder)
        with self._lock:
            shared = self._fsyncs.get(place)
            if shared is None:
                shared = self._fsyncs[place] = SharedFsync()
        shared(folder)

    def make(self, current: int, name: str) -> int:
        """The descriptor of a folder inside another, made if need be; its name is durable."""
        place = (*_identity(current), name)
        try:
            below = enter(current, name)
        except FileNotFoundError:
            self._unsettled.add(place)
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=current)
            below = enter(current, name)
        if place in self._unsettled:  # made just now, here or by a thread that has not come to its fsync yet
            try:
                self.settle(current)
            except OSError:
                os.close(below)
                raise
            self._unsettled.discard(place)
        return below


class SharedFsync:
    """An fsync of one folder that answers for all who asked before it began."""

    def __init__(self) -> None:
        self._counting, self._running = threading.Lock(), threading.Lock()
        self._asked = self._answered = 0

    def __call__(self, folder: int) -> None:
        with self._counting:
            self._asked += 1
            mine = self._asked
        with self._running:
            if self._answered >= mine:
                return
            with self._counting:
                all_before = self._asked
            os.fsync(folder)
            self._answered = all_before


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
