"""The journal of one large upload: what a process that comes after must know to send only what is missing.

A JSON line for the upload, then one for each part that the store has confirmed, each on the disk before the next step.
Knows nothing of stores.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of which file is sent where: only the very same may be gone on with."""

    path: str
    size: int
    mtime_ns: int
    ino: int

    @classmethod
    def of(cls, path: str, fd: int) -> Self:
        found = os.fstat(fd)
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was begun: its parts by number, each with its etag and the MD5 of its bytes."""

    version: Version
    upload_id: str
    part_size: int
    parts: dict[int, tuple[str, bytes]]


class UploadJournal:
    """The journal in the file `path`. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._lock = threading.Lock()

    def read(self) -> Begun | None:
        """What it holds; None when there is none or its first line is not whole. A line that is not whole is left out."""
        try:
            with open(self._path, "rb") as file:
                first, *lines = file.read().splitlines()
            head = json.loads(first)
            version = Version(**head["version"])
            begun = Begun(version, head["upload_id"], head["part_size"], {})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                part = json.loads(line)
                begun.parts[int(part["part"])] = part["etag"], bytes.fromhex(part["md5"])
        return begun

    def begin(self, version: Version, upload_id: str, part_size: int) -> None:
        """Begins it anew, durably."""
        folder = os.path.dirname(self._path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary = f"{self._path}.new"
        self._fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._write({"version": asdict(version), "upload_id": upload_id, "part_size": part_size})
        os.rename(temporary, self._path)
        above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)

    def go_on(self) -> None:
        """Further parts are added to what is there."""
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.write(self._fd, b"\n")  # ends a line that is not whole

    def add(self, number: int, etag: str, md5: bytes) -> None:
        """Notes, durably, that the store has a part."""
        with self._lock:
            self._write({"part": number, "etag": etag, "md5": md5.hex()})

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """There is nothing to go on with any more."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _write(self, entry: dict[str, object]) -> None:
        assert self._fd is not None
        os.write(self._fd, json.dumps(entry).encode() + b"\n")
        os.fsync(self._fd)
