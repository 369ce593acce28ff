"""Sends files to the store, several at once, and hands back what came of each.

Threads read, hash and send; they touch neither ledger nor catalog. Memory: a store holds a few MiB of each file under way, and no
more files are under way than there are threads.
"""

from __future__ import annotations

import errno
import os
import queue
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gridkeep.errors import KeyConflict, StoreError
from gridkeep.stores.base import ObjectInfo, Store
from gridkeep.stores.keys import artifact_key, encoded_key
from gridkeep.supervisor.settle import Changed, Version, open_for_reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The version that is in the store now."""

    size: int
    sha256: str
    mtime_ns: int
    ctime_ns: int
    ino: int
    mode: int
    key: str
    etag: str | None
    prefix: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a file was not sent. `changed`: it was being written; `gone`: it is not there; `store`: the store did not take it."""

    reason: str
    changed: bool = False
    gone: bool = False
    store: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one file."""

    path: bytes
    outcome: Sent | Trouble


class Transfers:
    """`done` holds finished ones; `wake` is called from a thread when there is one."""

    def __init__(self, store: Store, ulid: str, threads: int, wake: Callable[[], None]) -> None:
        self._store = store
        self._ulid = ulid
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="send")
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._wake = wake
        self._under_way: set[bytes] = set()

    def start(self, path: bytes, listed: bytes, *, prefix: bool, leasable: bool) -> None:
        self._under_way.add(path)
        self._pool.submit(self._run, path, listed, prefix, leasable)

    def busy(self, path: bytes) -> bool:
        return path in self._under_way

    @property
    def count(self) -> int:
        """Files under way, or done and not yet taken."""
        return len(self._under_way)

    def finished(self) -> list[Result]:
        """Takes what is done."""
        found = []
        while not self._done.empty():
            result = self._done.get()
            self._under_way.discard(result.path)
            found.append(result)
        return found

    def close(self) -> None:
        """Lets go of what has not begun and waits for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, path: bytes, listed: bytes, prefix: bool, leasable: bool) -> None:
        try:
            outcome: Sent | Trouble = self._send(path, listed, prefix, leasable)
        except Changed:
            outcome = Trouble("changed while it was copied", changed=True)
        except StoreError as error:
            outcome = Trouble(error.message, store=True)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
            outcome = Trouble(f"cannot be read: {error.strerror}", gone=gone)
        except Exception as error:  # a fault of ours must not lose the file: it is tried again, and said
            outcome = Trouble(f"{type(error).__name__}: {error}", store=True)
        self._done.put(Result(path, outcome))
        self._wake()

    def _send(self, path: bytes, listed: bytes, prefix: bool, leasable: bool) -> Sent:
        fd = open_for_reading(path)
        try:
            version = Version(fd, prefix=prefix, leasable=leasable)
            try:
                info = self._put(artifact_key(self._ulid, listed), version)
            except KeyConflict:
                version = Version(fd, prefix=prefix, leasable=leasable)
                info = self._put(encoded_key(self._ulid, listed), version)
        finally:
            os.close(fd)
        st = version.before
        return Sent(
            size=version.size,
            sha256=version.sha256,
            mtime_ns=st.st_mtime_ns,
            ctime_ns=st.st_ctime_ns,
            ino=st.st_ino,
            mode=st.st_mode,
            key=info.key,
            etag=info.etag,
            prefix=prefix,
        )

    def _put(self, key: str, version: Version) -> ObjectInfo:
        info = self._store.put(key, version)  # type: ignore[arg-type]  # a reader of bytes is all that it needs
        if info.size != version.size:
            raise StoreError(f"The store says it has {info.size} bytes of {key}, not {version.size}.")
        return info


class Backoff:
    """Pauses between tries to reach a store: doubled from half a second to `longest`, jittered so that experiments do not knock
    together."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._pause = 0.0
        self.until = 0.0

    def failed(self, now: float) -> None:
        if now < self.until:
            return  # one fault, many files
        self._pause = min(max(self._pause * 2, 0.5), self._longest)
        self.until = now + self._pause * random.uniform(0.7, 1.0)  # noqa: S311

    def worked(self) -> None:
        self._pause = self.until = 0.0
