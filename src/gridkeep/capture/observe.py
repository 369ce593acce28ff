"""One notification to journal records: read what the call names, resolve it, note what was there, say how to answer.

It only observes: whatever goes wrong here, the call goes on. It is no security boundary.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from gridkeep.capture.calls import CAN_WRITE, Call, Kind, lookup
from gridkeep.capture.journal import ABSENT, EXCHANGE, Op, Record, Stamp
from gridkeep.capture.kernel import BadArgument, read_memory, read_string
from gridkeep.capture.resolve import AT_FDCWD, NoTarget, Resolver, Target, program_name

_OPEN_HOW = struct.Struct("=QQQ")  # flags, mode, resolve
_RESOLVE_IN_ROOT = 0x10
_RENAME_EXCHANGE = 2
_AT_SYMLINK_FOLLOW = 0x400
_AT_EMPTY_PATH = 0x1000
_AT_REMOVEDIR = 0x200
_IN_ROOT = 1 << 40  # ours, above any flag of the kernel's
_OPENS = (Kind.OPEN, Kind.OPENAT2, Kind.CREAT)
_OPS = {
    Kind.OPEN: Op.OPEN,
    Kind.OPENAT2: Op.OPEN,
    Kind.CREAT: Op.OPEN,
    Kind.TRUNCATE: Op.TRUNCATE,
    Kind.UNLINK: Op.UNLINK,
    Kind.RENAME: Op.RENAME,
    Kind.LINK: Op.LINK,
    Kind.SYMLINK: Op.SYMLINK,
    Kind.MKNOD: Op.MKNOD,
}


@dataclass(slots=True)
class Seen:
    """What a notification came to: at most one record, and what to answer if not "go on"."""

    record: Record | None = None
    gone: bool = False  # its thread waits no more: nothing could be learnt
    refuse: bool = False  # io_uring: ENOSYS, so that programs fall back to calls that can be seen
    output: int | None = None  # an open of the run's own output log: the access mode asked for
    close_on_exec: bool = False


class Observer:
    """Turns notifications into `Seen`. `output` is the stamp of the output log: who opens it by name (as
    `> /dev/stderr`) must not truncate it. `valid` tells whether a notification's thread still waits."""

    def __init__(self, output: Stamp, valid: Callable[[int], bool]) -> None:
        self._resolver = Resolver()
        self._output = output
        self._valid = valid

    def look(self, notification: tuple[int, ...]) -> Seen:
        """What cannot be learnt becomes a LOST record."""
        identity, tid, _, number, arch, _, *arguments = notification
        call = lookup(arch, number)
        if call is None:
            return Seen()
        if call.kind is Kind.WORLD:
            return Seen()  # we look through each thread's eyes anyhow
        if call.kind is Kind.IO_URING:
            return Seen(refuse=True)
        text = b""
        try:
            if call.kind is Kind.BY_HANDLE:
                raise OSError(0, "opened by handle")
            flags = self._flags(call, tid, arguments)
            if call.kind in _OPENS and (flags & os.O_PATH or not flags & CAN_WRITE):
                return Seen()
            text = read_string(tid, arguments[call.path])
            second = read_string(tid, arguments[call.path2]) if call.path2 >= 0 else None
            if not self._valid(identity):
                return Seen(gone=True)
            if second is not None:
                return self._two_paths(call, tid, flags, arguments, text, second)
            return self._one_path(call, tid, flags, arguments, text)
        except NoTarget:
            return Seen()
        except BadArgument:
            return Seen(gone=not self._valid(identity))
        except OSError as error:
            if isinstance(error, (FileNotFoundError, ProcessLookupError)) or not self._valid(identity):
                return Seen(gone=True)
            known = b"%s of %s: %s" % (
                call.kind.name.lower().encode(),
                program_name(tid),
                text or b"unknown path",
            )
            reason = (error.strerror or "cannot be learnt").encode()
            path = known + b" (" + reason + b")"
            return Seen(Record(Op.LOST, tid, 0, time.time_ns(), ((path, ABSENT),)))

    def _flags(self, call: Call, tid: int, arguments: list[int]) -> int:
        if call.kind is Kind.CREAT:
            return os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        if call.kind is Kind.OPENAT2:
            flags, _, resolve = _OPEN_HOW.unpack(read_memory(tid, arguments[2], _OPEN_HOW.size))
            return int(flags) | (_IN_ROOT if resolve & _RESOLVE_IN_ROOT else 0)
        return arguments[call.flags] & 0xFFFFFFFF if call.flags >= 0 else 0

    def _one_path(self, call: Call, tid: int, flags: int, arguments: list[int], text: bytes) -> Seen:
        if call.kind is Kind.UNLINK and flags & _AT_REMOVEDIR:
            return Seen()
        if call.kind in _OPENS and flags & os.O_TMPFILE == os.O_TMPFILE:
            return Seen()  # nameless until it is linked
        folder, follow = _folder(arguments, call.dirfd), _follows(call.kind, flags)
        target = self._resolver.resolve(tid, folder, text, follow=follow, in_root=bool(flags & _IN_ROOT))
        if call.kind in _OPENS or call.kind is Kind.TRUNCATE:
            if target.stamp.exists and not target.stamp.regular:
                return Seen()
            if target.stamp.same_file(self._output) and call.kind in _OPENS:
                return Seen(output=flags & os.O_ACCMODE, close_on_exec=bool(flags & os.O_CLOEXEC))
        elif call.kind is Kind.UNLINK and stat.S_ISDIR(target.stamp.mode):
            return Seen()
        return Seen(self._record(call, tid, flags, target))

    def _two_paths(
        self, call: Call, tid: int, flags: int, arguments: list[int], text: bytes, second: bytes
    ) -> Seen:
        follow = call.kind is Kind.LINK and bool(flags & _AT_SYMLINK_FOLLOW)
        try:
            if call.kind is Kind.LINK and flags & _AT_EMPTY_PATH and not text:
                text, follow = b"/proc/self/fd/%d" % _folder(arguments, call.dirfd), True
            old = self._resolver.resolve(tid, _folder(arguments, call.dirfd), text, follow=follow)
        except NoTarget:
            if call.kind is not Kind.LINK:
                raise
            old = Target(b"", ABSENT)  # a nameless file (O_TMPFILE) gets its first name
        new = self._resolver.resolve(tid, _folder(arguments, call.dirfd2), second, follow=False)
        marks = EXCHANGE if call.kind is Kind.RENAME and flags & _RENAME_EXCHANGE else 0
        return Seen(self._record(call, tid, flags, old, new, marks=marks))

    def _record(self, call: Call, tid: int, flags: int, *targets: Target, marks: int = 0) -> Record:
        paths = tuple((target.path, target.stamp) for target in targets)
        return Record(_OPS[call.kind], tid, flags & 0xFFFFFFFF, time.time_ns(), paths, marks)


def _folder(arguments: list[int], index: int) -> int:
    """The descriptor that a path is relative to: a C int, though the register has 64 bits."""
    if index < 0:
        return AT_FDCWD
    value = arguments[index] & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def _follows(kind: Kind, flags: int) -> bool:
    """Whether the call follows a symbolic link in the last place."""
    if kind in _OPENS:
        exclusive = flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        return not (flags & os.O_NOFOLLOW or exclusive)
    return kind is Kind.TRUNCATE
