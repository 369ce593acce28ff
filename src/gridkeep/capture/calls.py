"""Which system calls can create, change or remove a file, on which architecture, and the filter that traps just those.

Reads never trap; calls that need an open descriptor (write, ftruncate, mmap, …) do not either, because the open did.
Calls after which a path may lead elsewhere for who makes them trap to be noted.
Call numbers: the kernel's syscall tables (arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import os
import struct
from enum import Enum, auto
from typing import NamedTuple


class Kind(Enum):
    """What a trapped call does, whatever its number and variant."""

    OPEN = auto()
    OPENAT2 = auto()
    CREAT = auto()
    RENAME = auto()
    LINK = auto()
    UNLINK = auto()
    SYMLINK = auto()
    TRUNCATE = auto()
    MKNOD = auto()
    BY_HANDLE = auto()
    IO_URING = auto()
    WORLD = auto()  # after it a path may lead elsewhere for who made it: another root, other mounts


class Call(NamedTuple):
    """Where a call's arguments stand. -1: it has none (a path is then relative to the current folder)."""

    kind: Kind
    path: int = -1
    dirfd: int = -1
    path2: int = -1
    dirfd2: int = -1
    flags: int = -1  # of open: trap only if it can write; of the others: their own
    mode: int = -1  # of mknod: trap only regular files


X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
X32_BIT = 0x40000000

_OPEN = Call(Kind.OPEN, path=0, flags=1)
_OPENAT = Call(Kind.OPEN, dirfd=0, path=1, flags=2)
_OPENAT2 = Call(Kind.OPENAT2, dirfd=0, path=1)
_CREAT = Call(Kind.CREAT, path=0)
_RENAME = Call(Kind.RENAME, path=0, path2=1)
_RENAMEAT = Call(Kind.RENAME, dirfd=0, path=1, dirfd2=2, path2=3)
_RENAMEAT2 = Call(Kind.RENAME, dirfd=0, path=1, dirfd2=2, path2=3, flags=4)
_LINK = Call(Kind.LINK, path=0, path2=1)
_LINKAT = Call(Kind.LINK, dirfd=0, path=1, dirfd2=2, path2=3, flags=4)
_UNLINK = Call(Kind.UNLINK, path=0)
_UNLINKAT = Call(Kind.UNLINK, dirfd=0, path=1, flags=2)
_SYMLINK = Call(Kind.SYMLINK, path=1)
_SYMLINKAT = Call(Kind.SYMLINK, dirfd=1, path=2)
_TRUNCATE = Call(Kind.TRUNCATE, path=0)
_MKNOD = Call(Kind.MKNOD, path=0, mode=1)
_MKNODAT = Call(Kind.MKNOD, dirfd=0, path=1, mode=2)
_BY_HANDLE = Call(Kind.BY_HANDLE, flags=2)
_IO_URING = Call(Kind.IO_URING)
_WORLD = Call(
    Kind.WORLD
)  # chroot, pivot_root, unshare, setns, mount, umount(2), move_mount, open_tree, fsmount

# fmt: off
TABLES: dict[int, dict[int, Call]] = {
    X86_64: {
        2: _OPEN, 257: _OPENAT, 85: _CREAT, 437: _OPENAT2, 82: _RENAME, 264: _RENAMEAT, 316: _RENAMEAT2,
        86: _LINK, 265: _LINKAT, 87: _UNLINK, 263: _UNLINKAT, 88: _SYMLINK, 266: _SYMLINKAT, 76: _TRUNCATE,
        133: _MKNOD, 259: _MKNODAT, 304: _BY_HANDLE, 425: _IO_URING,
        161: _WORLD, 155: _WORLD, 272: _WORLD, 308: _WORLD, 165: _WORLD, 166: _WORLD, 429: _WORLD, 428: _WORLD, 432: _WORLD,
    },
    I386: {
        5: _OPEN, 295: _OPENAT, 8: _CREAT, 437: _OPENAT2, 38: _RENAME, 302: _RENAMEAT, 353: _RENAMEAT2,
        9: _LINK, 303: _LINKAT, 10: _UNLINK, 301: _UNLINKAT, 83: _SYMLINK, 304: _SYMLINKAT, 92: _TRUNCATE,
        193: _TRUNCATE, 14: _MKNOD, 297: _MKNODAT, 342: _BY_HANDLE, 425: _IO_URING,
        61: _WORLD, 217: _WORLD, 310: _WORLD, 346: _WORLD, 21: _WORLD, 22: _WORLD, 52: _WORLD, 429: _WORLD,
        428: _WORLD, 432: _WORLD,
    },
    AARCH64: {
        56: _OPENAT, 437: _OPENAT2, 38: _RENAMEAT, 276: _RENAMEAT2, 37: _LINKAT, 35: _UNLINKAT, 36: _SYMLINKAT,
        45: _TRUNCATE, 33: _MKNODAT, 265: _BY_HANDLE, 425: _IO_URING,
        51: _WORLD, 41: _WORLD, 97: _WORLD, 268: _WORLD, 40: _WORLD, 39: _WORLD, 429: _WORLD, 428: _WORLD, 432: _WORLD,
    },
}
# fmt: on

ARCHES = {"x86_64": (X86_64, I386), "aarch64": (AARCH64,)}

# O_RDONLY with O_TRUNC empties a file and with O_CREAT makes one: all five bits count. __O_TMPFILE alone, without
# O_DIRECTORY, which a plain listing of a folder sets too.
CAN_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54
_EQUAL = 0x15
_ANY_BIT = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_NOTIFY = 0x7FC00000
_OFFSET_NR, _OFFSET_ARCH, _OFFSET_ARGUMENT = 0, 4, 16


def lookup(arch: int, number: int) -> Call | None:
    """The call of a notification; x32's share x86_64's table."""
    return TABLES.get(arch, {}).get(number & ~X32_BIT)


def build_filter(machine: str) -> bytes:
    """The filter for this machine as an array of `struct sock_filter`. Raises KeyError for an unknown machine."""
    program = b""
    for arch in ARCHES[machine]:
        body = _arch_body(arch)
        program += _step(_LOAD, _OFFSET_ARCH)
        # Jumps reach 255 steps: a long body is left out by an unconditional one.
        program += _step(_EQUAL, arch, yes=1) + _step(0x05, len(body) // 8) + body
    return program + _step(_RETURN, _ALLOW)


def _arch_body(arch: int) -> bytes:
    body = _step(_LOAD, _OFFSET_NR)
    if arch == X86_64:
        body += _step(_AND, ~X32_BIT & 0xFFFFFFFF)
    for number, call in TABLES[arch].items():
        steps = _trap_steps(call)
        body += _step(_EQUAL, number, no=len(steps) // 8) + steps
    return body + _step(_RETURN, _ALLOW)


def _trap_steps(call: Call) -> bytes:
    if call.kind in (Kind.OPEN, Kind.BY_HANDLE):
        load = _step(_LOAD, _OFFSET_ARGUMENT + 8 * call.flags)
        return load + _step(_ANY_BIT, CAN_WRITE, no=1) + _step(_RETURN, _NOTIFY) + _step(_RETURN, _ALLOW)
    if call.kind is Kind.MKNOD:
        load = _step(_LOAD, _OFFSET_ARGUMENT + 8 * call.mode) + _step(_AND, 0o170000)
        regular = _step(_EQUAL, 0, yes=1) + _step(_EQUAL, 0o100000, no=1)
        return load + regular + _step(_RETURN, _NOTIFY) + _step(_RETURN, _ALLOW)
    return _step(_RETURN, _NOTIFY)


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
