"""The journal: what a process tree did to files, in the order of its system calls, as an append-only file of records.

The shim writes it and the supervisor reads it; it is all that passes between them but for three small files
(`session`). The C shim writes the same bytes. A record stands in the file before the call that it tells of goes on, so
a dead script's last write is known.

Layout, little-endian: `u32 length` of the whole record, `u8 op`, `u8 number of paths`, `u16 marks`, `u32 thread id`,
`u64 flags of the call`, `i64 time` (ns since the epoch), then for each path its *pre-state* (`u64 dev`, `u64 ino`,
`i64 size`, `i64 mtime_ns`, `i64 ctime_ns`, `u32 mode`; ino 0: nothing was there), `u32 length` and the path's bytes.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple


class Op(IntEnum):
    """What was called. The numbers are the file format's."""

    OPEN = 1  # open, openat, openat2, creat, for writing or creating
    TRUNCATE = 2
    UNLINK = 3
    RENAME = 4  # paths: old, new
    LINK = 5  # paths: old, new
    SYMLINK = 6
    MKNOD = 7
    LOST = 8  # a call whose path could not be learnt; the path field tells what is known, for people


EXCHANGE = 1  # mark of RENAME: the two change places
LATE = 2  # mark: the call may have gone on before the pre-state was taken

_HEAD = struct.Struct("<IBBHIQq")
_LENGTH = struct.Struct("<I")
_PATH = struct.Struct("<QQqqqII")


class Stamp(NamedTuple):
    """What tells whether a file was changed. `ino` 0: there was nothing."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int

    @classmethod
    def of(cls, st: os.stat_result) -> Stamp:
        """Times beyond what 64 bits of nanoseconds hold (the year 2262; `touch -d` makes them) count as their end."""
        mtime_ns, ctime_ns = _fitting(st.st_mtime_ns), _fitting(st.st_ctime_ns)
        return cls(st.st_dev, st.st_ino, st.st_size, mtime_ns, ctime_ns, st.st_mode)

    @property
    def exists(self) -> bool:
        return self.ino != 0

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    def same_file(self, other: Stamp) -> bool:
        return self.ino == other.ino and self.dev == other.dev


def _fitting(time_ns: int) -> int:
    return max(-(1 << 63), min(time_ns, (1 << 63) - 1))


ABSENT = Stamp(0, 0, 0, 0, 0, 0)


class Record(NamedTuple):
    """One call. `paths` has one entry, or two (old, new) for RENAME and LINK."""

    op: Op
    tid: int
    flags: int
    time_ns: int
    paths: tuple[tuple[bytes, Stamp], ...]
    marks: int = 0


def encode(record: Record) -> bytes:
    """The record's bytes, to be appended by one write."""
    parts = [b""]
    for path, stamp in record.paths:
        parts.append(_PATH.pack(*stamp, len(path)))
        parts.append(path)
    length = _HEAD.size + sum(map(len, parts))
    parts[0] = _HEAD.pack(
        length,
        record.op,
        len(record.paths),
        record.marks,
        record.tid & 0xFFFFFFFF,
        record.flags,
        record.time_ns,
    )
    return b"".join(parts)


def decode(data: bytes, start: int = 0) -> Iterator[tuple[int, Record]]:
    """Yields (offset behind it, record) for each whole record of `data` from `start`; what is cut off at the end waits."""
    view = memoryview(data)
    while start + _HEAD.size <= len(data):
        length, op, count, marks, tid, flags, time_ns = _HEAD.unpack_from(data, start)
        if length < _HEAD.size or start + length > len(data):
            return
        at = start + _HEAD.size
        paths = []
        for _ in range(count):
            *stamp, size = _PATH.unpack_from(data, at)
            at += _PATH.size
            paths.append((bytes(view[at : at + size]), Stamp(*stamp)))
            at += size
        start += length
        yield start, Record(Op(op), tid, flags, time_ns, tuple(paths), marks)


class Writer:
    """Appends records. When there is no space (or any other fault) the record is dropped and `append` says False: the script
    is never held up. Opened with O_APPEND: the shim and its guard share the file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, record: Record) -> bool:
        data = encode(record)
        try:
            written = os.write(self._fd, data)
            if written == len(data):
                return True
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)  # no half records in the middle
        except OSError:
            pass
        return False

    def mend(self) -> None:
        """Cuts off a record that its writer was killed in the middle of, so that the next is not taken for its rest."""
        size = os.fstat(self._fd).st_size
        if size == 0:
            return
        whole = 0
        with mmap.mmap(self._fd, size, prot=mmap.PROT_READ) as data:
            while whole + _HEAD.size <= size:
                (length,) = _LENGTH.unpack_from(data, whole)
                if length < _HEAD.size or whole + length > size:
                    break
                whole += length
        if whole < size:
            os.ftruncate(self._fd, whole)
