"""From what a thread passed to a system call (a folder's descriptor, some text) to one canonical path and what is there now.

Everything is looked up through the thread's own eyes: its current folder, its descriptors, its root. Knows nothing of
notifications or records.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from gridkeep.capture.journal import ABSENT, Stamp

AT_FDCWD = -100
_LINKS_MAX = 40  # as the kernel's
_SELF = re.compile(rb"/+proc/+(self|thread-self)(?=/|$)")
_OWN_DEVICES = re.compile(rb"/+dev/+(?:fd/+(\d+)|(stdin|stdout|stderr))$")
_STANDARD = {b"stdin": b"0", b"stdout": b"1", b"stderr": b"2"}


class NoTarget(Exception):
    """Nothing to record: the parent folder is not there (the call will fail), or it is no place for files."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call leads: the canonical path, and what is there (ABSENT when nothing is)."""

    path: bytes
    stamp: Stamp


class Resolver:
    """Looks paths up for any thread of the captured tree. Raises NoTarget, or OSError when it may not look
    (PermissionError: a process that nobody may inspect; ENAMETOOLONG: a path over PATH_MAX)."""

    def __init__(self) -> None:
        self._proc = os.stat("/proc").st_dev
        self._skipped = {self._proc}
        try:
            self._skipped.add(os.stat("/sys").st_dev)
        except OSError:
            pass
        self._root = _identity(os.stat("/"))
        self._users = os.stat("/proc/self/ns/user").st_ino
        self._mounts = os.stat("/proc/self/ns/mnt").st_ino

    def resolve(self, tid: int, dirfd: int, text: bytes, *, follow: bool) -> Target:
        """`follow`: whether the call follows a symbolic link in the last place."""
        for _ in range(_LINKS_MAX):
            text = _through_its_eyes(tid, text)
            base = self._base(tid, dirfd, text)
            # An absolute path in a root that is not ours is relative to that root.
            within = text if base is None else text.lstrip(b"/") or b"."[: len(text)]
            try:
                found = self._look(tid, base, within, follow)
            finally:
                if base is not None:
                    os.close(base)
            if isinstance(found, Target):
                return found
            text = found if found.startswith(b"/") else os.path.join(os.path.dirname(text), found)
        raise NoTarget

    def _base(self, tid: int, dirfd: int, text: bytes) -> int | None:
        """A new descriptor of the folder that `text` is relative to; None when our own root will do."""
        try:
            if text.startswith(b"/"):
                if self._sees_our_root(tid):
                    return None
                place = b"/proc/%d/root" % tid
            elif dirfd == AT_FDCWD:
                place = b"/proc/%d/cwd" % tid
            else:
                place = b"/proc/%d/fd/%d" % (tid, dirfd)
            return os.open(place, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoTarget from None  # a bad descriptor: the call will fail; or the thread is gone

    def _sees_our_root(self, tid: int) -> bool:
        return (
            _identity(os.stat(b"/proc/%d/root" % tid)) == self._root
            and os.stat(b"/proc/%d/ns/mnt" % tid).st_ino == self._mounts
        )

    def _fault(self, tid: int, error: OSError) -> Exception:
        """What a failed look-up means: the thread's own call will fail the same way, unless it may pass where we may not."""
        if isinstance(error, PermissionError) and os.stat(b"/proc/%d/ns/user" % tid).st_ino != self._users:
            return error
        return NoTarget()

    def _look(self, tid: int, base: int | None, text: bytes, follow: bool) -> Target | bytes:
        """The target, or what a symbolic link in the last place says."""
        flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(text, flags, dir_fd=base)
        except FileNotFoundError:
            return self._absent(tid, base, text)
        except OSError as error:
            raise self._fault(tid, error) from None
        try:
            st = os.fstat(fd)
            if stat.S_ISLNK(st.st_mode) and follow:
                if st.st_dev != self._proc:
                    return os.readlink(b"", dir_fd=fd)
                # /proc's links are doors, not texts: go through.
                os.close(fd)
                fd = os.open(text, os.O_PATH | os.O_CLOEXEC, dir_fd=base)
                st = os.fstat(fd)
            if st.st_dev in self._skipped or st.st_nlink == 0:
                raise NoTarget
            return Target(_path_of(fd), Stamp.of(st))
        finally:
            os.close(fd)

    def _absent(self, tid: int, base: int | None, text: bytes) -> Target:
        """Nothing there: the canonical path of the parent, and the last name."""
        parent, name = os.path.split(text.rstrip(b"/"))
        if name in (b"", b".", b".."):
            raise NoTarget
        try:
            fd = os.open(parent or b".", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY, dir_fd=base)
        except OSError as error:
            raise self._fault(tid, error) from None
        try:
            st = os.fstat(fd)
            if st.st_dev in self._skipped or st.st_nlink == 0:
                raise NoTarget
            return Target(os.path.join(_path_of(fd), name), ABSENT)
        finally:
            os.close(fd)


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


def _through_its_eyes(tid: int, text: bytes) -> bytes:
    """/proc/self and /dev/stdout would mean us: name the thread's own."""
    if not text.startswith((b"/proc", b"/dev", b"//")):
        return text
    if match := _OWN_DEVICES.match(text):
        number = match[1] or _STANDARD[match[2]]
        return b"/proc/%d/fd/%s" % (thread_group(tid), number)
    if match := _SELF.match(text):
        own = thread_group(tid) if match[1] == b"self" else tid
        return b"/proc/%d%s" % (own, text[match.end() :])
    return text


def _identity(st: os.stat_result) -> tuple[int, int]:
    return st.st_dev, st.st_ino


def _path_of(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)
