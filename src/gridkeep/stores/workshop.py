"""Where a store in a folder writes what has no key yet: a folder for each writer, locked as long as that one lives.

Works on descriptors alone; knows nothing of stores. Errors are the system's own (OSError).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from gridkeep.model import new_ulid
from gridkeep.stores.folders import enter

_ANYTHING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted pipe must not hold us


def begin(above: int) -> tuple[str, int]:
    """A new folder in that one: its name, and its descriptor, which holds the lock."""
    while True:
        name = new_ulid()
        os.mkdir(name, 0o700, dir_fd=above)
        with suppress(FileNotFoundError):  # swept before it was locked: another one
            workshop = enter(above, name)
            with suppress(OSError):  # a file system without locks: there nobody sweeps
                fcntl.flock(workshop, fcntl.LOCK_EX)
            try:
                os.stat(name, dir_fd=above, follow_symlinks=False)
                return name, workshop
            except BaseException:
                os.close(workshop)
                raise


def end(above: int, name: str, workshop: int) -> None:
    """Takes it away with all that got no key; what does not go is left to the next sweep."""
    with suppress(OSError):
        _remove(above, name, workshop)
    os.close(workshop)


def sweep(above: int) -> None:
    """Removes what writers that were killed left in that folder. (Those of earlier versions lock single files.)"""
    for name in os.listdir(above):
        with suppress(FileNotFoundError):
            found = os.open(name, _ANYTHING, dir_fd=above)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(above, name, found)
            except BlockingIOError:
                pass
            finally:
                os.close(found)


def _remove(above: int, name: str, found: int) -> None:
    try:
        left = os.listdir(found)
    except NotADirectoryError:
        os.unlink(name, dir_fd=above)
        return
    for each in left:
        os.unlink(each, dir_fd=found)
    os.rmdir(name, dir_fd=above)
