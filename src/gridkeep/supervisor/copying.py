"""Copies a list of entries from one folder to another, sharing blocks or keeping holes where the file system can.

Knows nothing of what belongs into a copy. Never makes a hard link: a copy must not change with its source. Paths are text
with surrogate escapes, so that any bytes can be a name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

_FICLONE = 0x40049409  # _IOW(0x94, 9, int) of linux/fs.h
_CHUNK = 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_RANGE_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a copy, its path relative to the root. A link has a `target`, a folder has `is_folder`."""

    path: str
    size: int = 0
    target: str | None = None
    is_folder: bool = False


def copy_entries(source: str, dest: str, entries: Sequence[Entry]) -> list[str]:
    """Fills the existing folder `dest`; a folder comes before what it holds. Modes and times come along.

    What cannot be read is left out and named in the answer; what has gone meanwhile is left out. Raises OSError when
    there is no room.
    """
    problems = []
    for entry in entries:
        here, there = os.path.join(source, entry.path), os.path.join(dest, entry.path)
        try:
            if entry.target is not None:
                os.symlink(entry.target, there)
            elif entry.is_folder:
                os.mkdir(there, 0o700)
            else:
                copy_file(here, there)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise
            problems.append(f"{entry.path} cannot be read and is left out: {error.strerror}.")
    # Last and deepest first: a folder that may not be written can be filled, and keeps its time.
    for entry in reversed(entries):
        if entry.is_folder:
            _copy_status(os.path.join(source, entry.path), os.path.join(dest, entry.path))
    return problems


def copy_file(source: str, dest: str) -> None:
    """Content, mode and time of a regular file into a new one. Raises OSError, and leaves no file then."""
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):  # swapped for a pipe or a device since it was looked at
            raise OSError(errno.EINVAL, "Not a regular file", source)
        out = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy_content(fd, out, info)
            os.fchmod(out, stat.S_IMODE(info.st_mode) & 0o777)
            os.utime(out, ns=(info.st_atime_ns, info.st_mtime_ns))
        except BaseException:
            os.unlink(dest)
            raise
        finally:
            os.close(out)
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Removes a folder and all in it, also what may not be written; nothing happens when it is not there. A link or a file
    in its place goes, and nothing that it leads to. However deep the tree is, and however long its paths: each folder is
    brought up to the top before it is emptied."""
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(path)
            return
        if found.st_mode & 0o700 != 0o700:
            os.chmod(path, 0o700)
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        waiting = _clear(top)
        while waiting:
            with suppress(FileNotFoundError):  # another removes it, too
                waiting += _remove_folder(top, waiting.pop())
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        os.rmdir(path)


def _remove_folder(top: int, name: str) -> list[str]:
    """One folder of the top; gives the names that the folders in it have there now."""
    folder = os.open(name, _FOLDER, dir_fd=top)
    brought: list[str] = []
    try:
        for inner in _clear(folder):
            brought.append(os.urandom(12).hex())
            os.rename(inner, brought[-1], src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return brought


def _clear(folder: int) -> list[str]:
    """Removes what is no folder; gives the names of the folders, which can be entered and emptied then."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        with suppress(FileNotFoundError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            mode = os.stat(entry.name, dir_fd=folder, follow_symlinks=False).st_mode
            if mode & 0o700 != 0o700:
                os.chmod(entry.name, 0o700, dir_fd=folder)
            folders.append(entry.name)
    return folders


def _copy_status(source: str, dest: str) -> None:
    try:
        info = os.lstat(source)
        os.utime(dest, ns=(info.st_atime_ns, info.st_mtime_ns))
        os.chmod(dest, stat.S_IMODE(info.st_mode) & 0o777 | 0o500)
    except FileNotFoundError:
        pass


def _copy_content(fd: int, out: int, info: os.stat_result) -> None:
    try:
        fcntl.ioctl(out, _FICLONE, fd)
        return
    except OSError:
        pass  # another file system, or one without reflinks
    for start, end in _extents(fd, info):
        _copy_range(fd, out, start, end)
    if info.st_blocks * 512 < info.st_size:
        os.ftruncate(out, info.st_size)


def _extents(fd: int, info: os.stat_result) -> Iterator[tuple[int, int]]:
    """The parts of the file that hold data: all of it, unless it is sparse."""
    if info.st_blocks * 512 >= info.st_size:
        yield 0, info.st_size
        return
    end = 0
    while end < info.st_size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: only a hole is left
                yield end, info.st_size
            return
        yield start, min(end, info.st_size)


def _copy_range(fd: int, out: int, at: int, end: int) -> None:
    try:
        while at < end:
            copied = os.copy_file_range(fd, out, end - at, at, at)
            if not copied:
                break  # shorter than it was, or a file whose size says nothing
            at += copied
    except OSError as error:
        if error.errno not in _NO_RANGE_COPY:
            raise
    while at < end and (chunk := os.pread(fd, min(_CHUNK, end - at), at)):
        at += os.pwrite(out, chunk, at)
