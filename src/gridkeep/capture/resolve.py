"""From what a thread passed to a system call (a folder, some text) to one canonical path and what is there now.

Everything is looked up through the thread's own eyes: its current folder, its descriptors, its root, its /proc/self.
Knows nothing of notifications or records.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from gridkeep.capture.journal import ABSENT, Stamp
from gridkeep.capture.kernel import open_path

AT_FDCWD = -100
_LINKS_MAX = 40  # as the kernel's
_TRIES = 50  # of looking again at what others remove while we look
_LOOK = os.O_PATH | os.O_CLOEXEC
_NO_NAMES = (b"", b".", b"..")
_DELETED = b" (deleted)"
_PROC_ROOT = 1  # inode of /proc itself: its links are texts, those below are doors
# What a look-up of ours fails with, the thread's own call will fail with too.
_ALIKE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)


class NoTarget(Exception):
    """Nothing to record: the parent folder is not there (the call will fail), or it is no place for files."""


class _Vanished(Exception):
    """What was found has been removed before we could name it: its place has to be looked at again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call leads: the canonical path, and what is there (ABSENT when nothing is)."""

    path: bytes
    stamp: Stamp


class Resolver:
    """Looks paths up for any thread of the captured tree. Raises NoTarget, or OSError when it may not look
    (PermissionError: a process that nobody may inspect) or has no name for what it sees (EOVERFLOW: a path over
    PATH_MAX; EXDEV: a mount namespace of the process's own)."""

    def __init__(self) -> None:
        self._proc = os.stat("/proc").st_dev
        self._skipped = {self._proc}
        try:
            self._skipped.add(os.stat("/sys").st_dev)
        except OSError:
            pass
        self._own_fds = os.open("/proc/self/fd", _LOOK)
        self._tid, self._thread = 0, -1  # the last one that was looked at, and its folder in /proc
        self._root = _identity(os.stat("/"))
        self._users = os.stat("/proc/self/ns/user").st_ino
        self._mounts = os.stat("/proc/self/ns/mnt").st_ino

    def close(self) -> None:
        """Gives its descriptors back."""
        for fd in (self._own_fds, self._thread):
            if fd >= 0:
                os.close(fd)
        self._own_fds = self._thread = -1

    def resolve(self, tid: int, dirfd: int, text: bytes, *, follow: bool, in_root: bool = False) -> Target:
        """`follow`: whether the call follows a symbolic link in the last place; `in_root`: whether the folder is to be
        its root (openat2's RESOLVE_IN_ROOT)."""
        thread, mounts = self._world_of(tid)
        same_mounts = mounts == self._mounts
        ours = same_mounts and not in_root and _identity(os.stat("root", dir_fd=thread)) == self._root
        for _ in range(_TRIES if text else 0):
            try:
                if ours and (found := self._at_once(thread, dirfd, text, follow)):
                    return found
                with _Walk(tid, dirfd, self._proc, from_root=text.startswith(b"/"), in_root=in_root) as walk:
                    return self._at_the_end(walk, walk.go(text, follow), same_mounts)
            except _Vanished:
                continue
            except OSError as error:
                if error.errno in _ALIKE and (error.errno != errno.EACCES or self._same_rights(tid)):
                    raise NoTarget from None
                raise
        raise NoTarget

    def _world_of(self, tid: int) -> tuple[int, int]:
        """The thread's folder in /proc, and its mount namespace. The folder is kept open, for mostly the same thread comes
        again; once that is gone nothing is found there, also when another has got its number."""
        if tid == self._tid:
            try:
                return self._thread, os.stat("ns/mnt", dir_fd=self._thread).st_ino
            except OSError:
                pass
        folder = os.open(b"/proc/%d" % tid, _LOOK)
        if self._thread >= 0:
            os.close(self._thread)
        self._tid, self._thread = tid, folder
        return folder, os.stat("ns/mnt", dir_fd=folder).st_ino

    def _at_once(self, thread: int, dirfd: int, text: bytes, follow: bool) -> Target | None:
        """By the kernel's own look-up; None when there is anything on the way that has to be walked to."""
        parent, slash, name = text.rpartition(b"/")
        if name in _NO_NAMES:
            return None
        opened: list[int] = []
        try:
            folder = AT_FDCWD
            if not text.startswith(b"/"):
                folder = os.open("cwd" if dirfd == AT_FDCWD else f"fd/{dirfd}", _LOOK, dir_fd=thread)
                opened.append(folder)
            if slash:
                folder = open_path(folder, parent + slash, os.O_DIRECTORY)
                opened.append(folder)
            return self._in_folder(folder, name, follow)
        except OSError:
            return None
        finally:
            for fd in opened:
                os.close(fd)

    def _in_folder(self, folder: int, name: bytes, follow: bool) -> Target | None:
        """What is called so there, or a name for something new. Raises _Vanished, OSError."""
        stamp = ABSENT
        try:
            st = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if follow and stat.S_ISLNK(st.st_mode):
                return None
            stamp = Stamp.of(st)
        except FileNotFoundError:
            st = os.fstat(folder)
        if st.st_dev in self._skipped:
            return None
        path = os.readlink(b"%d" % folder, dir_fd=self._own_fds)
        if path.endswith(_DELETED) and not _leads_to(path, os.fstat(folder)):
            raise _Vanished
        return Target(os.path.join(path, name), stamp)

    def _at_the_end(self, walk: _Walk, name: bytes, same_mounts: bool) -> Target:
        st = os.fstat(walk.here)
        if st.st_dev in self._skipped or (walk.by_door and st.st_nlink == 0):
            raise NoTarget  # no place for files; or a file that has no name any more, opened once again
        target = _target(walk.here, st, name)
        if not same_mounts and not _leads_to(os.path.dirname(target.path) if name else target.path, st):
            raise OSError(errno.EXDEV, "in a mount namespace of its own")
        return target

    def _same_rights(self, tid: int) -> bool:
        """Whether the thread is not let in either where we are not: a user namespace of its own may give it more."""
        return os.stat(b"/proc/%d/ns/user" % tid).st_ino == self._users


class _Walk:
    """A thread's way to a file, name by name, as the kernel goes it for that thread. `here`: a descriptor of where it
    stands."""

    def __init__(self, tid: int, dirfd: int, proc: int, *, from_root: bool, in_root: bool) -> None:
        self._tid = tid
        self._proc = proc
        self._root = _open_base(tid, dirfd) if in_root else os.open(b"/proc/%d/root" % tid, _LOOK)
        try:
            self.here = os.dup(self._root) if from_root or in_root else _open_base(tid, dirfd)
        except OSError:
            os.close(self._root)
            raise
        self.by_door = False  # `here` was reached through a link of /proc, not by a name of its own

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.here)
        os.close(self._root)

    def go(self, text: bytes, follow: bool) -> bytes:
        """Goes where the text leads. Returns its last name when there is nothing of that name `here`. Raises NoTarget,
        OSError."""
        rest = text.split(b"/")[::-1]
        links = 0
        while rest:
            name = rest.pop()
            if name in (b"", b".") or (name == b".." and self._at_root()):
                continue
            try:
                below = os.open(name, _LOOK | os.O_NOFOLLOW, dir_fd=self.here)
            except FileNotFoundError:
                if any(rest) or name == b"..":
                    raise NoTarget from None
                return name
            if (rest or follow) and stat.S_ISLNK(os.fstat(below).st_mode):
                links += 1
                if links > _LINKS_MAX:
                    os.close(below)
                    raise NoTarget
                rest += self._behind(name, below)
            else:
                self._move(below)
        return b""

    def _behind(self, name: bytes, link: int) -> list[bytes]:
        """The names, last first, that a symbolic link says; none of a door of /proc, which is gone through."""
        try:
            in_proc = os.fstat(link).st_dev == self._proc
            if in_proc and os.fstat(self.here).st_ino != _PROC_ROOT:
                self._move(os.open(name, _LOOK, dir_fd=self.here), by_door=True)
                return []
            if in_proc and name in (b"self", b"thread-self"):
                group = b"%d" % thread_group(self._tid)
                return [group] if name == b"self" else [b"%d" % self._tid, b"task", group]
            text = os.readlink(b"", dir_fd=link)
        finally:
            os.close(link)
        if text.startswith(b"/"):
            self._move(os.dup(self._root))
        return text.split(b"/")[::-1]

    def _move(self, fd: int, *, by_door: bool = False) -> None:
        os.close(self.here)
        self.here, self.by_door = fd, by_door

    def _at_root(self) -> bool:
        return _identity(os.fstat(self.here)) == _identity(os.fstat(self._root))


