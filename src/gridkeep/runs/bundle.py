"""Source bundles: an archive (tar, with any compression, or ZIP) of the folder that a script is to start in.

A bundle comes from elsewhere and is not trusted to stay in its place or to be small: nothing of it lands outside the folder,
and unpacking ends at the limit. What a working copy would link to, and not hold, has no place in it.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from typing import IO

from gridkeep.errors import GridError
from gridkeep.settings import DOWNLOADS

_ENTRIES = 200_000
_CHUNK = 2**20
_UNWANTED = {".git", "pyvenv.cfg", "node_modules", DOWNLOADS}


def unpack(path: str, folder: str, limit: int) -> None:
    """Unpacks the archive `path` into `folder` (which is made), at most `limit` bytes. Raises GridError."""
    os.makedirs(folder, mode=0o700)
    try:
        if zipfile.is_zipfile(path):
            _unzip(path, folder, limit)
        else:
            _untar(path, folder, limit)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise GridError(
            f"The bundle cannot be unpacked: {error}.", "Make it with `tar czf bundle.tar.gz .`, or as a ZIP."
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GridError(f"The bundle cannot be unpacked: {reason}.") from None


def _untar(path: str, folder: str, limit: int) -> None:
    budget = _Budget(limit)
    with tarfile.open(path) as archive:
        for member in archive:
            budget.take(member.name, member.size if member.isreg() else 0)
            archive.extract(member, folder, set_attrs=True, filter="data")


def _unzip(path: str, folder: str, limit: int) -> None:
    budget = _Budget(limit)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            budget.take(member.filename, 0)
            target = (
                archive.extract(member, folder) if member.is_dir() else _one(archive, member, folder, budget)
            )
            if not member.is_dir() and member.external_attr >> 16 & stat.S_IXUSR:
                os.chmod(target, 0o700)


def _one(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: str, budget: _Budget) -> str:
    """A ZIP's own word for the size of what is in it is not taken."""
    names = [name for name in member.filename.split("/") if name not in ("", ".", "..")]
    if not names:
        raise GridError("The bundle holds a file without a name.")
    target = os.path.join(folder, *names)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(member) as source, open(target, "xb") as out:
        for chunk in _chunks(source):
            budget.take("", len(chunk))
            out.write(chunk)
    return target


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk


class _Budget:
    """What may still come out of an archive."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._entries = 0

    def take(self, name: str, size: int) -> None:
        """Raises GridError when it is too much, or has no place in a bundle."""
        self._bytes += size
        self._entries += bool(name)
        if self._bytes > self._limit or self._entries > _ENTRIES:
            raise GridError(
                f"The bundle holds more than {self._limit} bytes or {_ENTRIES} entries.",
                "Leave out what the run does not need.",
            )
        if unwanted := _UNWANTED & set(name.split("/")):
            raise GridError(
                f"The bundle holds {min(unwanted)}, which a run does not take along.", "Leave it out."
            )
