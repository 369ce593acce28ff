"""Where a store in a folder writes what has no key yet: a folder for each writer, and beside it a file that is locked as
long as that one lives. (A lock on the folder itself would not be seen by other machines.)

Works on descriptors alone; knows nothing of stores. Errors are the system's own (OSError).
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass

from gridkeep.model import new_ulid
from gridkeep.stores.folders import enter

_WORKS = ".d"  # what the folder's name has after the file's
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted pipe must not hold us
_ALIVE = (errno.EWOULDBLOCK, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # or nobody can tell


def begin(above: int) -> Workshop:
    """A new one in that folder."""
    name, lock = _locked(above)
    try:
        os.mkdir(name + _WORKS, 0o700, dir_fd=above)
        return Workshop(above, name, lock, enter(above, name + _WORKS))
    except BaseException:
        os.close(lock)
        raise


@dataclass(frozen=True, slots=True)
class Workshop:
    """Somebody's; `folder` is the descriptor to write in."""

    above: int
    name: str
    lock: int
    folder: int

    def end(self) -> None:
        """Takes it away with all that got no key; what does not go is left to the next sweep."""
        os.close(self.folder)
        with suppress(OSError):
            _remove(self.above, self.name)
        os.close(self.lock)


def sweep(above: int) -> None:
    """Removes what writers that were killed left in that folder."""
    names = os.listdir(above)
    for name in names:
        owner = name.removesuffix(_WORKS)
        if owner == name or owner not in names:  # a folder without the file is being removed, or was to be
            _remove_dead(above, owner)


def _locked(above: int) -> tuple[str, int]:
    while True:
        name = new_ulid()
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=above)
        with suppress(OSError):  # a file system without locks: there nobody sweeps
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return name, lock
        os.close(lock)  # swept before it was locked


def _remove_dead(above: int, name: str) -> None:
    try:
        lock = os.open(name, _LOCK, dir_fd=above)
    except FileNotFoundError:
        lock = -1
    try:
        if lock >= 0:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(above, name)
    except OSError as error:
        if error.errno not in _ALIVE:
            raise
    finally:
        if lock >= 0:
            os.close(lock)


def _remove(above: int, name: str) -> None:
    """The file last: as long as it is there, the folder is somebody's."""
    with suppress(FileNotFoundError):
        folder = enter(above, name + _WORKS)
        try:
            for each in os.listdir(folder):
                os.unlink(each, dir_fd=folder)
        finally:
            os.close(folder)
        os.rmdir(name + _WORKS, dir_fd=above)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=above)
