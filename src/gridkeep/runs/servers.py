"""Which servers of a home run just now, and at what address: so that commands can print links that lead somewhere.

Each has a file of its own in the home, which it keeps locked for its life. Knows nothing of what a server serves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gridkeep.files import is_locked, take_lock
from gridkeep.settings import Home


@contextmanager
def announced(home: Home, url: str) -> Iterator[None]:
    """Says, for the time of the block, that this process serves the home at that address."""
    os.makedirs(home.servers, mode=0o700, exist_ok=True)
    path = os.path.join(home.servers, str(os.getpid()))
    lock = take_lock(path)  # nobody else has our number: what may lie there is of a dead process
    try:
        if lock is not None:
            os.truncate(lock, 0)
            os.write(lock, url.rstrip("/").encode())
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                os.unlink(path)
            os.close(lock)


def running(home: Home) -> list[str]:
    """The addresses of those that run, without a slash at their end, the one that began last first."""
    try:
        paths = [entry.path for entry in sorted(os.scandir(home.servers), key=_began, reverse=True)]
    except FileNotFoundError:
        return []
    found = list[str]()
    for path in paths:
        with suppress(FileNotFoundError):
            if is_locked(path):
                with open(path, encoding="utf-8") as file:
                    found.append(file.read())
            else:
                os.unlink(path)
    return [url for url in found if url]


def _began(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0
