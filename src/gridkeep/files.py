"""Small files done right: written atomically and durably, and locks that end with their holder.

A lock is an flock on a file of its own: held for a process's life, it says who is alive on this machine without a clock.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any


def write_file(path: str, data: bytes) -> None:
    """The whole new file or what was there, whoever is killed; durable; for its owner only. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(temporary, path)
    sync_folder(os.path.dirname(path))


def write_json(path: str, value: Any) -> None:
    """As `write_file`. Words may hold any bytes (surrogateescape)."""
    write_file(path, json.dumps(value).encode("ascii"))


def read_json(path: str) -> Any:
    """None when there is no such file."""
    try:
        with open(path, encoding="ascii") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def sync_folder(path: str) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def take_lock(path: str, patience: float = 0.3) -> int | None:
    """Makes the file and locks it; the descriptor to keep open, or None when another process has it.

    Waits `patience` seconds: who only looks (`is_locked`) holds the lock for an instant.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.01)


def is_locked(path: str) -> bool:
    """Whether some process holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
