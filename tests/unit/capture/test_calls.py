"""The filter, run on every call by a BPF machine of our own: all that writes traps, no read does; the tables against the
kernel's headers."""

from __future__ import annotations

import itertools
import os
import re
import stat
from pathlib import Path

import pytest

from gridkeep.capture.calls import (
    AARCH64,
    ARCHES,
    I386,
    TABLES,
    X32_BIT,
    X86_64,
    Call,
    Kind,
    build_filter,
    lookup,
)
from tests.unit.capture.bpf import ALLOW, NOTIFY, run

AT_FDCWD = -100
TMPFILE = 0o20000000
WRITING = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, TMPFILE)
HARMLESS = (
    os.O_APPEND,
    os.O_NONBLOCK,
    os.O_CLOEXEC,
    os.O_DIRECTORY,
    os.O_NOFOLLOW,
    os.O_NOCTTY,
    os.O_EXCL,
    os.O_SYNC,
    os.O_PATH,
    os.O_NOATIME,
)

# From the manuals (section 2), not from our tables: where the arguments of the calls stand.
SIGNATURES = {
    "open": Call(Kind.OPEN, path=0, flags=1),
    "openat": Call(Kind.OPEN, dirfd=0, path=1, flags=2),
    "creat": Call(Kind.CREAT, path=0),
    "openat2": Call(Kind.OPENAT2, dirfd=0, path=1),
    "rename": Call(Kind.RENAME, path=0, path2=1),
    "renameat": Call(Kind.RENAME, dirfd=0, path=1, dirfd2=2, path2=3),
    "renameat2": Call(Kind.RENAME, dirfd=0, path=1, dirfd2=2, path2=3, flags=4),
    "link": Call(Kind.LINK, path=0, path2=1),
    "linkat": Call(Kind.LINK, dirfd=0, path=1, dirfd2=2, path2=3, flags=4),
    "unlink": Call(Kind.UNLINK, path=0),
    "unlinkat": Call(Kind.UNLINK, dirfd=0, path=1, flags=2),
    "symlink": Call(Kind.SYMLINK, path=1),
    "symlinkat": Call(Kind.SYMLINK, dirfd=1, path=2),
    "truncate": Call(Kind.TRUNCATE, path=0),
    "truncate64": Call(Kind.TRUNCATE, path=0),
    "mknod": Call(Kind.MKNOD, path=0, mode=1),
    "mknodat": Call(Kind.MKNOD, dirfd=0, path=1, mode=2),
    "open_by_handle_at": Call(Kind.BY_HANDLE, flags=2),
    "io_uring_setup": Call(Kind.IO_URING),
    "chroot": Call(Kind.WORLD),
    "pivot_root": Call(Kind.WORLD),
    "unshare": Call(Kind.WORLD),
    "setns": Call(Kind.WORLD),
    "mount": Call(Kind.WORLD),
    "umount": Call(Kind.WORLD),
    "umount2": Call(Kind.WORLD),
    "move_mount": Call(Kind.WORLD),
    "open_tree": Call(Kind.WORLD),
    "fsmount": Call(Kind.WORLD),
}
BY_FLAGS = ("open", "openat", "open_by_handle_at")
BY_MODE = ("mknod", "mknodat")

HEADERS = {
    X86_64: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    I386: Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
    AARCH64: Path("/usr/include/asm-generic/unistd.h"),
}
NAMES = {X86_64: "x86_64", I386: "i386", AARCH64: "aarch64"}
MACHINE = {X86_64: "x86_64", I386: "x86_64", AARCH64: "aarch64"}
arches = pytest.mark.parametrize("arch", TABLES, ids=NAMES.get)


def numbers(arch: int) -> dict[str, int]:
    """The kernel's own names and numbers."""
    if not HEADERS[arch].exists():
        pytest.skip(f"no kernel headers of {NAMES[arch]} here")
    pattern = r"^#define (?:__NR_|__NR3264_)(\w+)\s+(\d+)$"
    return {name: int(value) for name, value in re.findall(pattern, HEADERS[arch].read_text(), re.M)}


def expected(arch: int) -> dict[str, int]:
    """The trapped calls that this architecture has."""
    old = {"open", "creat", "rename", "link", "unlink", "symlink", "mknod", "truncate64"}
    names = numbers(arch)
    leave_out = old if arch == AARCH64 else set() if arch == I386 else {"truncate64"}
    return {name: names[name] for name in SIGNATURES if name in names and name not in leave_out}


@arches
def test_the_table_is_the_kernels(arch):
    assert set(expected(arch).values()) == set(TABLES[arch])
    for name, number in expected(arch).items():
        assert TABLES[arch][number] == SIGNATURES[name], name


@arches
def test_every_call_that_can_write_traps(arch):
    program = build_filter(MACHINE[arch])
    for name, number in expected(arch).items():
        if name in BY_FLAGS + BY_MODE:
            continue
        assert run(program, number, arch) == NOTIFY, name


@arches
def test_an_open_traps_if_one_of_its_flags_can_write(arch):
    program, calls = build_filter(MACHINE[arch]), expected(arch)
    for name in BY_FLAGS:
        if name not in calls:
            continue
        place = SIGNATURES[name].flags
        for harmless in (0, *HARMLESS, sum(HARMLESS)):
            assert run(program, calls[name], arch, argument(place, harmless)) == ALLOW, (name, oct(harmless))
            for size in range(1, len(WRITING) + 1):
                for bits in itertools.combinations(WRITING, size):
                    flags = harmless | sum(bits)
                    assert run(program, calls[name], arch, argument(place, flags)) == NOTIFY, (
                        name,
                        oct(flags),
                    )


@arches
def test_only_the_low_half_of_the_flags_counts(arch):
    """An int is passed: what stands in the rest of the register is noise, and a folder's descriptor may be negative."""
    program, calls = build_filter(MACHINE[arch]), expected(arch)
    place = SIGNATURES["openat"].flags
    noise = 0xFFFFFFFF << 32
    others = {0: AT_FDCWD, 1: 0xFFFFFFFFFFFFFFFF}
    assert run(program, calls["openat"], arch, argument(place, noise, others)) == ALLOW
    assert run(program, calls["openat"], arch, argument(place, noise | os.O_WRONLY, others)) == NOTIFY


@arches
def test_mknod_traps_for_regular_files_only(arch):
    program, calls = build_filter(MACHINE[arch]), expected(arch)
    for name in BY_MODE:
        if name not in calls:
            continue
        place = SIGNATURES[name].mode
        for kind in (0, stat.S_IFREG):
            assert run(program, calls[name], arch, argument(place, kind | 0o644)) == NOTIFY
        for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR):
            assert run(program, calls[name], arch, argument(place, kind | 0o644)) == ALLOW


@arches
def test_nothing_else_traps_whatever_its_arguments(arch):
    """All numbers that there are, and the reading and descriptor calls among them by name."""
    program, writing = build_filter(MACHINE[arch]), set(expected(arch).values())
    for arguments in ((0,) * 6, (2**64 - 1,) * 6):
        for number in range(600):
            if number not in writing:
                assert run(program, number, arch, arguments) == ALLOW, number
        for number in (-1, 2**31, 0x3FFFFFFF):
            assert run(program, number, arch, arguments) == ALLOW, number
    for name in (
        "read",
        "write",
        "ftruncate",
        "sendfile",
        "copy_file_range",
        "mkdirat",
        "fchmodat",
        "execve",
    ):
        assert numbers(arch).get(name) not in writing


def test_x32_calls_trap_as_x86_64s_do():
    program = build_filter("x86_64")
    for name, number in expected(X86_64).items():
        for value in (os.O_RDONLY, os.O_WRONLY):
            place = max(SIGNATURES[name].flags, SIGNATURES[name].mode, 0)
            arguments = argument(place, value)
            assert run(program, number | X32_BIT, X86_64, arguments) == run(
                program, number, X86_64, arguments
            )
        assert lookup(X86_64, number | X32_BIT) == lookup(X86_64, number)


def test_an_architecture_that_the_filter_does_not_know_goes_its_way():
    for machine, (known, *_) in ARCHES.items():
        program = build_filter(machine)
        for arch in {*TABLES, 0x40000028, 0} - set(ARCHES[machine]):  # 0x40000028: 32-bit ARM
            for number in TABLES[known]:
                assert run(program, number, arch, (2**64 - 1,) * 6) == ALLOW


def test_a_machine_without_a_table_is_refused():
    with pytest.raises(KeyError):
        build_filter("riscv64")


def argument(place: int, value: int, others: dict[int, int] | None = None) -> tuple[int, ...]:
    """Six arguments with `value` in its place."""
    return tuple(value if at == place else (others or {}).get(at, 0) for at in range(6))
