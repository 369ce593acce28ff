"""Sends files to the store, several at once, and hands back what came of each.

Threads read, hash and send; they touch neither ledger nor catalog. Memory: a store keeps all that is under way within one
budget. A large file has a journal of how far it has come, by which the next supervisor goes on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from gridkeep.capture.journal import Stamp
from gridkeep.errors import KeyConflict, StoreError
from gridkeep.stores.base import ObjectInfo, Store
from gridkeep.stores.keys import artifact_key, encoded_key
from gridkeep.stores.upload_journal import UploadJournal
from gridkeep.supervisor.entry import SMALL
from gridkeep.supervisor.settle import Busy, Changed, Version, open_for_reading

_BATCH = 128  # small files
_BATCH_BYTES = 16 << 20
_BATCHES = (
    2  # at once: a store is concurrent within a batch, and more threads of ours only wait for one another
)


@dataclass(frozen=True, slots=True)
class ToSend:
    """A file to be sent: whole, or (`prefix`) what there is of it now. `leasable`: whether a lease may be tried on it.
    `replaces`: there is an older version in the store. `asked`: whether somebody has it open for writing has been asked, or
    does not matter."""

    path: bytes
    listed: bytes
    size: int
    prefix: bool
    leasable: bool
    replaces: bool
    asked: bool = True


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
    """Why a file was not sent. `changed`: it was being written; `again`: it is not there, or somebody has it open, and is to
    be looked at once more; `store`: the store did not take it."""

    reason: str
    changed: bool = False
    again: bool = False
    store: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one file."""

    path: bytes
    outcome: Sent | Trouble


class Transfers:
    """Small files go in batches, which is what a store is fast at; large ones by themselves. `wake` is called from a
    thread when something is done; in `folder` lie the journals of large files."""

    def __init__(self, store: Store, ulid: str, threads: int, wake: Callable[[], None], folder: str) -> None:
        self._store = store
        self._ulid = ulid
        self._folder = folder
        self._batches = ThreadPoolExecutor(min(_BATCHES, threads), thread_name_prefix="batch")
        self._single = ThreadPoolExecutor(threads, thread_name_prefix="send")
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._wake = wake
        self.under_way: set[bytes] = set()  # files, also what is done and not yet taken

    def start(self, files: Sequence[ToSend]) -> None:
        """Hands files to the threads."""
        self.under_way.update(file.path for file in files)
        small = [file for file in files if file.size <= SMALL]
        for batch in _batches(small):
            self._batches.submit(self._send_batch, batch)
        for file in files:
            if file.size > SMALL:
                self._single.submit(self._send_batch, [file])

    def finished(self) -> list[Result]:
        """Takes what is done."""
        found = []
        while not self._done.empty():
            result = self._done.get()
            self.under_way.discard(result.path)
            found.append(result)
        return found

    def confirmed(self) -> int:
        """How many parts the store has of large files that it has not whole yet, as far as their journals tell."""
        found = 0
        with suppress(FileNotFoundError):  # there is no journal yet
            for name in os.listdir(self._folder):
                begun = UploadJournal(os.path.join(self._folder, name)).read()
                found += len(begun.parts) if begun else 0
        return found

    def close(self) -> None:
        """Lets go of what has not begun and waits for the rest."""
        for pool in (self._batches, self._single):
            pool.shutdown(wait=True, cancel_futures=True)

    def _send_batch(self, files: Sequence[ToSend]) -> None:
        """Opens, sends and closes them. Whatever happens, each file gets its result."""
        opened: list[tuple[ToSend, int, Version]] = []
        try:
            for file in files:
                try:
                    fd = open_for_reading(file.path)
                    opened.append((file, fd, _version(file, fd)))
                except OSError as error:
                    self._done.put(Result(file.path, _trouble(error)))
            for (file, _, version), answer in zip(opened, self._put(opened), strict=True):
                outcome = answer if isinstance(answer, Trouble) else _sent(version, answer)
                self._done.put(Result(file.path, outcome))
        finally:
            for _, fd, _ in opened:
                os.close(fd)
            self._wake()

    def _put(self, opened: Sequence[tuple[ToSend, int, Version]]) -> list[ObjectInfo | Trouble]:
        try:
            objects = [
                (artifact_key(self._ulid, file.listed, prefix=self._store.prefix), cast(BinaryIO, version))
                for file, _, version in opened
            ]
            answers: Sequence[ObjectInfo | Exception]
            answers = (
                self._store.put_many(objects)
                if len(objects) > 1
                else [self._put_one(*objects[0], opened[0][0])]
                if objects
                else []
            )
        except Exception as error:  # the store as a whole, or a fault of ours: every file is tried again
            reason = error.message if isinstance(error, StoreError) else f"the store: {error!r}"
            return [Trouble(reason, store=True)] * len(opened)
        found: list[ObjectInfo | Trouble] = []
        for (file, fd, version), answer in zip(opened, answers, strict=True):
            if isinstance(answer, KeyConflict):
                again = cast(BinaryIO, _version(file, fd))
                answer = self._put_one(encoded_key(self._ulid, file.listed), again, file)
            if isinstance(answer, ObjectInfo) and answer.size != version.size:
                answer = StoreError(
                    f"The store says it has {answer.size} bytes of {answer.key}, not {version.size}."
                )
            found.append(answer if isinstance(answer, ObjectInfo) else _trouble(answer))
        return found

    def _put_one(self, key: str, source: BinaryIO, file: ToSend) -> ObjectInfo | Exception:
        journal = None  # of a file that grows the next copy is another
        if file.size > SMALL and not file.prefix:
            journal = os.path.join(self._folder, hashlib.sha256(file.path).hexdigest())
        try:
            return self._store.put(key, source, journal=journal)
        except Exception as error:
            return error


def _batches(files: Sequence[ToSend]) -> Iterator[list[ToSend]]:
    """Enough of them that none waits idly, none of them too large."""
    share = min(-(-len(files) // _BATCHES), _BATCH)
    batch: list[ToSend] = []
    size = 0
    for file in files:
        if batch and (len(batch) == share or size + file.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _version(file: ToSend, fd: int) -> Version:
    return Version(fd, prefix=file.prefix, leasable=file.leasable, asked=file.asked)


def _sent(version: Version, info: ObjectInfo) -> Sent:
    stamp = Stamp.of(version.before)
    return Sent(
        size=version.size,
        sha256=version.sha256,
        mtime_ns=stamp.mtime_ns,
        ctime_ns=stamp.ctime_ns,
        ino=stamp.ino,
        mode=stamp.mode,
        key=info.key,
        etag=info.etag,
        prefix=version.prefix,
    )


def _trouble(error: Exception) -> Trouble:
    """What an exception means for the file."""
    if isinstance(error, Changed):
        return Trouble("changed while it was copied", changed=True)
    if isinstance(error, Busy):
        return Trouble("open for writing", again=True)
    if isinstance(error, StoreError):
        return Trouble(error.message, store=True)
    if isinstance(error, OSError):
        again = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
        return Trouble(f"cannot be read: {error.strerror}", again=again)
    return Trouble(f"{type(error).__name__}: {error}", store=True)  # a fault of ours must not lose the file


class Backoff:
    """Pauses between tries to reach a store: doubled from half a second to `longest`, jittered so that experiments do
    not knock together."""

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