def thread_group(tid: int) -> int:
    """The process of a thread (its leader's id)."""
    with open(f"/proc/{tid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Tgid:"):
                return int(line[5:])
    return tid


def program_name(tid: int) -> bytes:
    """What the kernel calls the thread's program, for people."""
    try:
        with open(f"/proc/{tid}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b"?"


def _open_base(tid: int, dirfd: int) -> int:
    """A new descriptor of the folder that a thread's paths are relative to."""
    place = b"/proc/%d/cwd" % tid if dirfd == AT_FDCWD else b"/proc/%d/fd/%d" % (tid, dirfd)
    return os.open(place, _LOOK)


def _target(fd: int, st: os.stat_result, name: bytes) -> Target:
    """What the descriptor shows, or `name` in that folder, which is not there. Raises _Vanished."""
    try:
        path = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError as error:
        raise OSError(errno.EOVERFLOW, "its path is over PATH_MAX") from error
    if st.st_nlink == 0 or (path.endswith(_DELETED) and not _leads_to(path, st)):
        raise _Vanished
    return Target(os.path.join(path, name), ABSENT) if name else Target(path, Stamp.of(st))


def _leads_to(path: bytes, st: os.stat_result) -> bool:
    """Whether we see under this path what the thread sees."""
    try:
        return _identity(os.lstat(path)) == _identity(st)
    except OSError:
        return False


def _identity(st: os.stat_result) -> tuple[int, int]:
    return st.st_dev, st.st_ino
