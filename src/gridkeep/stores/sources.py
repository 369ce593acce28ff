"""What is to be put, as a stream that is read once, in pieces of any size; and, where it is a file, the same bytes again.

Knows nothing of stores. What the stream raises is kept in `error`, so that it is not taken for the store's.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from typing import BinaryIO

CHUNK = 2**20
BLOCK = (
    2**18
)  # bytes that a slice gives at once: an HTTP client asks for so little that asking would take longer


class Shortened(Exception):
    """The file has become shorter since it was read."""


class Source:
    """A stream with a look ahead. `fd` is the regular file that it is read from, `size` that file's from where the stream
    stood; both None for any other stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""
        self.error: BaseException | None = None
        self.fd, self._base, self.size = _file_of(stream)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end. Raises what the stream raises."""
        found = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        left = size - len(found[0])
        while left and (piece := self._next(min(CHUNK, left))):
            found.append(piece)
            left -= len(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def unread(self, data: bytes) -> None:
        """Puts back what was just read."""
        self._ahead = data + self._ahead

    def skim(self, size: int) -> tuple[int, bytes]:
        """Reads `size` bytes, or to the end, without keeping them: how many there were, and their MD5."""
        digest, count = hashlib.md5(usedforsecurity=False), 0
        while count < size and (piece := self.read(min(CHUNK, size - count))):
            digest.update(piece)
            count += len(piece)
        return count, digest.digest()

    def slice(self, at: int, size: int) -> Slice:
        """The bytes that the stream gave from `at` on, again, from its file."""
        assert self.fd is not None
        return Slice(self.fd, self._base + at, size)

    def _next(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise


class Slice(io.RawIOBase):
    """A part of a file, to be read any number of times, also beside others of the same descriptor."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = fd
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At least `size` bytes, and more when that is little; fewer only at the end. Raises Shortened."""
        left = self._size - self._at
        wanted = left if size < 0 else min(max(size, BLOCK), left)
        data = os.pread(self._fd, wanted, self._start + self._at)
        if wanted and not data:
            raise Shortened("Shortened")  # the text survives what botocore makes of it
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _file_of(stream: BinaryIO) -> tuple[int | None, int, int | None]:
    try:
        fd, base = stream.fileno(), stream.tell()
        found = os.fstat(fd)
    except (OSError, AttributeError):
        return None, 0, None
    return (fd, base, found.st_size - base) if stat.S_ISREG(found.st_mode) else (None, 0, None)
