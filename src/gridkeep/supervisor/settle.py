"""Is a file at rest, and how to read one version of it whole.

Knows single files only. A stat taken while a writer exists proves nothing (a shared mapping is written without a trace), so
the question "has anybody this open for writing?" is put to the kernel: a read lease is granted only when nobody has.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import stat
from enum import Enum, auto


class Rest(Enum):
    """Whether somebody has a file open for writing."""

    CLOSED = auto()
    WRITER = auto()
    UNTOLD = auto()  # not our file, or a file system without leases


class Changed(Exception):
    """The file changed while it was read, or somebody has it open for writing."""


class Busy(Exception):
    """Somebody has the file open for writing, or nobody can tell."""


def open_for_reading(path: bytes) -> int:
    """A descriptor of the regular file at `path`, which is canonical: a link swapped in is not followed, be it the file or a
    folder above it; a pipe is not waited for. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "Not a regular file")
    if not _is_called(fd, path):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd


def is_straight(folder: bytes) -> bool:
    """Whether this canonical path still leads to its folder without a link on the way. Raises OSError when it leads
    nowhere."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _is_called(fd, folder)
    finally:
        os.close(fd)


def _is_called(fd: int, path: bytes) -> bool:
    return os.readlink(b"/proc/self/fd/%d" % fd) == path


def rest(fd: int) -> Rest:
    """Asks by a lease that is given back at once. The process must ignore SIGIO, which a writer's open may send it."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return Rest.WRITER if error.errno == errno.EAGAIN else Rest.UNTOLD
    return Rest.CLOSED


class Version(io.RawIOBase):
    """One version of a file as a stream: its bytes, hashed as they are read.

    At the end it checks that the file is still what it was: else the last read raises Changed, so that a store never
    commits a torn copy. With `prefix`, the file may grow: what was there at the beginning is read, and read again if
    the file has changed, to see that it is a true prefix. Where nobody has `asked` yet whether it is open for writing, the
    first read does, and raises Busy: a small file is read the moment after.
    """

    def __init__(self, fd: int, *, prefix: bool = False, leasable: bool = True, asked: bool = True) -> None:
        self._fd = fd
        self.prefix = prefix
        self._leasable = leasable
        self._asked = asked
        self.before = os.fstat(fd)
        self.size = self.before.st_size
        self._sparse = self.before.st_blocks * 512 < self.size
        self._at = 0
        self._hash = hashlib.sha256()
        self._checked = False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not self._asked and not self._at and rest(self._fd) is not Rest.CLOSED:
            raise Busy
        left = self.size - self._at
        data = self._next(left if size < 0 else min(size, left)) if left else b""
        if left and not data:
            raise Changed  # it was cut short
        self._hash.update(data)
        self._at += len(data)
        if self._at == self.size and not self._checked:
            self._check()
            self._checked = True
        return data

    def _next(self, size: int) -> bytes:
        """The next bytes. A hole is not read page by page to find zeros."""
        if self._sparse and (hole := self._data_from(self._at) - self._at):
            return bytes(min(size, hole))
        return os.pread(self._fd, size, self._at)

    def _data_from(self, offset: int) -> int:
        """Where the next data is; the size, if only a hole follows."""
        try:
            return min(os.lseek(self._fd, offset, os.SEEK_DATA), self.size)
        except OSError as error:
            return (
                self.size if error.errno == errno.ENXIO else offset
            )  # a hole to the end; or a file system without

    def _check(self) -> None:
        same = _stamp(os.fstat(self._fd)) == _stamp(self.before)
        if self.prefix:
            if not same and self._hash_again() != self.sha256:
                raise Changed
        elif not same or (self._leasable and rest(self._fd) is Rest.WRITER):
            raise Changed

    def _hash_again(self) -> str:
        again, at = hashlib.sha256(), 0
        while at < self.size and (data := os.pread(self._fd, min(1 << 20, self.size - at), at)):
            again.update(data)
            at += len(data)
        return again.hexdigest()


def _stamp(st: os.stat_result) -> tuple[int, int, int, int, int]:
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns
