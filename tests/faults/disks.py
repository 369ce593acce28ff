"""Disks that fail: small filesystems that fill up, and a preloaded library that makes single calls fail."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faulty.c")


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A tmpfs of so many bytes (`8m`) on a folder; skips the test where it cannot be mounted."""
    at.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "faults", at], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"no filesystem can be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


class Plug:
    """An ext4 of its own, whose plug can be pulled: what was not durable is gone then.

    The file system is shut down without what its memory holds (EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH of
    fs/ext4/ext4.h), then mounted anew. What the disk itself may hold back is not lost by that."""

    _SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, struct.pack("I", 2)

    def __init__(self, image: Path, at: Path) -> None:
        self._image = image
        self.at = at

    def mount(self) -> None:
        """Skips the test where that is not possible."""
        done = subprocess.run(["mount", "-o", "loop", self._image, self.at], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no filesystem can be mounted here: {done.stderr.strip()}")

    def pull(self) -> None:
        """And puts it in again. Whoever works there has to be dead in a moment."""
        folder = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, self._SHUTDOWN, self._NO_LOG_FLUSH)
        finally:
            os.close(folder)
        self.unmount()
        self.mount()

    def unmount(self) -> None:
        deadline = time.monotonic() + 20
        while subprocess.run(["umount", self.at], capture_output=True).returncode:
            assert time.monotonic() < deadline, f"somebody still works in {self.at}"
            time.sleep(0.05)


@contextmanager
def plugged_in(folder: Path, *, journal: bool) -> Iterator[Plug]:
    """Mounted on a folder of the given one."""
    image, at = folder / "image", folder / "plugged"
    at.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    feature = "has_journal" if journal else "^has_journal"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", feature, image], check=True)
    plug = Plug(image, at)
    plug.mount()
    try:
        yield plug
    finally:
        plug.unmount()


def remount(at: Path, how: str) -> None:
    """`ro` or `rw`. What is being written when it becomes read-only is let finish first."""
    subprocess.run(["mount", "-o", f"remount,{how}", at], check=True)


@contextmanager
def full(disk: Path, *, but: int = 0) -> Iterator[None]:
    """A filesystem with no more than `but` free bytes, until the end of the block."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        if but:
            os.truncate(filler, max(0, os.path.getsize(filler) - but))
    try:
        yield
    finally:
        filler.unlink()


def build_faulty(folder: Path) -> Path | None:
    """The library, compiled; None where there is no compiler."""
    library = folder / "faulty.so"
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE, "-ldl"],
            check=True,
        )
    except FileNotFoundError:
        return None
    return library


def preloading(library: Path, log: Path, seed: int) -> dict[str, str]:
    """The variables that all kinds of faults need."""
    return {"LD_PRELOAD": str(library), "FAULTY_SEED": str(seed), "FAULTY_LOG": str(log)}


def failing(library: Path, log: Path, seed: int, share: float, *paths: Path, programs: str) -> dict[str, str]:
    """The variables that let calls of these programs (`a:b`) fail below these paths, one in `1 / share`."""
    return {
        **preloading(library, log, seed),
        "FAULTY_PROGRAM": programs,
        "FAULTY_PATHS": ":".join(map(str, paths)),
        "FAULTY_CHANCE": str(share),
    }
