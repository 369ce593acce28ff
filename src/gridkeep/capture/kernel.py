"""The few kernel interfaces that Python does not wrap: seccomp's user notification, prctl, reading another process's
memory.

Numbers and layouts are those of linux/seccomp.h, linux/filter.h and linux/audit.h. Knows nothing of files or journals.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import re
import struct

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_SPEC_ALLOW = 1 << 2
_WAIT_KILLABLE_RECV = 1 << 5

_IOCTL_RECV = 0xC0502100
_IOCTL_SEND = 0xC0182101
_IOCTL_ID_VALID = 0x40082102
_IOCTL_ADDFD = 0x40182103
_IOCTL_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_RESPOND_CONTINUE = 1
_ADDFD_SEND = 2

NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, thread id, flags, call number, arch, instruction, arguments
_RESPONSE = struct.Struct("=QqiI")
_ADD_FD = struct.Struct("=QIIII")
_ID = struct.Struct("=Q")

# Since 5.5 a trapped call can be let go on; since 5.9 the listener hears that the last process is gone.
_OLDEST = (5, 9)
PAGE = mmap.PAGESIZE
PATH_MAX = 4096


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, argument: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def _release() -> tuple[int, int]:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def _seccomp_number() -> int:
    return {"x86_64": 317, "aarch64": 277}[os.uname().machine]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install_filter(program: bytes) -> int:
    """Puts the calling process and all its descendants under the filter; returns the listener's descriptor.

    Without CAP_SYS_ADMIN it gives up gaining privileges by exec first, as the kernel demands. Raises OSError (EBUSY:
    there is a listener above us already; ENOSYS, EINVAL: the kernel has none).
    """
    prog = _Program(len(program) // 8, program)

    def attempt(flags: int) -> int:
        return int(_libc.syscall(_seccomp_number(), _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(prog)))

    flags = _NEW_LISTENER | _SPEC_ALLOW | _WAIT_KILLABLE_RECV
    listener = attempt(flags)
    if listener < 0 and ctypes.get_errno() == errno.EINVAL:  # Linux < 5.19 does not know WAIT_KILLABLE_RECV
        flags &= ~_WAIT_KILLABLE_RECV
        listener = attempt(flags)
    if listener < 0 and ctypes.get_errno() == errno.EACCES:  # no CAP_SYS_ADMIN
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        listener = attempt(flags)
    return _check(listener)


class Listener:
    """The supervisor's end of a filter. The receive buffer is the caller's (a writable buffer of a page or more, so
    that ioctl works in place: an id in flight is then known to whoever shares that memory)."""

    def __init__(self, fd: int, buffer: memoryview) -> None:
        self.fd = fd
        self._buffer = buffer
        self._zero = bytes(NOTIFICATION.size)
        try:
            # Wake the waiting thread on this CPU: four times faster (Linux >= 6.6).
            fcntl.ioctl(fd, _IOCTL_SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass

    def receive(self) -> tuple[int, ...] | None:
        """The next notification as (id, tid, flags, nr, arch, ip, a0 … a5); None when it is gone again."""
        self._buffer[: NOTIFICATION.size] = self._zero  # the kernel refuses a buffer that is not empty
        try:
            fcntl.ioctl(self.fd, _IOCTL_RECV, self._buffer, True)
        except (FileNotFoundError, InterruptedError):
            return None
        return NOTIFICATION.unpack_from(self._buffer)

    def in_flight(self) -> tuple[int, ...]:
        """What the buffer holds: the last notification received, by us or by the process that shared it."""
        return NOTIFICATION.unpack_from(self._buffer)

    def valid(self, notification: int) -> bool:
        """Whether the thread still waits: only then was what we read of it its own."""
        try:
            fcntl.ioctl(self.fd, _IOCTL_ID_VALID, _ID.pack(notification))
        except OSError:
            return False
        return True

    def proceed(self, notification: int) -> bool:
        """Lets the call go on. False when somebody else had answered, or the thread is gone."""
        return self._send(_RESPONSE.pack(notification, 0, 0, _RESPOND_CONTINUE))

    def refuse(self, notification: int, number: int) -> bool:
        """Lets the call fail with this errno."""
        return self._send(_RESPONSE.pack(notification, 0, -number, 0))

    def give(self, notification: int, fd: int, *, close_on_exec: bool) -> bool:
        """Answers an open with a copy of our descriptor (Linux >= 5.14)."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        try:
            fcntl.ioctl(self.fd, _IOCTL_ADDFD, _ADD_FD.pack(notification, _ADDFD_SEND, fd, 0, flags))
        except OSError:
            return False
        return True

    def _send(self, response: bytes) -> bool:
        try:
            fcntl.ioctl(self.fd, _IOCTL_SEND, response)
        except OSError:
            return False
        return True


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2 = 437  # on every architecture
_NO_MAGIC_LINKS = 2
_how = _OpenHow(0, 0, _NO_MAGIC_LINKS)
_how_size = ctypes.c_size_t(ctypes.sizeof(_OpenHow))


def open_path(folder: int, text: bytes, flags: int = 0) -> int:
    """A descriptor for looking (O_PATH) at `text`, relative to a folder; a link in the last place is not followed.
    Raises OSError; ELOOP where a link of /proc would be gone through, which for us leads elsewhere than for others."""
    _how.flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags
    return int(_check(_libc.syscall(_OPENAT2, folder, text, ctypes.byref(_how), _how_size)))


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_read_memory = _libc.process_vm_readv
_read_memory.restype = ctypes.c_ssize_t
_text = ctypes.create_string_buffer(PATH_MAX + 1)
_local = (_Iovec * 1)(_Iovec(ctypes.addressof(_text), PATH_MAX))
_remote = (_Iovec * 2)()


class BadArgument(Exception):
    """The call will fail: an address that cannot be read, or a text that does not end within PATH_MAX."""


def read_string(tid: int, address: int) -> bytes:
    """The NUL-terminated string at `address` of a thread. Raises BadArgument, or OSError (EPERM: not ours to read)."""
    first = PAGE - address % PAGE  # the next page may not be there: two pieces
    first = min(first, PATH_MAX)
    _remote[0].base, _remote[0].length = address, first
    _remote[1].base, _remote[1].length = address + first, PATH_MAX - first
    count = _read(tid, PATH_MAX, 2 if first < PATH_MAX else 1)
    _text[count] = b"\0"
    value = _text.value
    if len(value) == count:
        raise BadArgument
    return value


def read_memory(tid: int, address: int, size: int) -> bytes:
    """`size` (<= PATH_MAX) bytes at `address` of a thread. Raises BadArgument, or OSError."""
    _remote[0].base, _remote[0].length = address, size
    if _read(tid, size, 1) != size:
        raise BadArgument
    return _text.raw[:size]


def _read(tid: int, size: int, pieces: int) -> int:
    _local[0].length = size
    count = int(_read_memory(tid, _local, 1, _remote, pieces, 0))
    if count < 0 and ctypes.get_errno() == errno.EFAULT:
        raise BadArgument
    return _check(count)
