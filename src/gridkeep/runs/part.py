"""A part: a large file on its way, which a later download goes on with, however this one ended.

Beside its bytes there is a sidecar in the workshop: of which version it is a part, and which spans it lacks, as bytes lie
there before their turn. A note of it is written after the bytes that it speaks of. The death of a process leaves it true;
that of the machine may not, and then the proof finds holes and the part begins anew. Knows neither catalog nor store.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gridkeep.model import Artifact
from gridkeep.runs.filling import Beat, Fetch, Mismatch, Span, fill, write
from gridkeep.terminal import printable

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted pipe must not hold us
_NOTE_BYTES = 4096  # always so many: a shorter note leaves nothing of a longer one

_serial = itertools.count()

Place = tuple[int, bytes]  # a folder's descriptor, a name in it


class Refused(Exception):
    """This file cannot be put where it belongs; the words say why."""


class Part:
    """Opened, and locked for this process. Use it as a context manager: on leaving with an error it is kept if anybody can
    go on with it."""

    def __init__(self, workshop: int, place: Place, sidecar: bytes, artifact: Artifact) -> None:
        """Raises Refused, OSError."""
        self._workshop, self._artifact = workshop, artifact
        self._size = artifact.size or 0
        self._missing: Sequence[Span] = [(0, self._size)]
        self._place = place
        self._sidecar: bytes | None = sidecar
        self._note = -1  # the sidecar, open
        file = _locked(*place)
        if file is None:  # another download is at it: make a part of our own, that nobody goes on with
            self._place, self._sidecar = (workshop, temporary_name()), None
            self.file = os.open(self._place[1], NEW, 0o666, dir_fd=workshop)
            return
        self.file = file
        try:
            found, has = self._noted(sidecar), os.fstat(file).st_size
            if found is not None and has <= self._size:
                self._missing = found
            elif has:
                # An empty one is not cut: ext4 writes all of a file that was to the disk when it is closed.
                os.ftruncate(file, 0)
            self._begin_note(sidecar)
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def __enter__(self) -> Part:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None and (self._sidecar is None or not os.fstat(self.file).st_size):
            _remove(*self._place)
            self._remove_sidecar()
        for descriptor in (self.file, self._note):
            if descriptor >= 0:
                os.close(descriptor)

    def complete(self, lanes: int, fetch: Fetch, beat: Beat) -> None:
        """Gets what it lacks, and proves it. Raises Mismatch (then it is empty), OSError, and what `fetch` and `beat`
        raise."""
        whole = [(0, self._size)]
        while True:
            fresh = list(self._missing) == whole
            beat(self._have())
            try:
                proven = fill(self.file, self._size, self._missing, lanes, fetch, beat, self._keep)
                if proven == self._artifact.sha256 and os.fstat(self.file).st_size == self._size:
                    return
            except Mismatch:
                pass
            beat(-self._have())
            os.ftruncate(self.file, 0)
            self._keep(whole)
            if fresh:
                raise Mismatch
            # A part that a power cut left with holes, or of a version that was overwritten: once more from the start.

    def rename(self, place: Place) -> None:
        """Gives it its name."""
        os.rename(self._place[1], place[1], src_dir_fd=self._place[0], dst_dir_fd=place[0])
        self._remove_sidecar()

    def _have(self) -> int:
        return self._size - sum(stop - at for at, stop in self._missing)

    # ---------------------------------------------------------------------------------------------------- the sidecar

    def _noted(self, sidecar: bytes) -> list[Span] | None:
        """Which spans the part lacks of this very version; None when it is of another, or nobody knows."""
        try:
            with open(os.open(sidecar, _NOTE, dir_fd=self._workshop), "rb") as file:
                found = json.loads(file.read(_NOTE_BYTES))
            if (found["sha256"], found["size"]) == (self._artifact.sha256, self._size):
                return _spans(found["missing"], self._size)
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None

    def _begin_note(self, sidecar: bytes) -> None:
        """In a file of our own, whatever was planted under its name."""
        temporary = temporary_name()
        self._note = os.open(temporary, NEW, 0o600, dir_fd=self._workshop)
        try:
            self._keep(self._missing)
            os.rename(temporary, sidecar, src_dir_fd=self._workshop, dst_dir_fd=self._workshop)
        except BaseException:
            _remove(self._workshop, temporary)
            raise

    def _keep(self, missing: Sequence[Span]) -> None:
        self._missing = missing
        if self._note >= 0:
            note = {"sha256": self._artifact.sha256, "size": self._size, "missing": missing}
            write(self._note, json.dumps(note).encode().ljust(_NOTE_BYTES))

    def _remove_sidecar(self) -> None:
        if self._sidecar is not None:
            _remove(self._workshop, self._sidecar)


def part_name(name: bytes) -> bytes | None:
    """`NAME.partial`, or None where that is too long for a file's name."""
    part = name + b".partial"
    return part if len(part) <= 255 else None


def temporary_name() -> bytes:
    """That no other file of a workshop has."""
    return b"%d-%d.tmp" % (os.getpid(), next(_serial))


def _spans(value: Any, size: int) -> list[Span]:
    """Raises ValueError, TypeError for what are no spans of so many bytes, in order."""
    spans = [(int(at), int(stop)) for at, stop in value]
    ends = [0, *(end for span in spans for end in span), size]
    if ends != sorted(ends) or any(at == stop for at, stop in spans):
        raise ValueError
    return spans


def _locked(folder: int, name: bytes) -> int | None:
    """The part, opened and locked for this process, or None when another has it."""
    while True:
        file = os.open(name, _PART, 0o666, dir_fd=folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(file)
            if not stat.S_ISREG(mine.st_mode):
                raise Refused(f"{printable(name)} is in the way, and is no file")
            named = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass  # the other finished and renamed it: ask again
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _remove(folder: int, name: bytes) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)
