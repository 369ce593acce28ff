"""A store in a bucket of Amazon S3 (or what speaks like it), Google Cloud Storage or Azure Blob Storage.

An object is an object, its key comes after the prefix of the store. Small objects go in one request each, many at once;
large ones by parts (`multipart`, `streams`). No credentials and no library's own words leave this package. Knows nothing
of experiments.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Protocol

import obstore

from gridkeep.errors import StoreDenied, StoreError, StoreUnavailable
from gridkeep.stores.base import ObjectInfo
from gridkeep.stores.budget import MIB, SHARED
from gridkeep.stores.cloud_errors import EXPIRED, answer_of, is_beyond, translated
from gridkeep.stores.clouds import Bucket
from gridkeep.stores.conditions import Conditions, replacing
from gridkeep.stores.keys import names_of
from gridkeep.stores.probe import probe
from gridkeep.stores.reading import LANE, WINDOW, stream, windows
from gridkeep.stores.single import SingleRequests
from gridkeep.stores.sources import Source

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, PutMode

SMALL = MIB  # bytes of an object that goes in one request, from memory
_TOGETHER = 16  # small objects on their way at once
_PIECE = (
    MIB // 4
)  # bytes that come at once: a line that gives so few in a minute is not taken for a silent one
_BATCH = 1000  # keys deleted by one request
_CUT_TRIES = 3  # in a row, of a window whose connection is cut without another byte
_RENEW_EVERY = 30.0  # seconds between two looks for new credentials in the place of expired ones


class Large(Protocol):
    """How a cloud takes what is too large for one request."""

    def put(
        self, path: str, source: Source, *, if_absent: bool, journal: str | None
    ) -> tuple[int, str | None]:
        """Size and etag of what is now under `path`. Raises what the libraries, or the source, raise."""
        ...

    def abandon(self, prefix: str) -> None:
        """Ends the uploads below `prefix` that were begun."""
        ...


class BucketStore:
    """See `base.Store`. `connect` opens the bucket, again when its credentials have expired; `prefix` ends in `/` unless it
    is empty."""

    def __init__(
        self,
        uri: str,
        prefix: str,
        connect: Callable[[], Bucket],
        large: Callable[[Callable[[], Bucket], Conditions], Large],
    ) -> None:
        self.uri = uri
        self.prefix = prefix
        self._connect = connect
        self._bucket = connect()
        self._renewed = 0.0
        conditions = Conditions(self._look)
        self._small = SingleRequests(lambda: self._bucket, conditions)
        self._large = large(lambda: self._bucket, conditions)
        self._together = _TOGETHER
        self._putting = ThreadPoolExecutor(_TOGETHER, thread_name_prefix="put")

    # ---------------------------------------------------------------------------------------------------------- putting

    def put(
        self, key: str, stream: BinaryIO, *, if_absent: bool = False, journal: str | None = None
    ) -> ObjectInfo:
        path, source = self._path(key), Source(stream)
        with SHARED.held(SMALL):
            data = source.read(SMALL + 1)
            if len(data) <= SMALL:
                with self._explained("write to", key):
                    return ObjectInfo(key, len(data), _bare(self._small.put(path, data, if_absent=if_absent)))
            source.unread(data)
            del data
        with self._explained("write to", key, source):
            size, etag = self._large.put(path, source, if_absent=if_absent, journal=journal)
        return ObjectInfo(key, size, _bare(etag))

    def put_many(self, objects: Sequence[tuple[str, BinaryIO]]) -> Sequence[ObjectInfo | Exception]:
        answers: list[ObjectInfo | Exception] = [StoreError("Not sent.")] * len(objects)
        turns = iter(range(len(objects)))  # shared by the threads: each takes the next

        def work() -> None:
            for at in turns:
                try:
                    answers[at] = self.put(*objects[at])
                except Exception as error:
                    answers[at] = error

        width = min(self._together, len(objects))
        for worker in [self._putting.submit(work) for _ in range(width)]:
            worker.result()
        # On a line so slow that not all of them come through in time, fewer do.
        failing = any(isinstance(answer, StoreUnavailable) for answer in answers)
        self._together = max(1, width // 2) if failing else min(_TOGETHER, self._together * 2)
        return answers

    def _look(self, path: str) -> PutMode:
        """On which condition what is there may be replaced."""
        try:
            return replacing(obstore.head(self._bucket.reader, path))
        except FileNotFoundError:
            return "create"

    # ---------------------------------------------------------------------------------------------------------- reading

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        if end is not None and end <= start:
            self.head(key)
            return iter(())
        read, at_first = (windows, WINDOW) if end is None or end - start > LANE else (stream, LANE)
        first = self._open_first(key, path, start, min(start + at_first, end or sys.maxsize))
        if first is None:
            return iter(())
        size, etag = first.meta["size"], first.meta["e_tag"]
        opened = [first]

        def fetch(at: int, until: int) -> Iterator[bytes]:
            return self._fetch(key, path, (at, until), etag, opened.pop() if opened and at == start else None)

        return read(fetch, start, size if end is None else min(end, size), SHARED)

    def _open_first(self, key: str, path: str, start: int, stop: int) -> GetResult | None:
        """None when the object ends before `start`: of nothing, no cloud gives a range."""
        try:
            return obstore.get(self._bucket.reader, path, options={"range": (start, stop)})
        except Exception as error:
            if not is_beyond(error):
                raise self._translated(error, "read", key) from None
        if self.head(key).size > start:
            raise StoreUnavailable(
                f"The object {self.uri}{key} was replaced while it was read.", "Read it again."
            )
        return None

    def _fetch(
        self, key: str, path: str, span: tuple[int, int], etag: str | None, opened: GetResult | None
    ) -> Iterator[bytes]:
        """One window of the version that `etag` names, however often its connection is cut while bytes come."""
        (at, stop), tries_left = span, _CUT_TRIES
        while at < stop:
            try:
                if opened is None:
                    options: GetOptions = {"range": (at, stop), "if_match": etag}
                    opened = obstore.get(self._bucket.reader, path, options=options)
                for piece in opened.stream(min_chunk_size=_PIECE):
                    at += len(piece)
                    tries_left = _CUT_TRIES
                    yield from _cut(piece)
            except Exception as error:
                trouble = self._translated(error, "read", key)
                if tries_left == 1 or not isinstance(trouble, StoreUnavailable):
                    raise trouble from None
            if at < stop:
                tries_left -= 1
                if not tries_left:
                    raise StoreUnavailable(
                        f"The store {self.uri} does not give all of {key}.", "Try again later."
                    )
                opened = None

    def head(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with self._explained("read", key):
            found = obstore.head(self._bucket.reader, path)
        return ObjectInfo(key, found["size"], _bare(found["e_tag"]))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._explained("list"):
            pages = obstore.list(self._bucket.reader, self.prefix + prefix, chunk_size=_BATCH)
        while True:
            with self._explained("list"):
                page = next(pages, None)
            if page is None:
                return
            for item in page:
                yield ObjectInfo(item["path"].removeprefix(self.prefix), item["size"], _bare(item["e_tag"]))

    def folders(self, prefix: str) -> Iterator[str]:
        with self._explained("list"):
            found = obstore.list_with_delimiter(self._bucket.reader, self.prefix + prefix)
        return (name.rpartition("/")[2] for name in found["common_prefixes"])

    def sign(self, keys: Sequence[str], expires: float) -> Sequence[str] | None:
        paths = [self._path(key) for key in keys]
        with self._explained("sign links to"):
            return self._bucket.sign(paths, expires) if paths else []

    # --------------------------------------------------------------------------------------------------------- removing

    def delete(self, keys: Iterable[str]) -> None:
        rest = iter(keys)
        while batch := [self._path(key) for key in itertools.islice(rest, _BATCH)]:
            with self._explained("delete from"):
                try:
                    obstore.delete(self._bucket.writer, batch)
                except FileNotFoundError:  # of a cloud that minds, and then may have left others
                    list(self._putting.map(self._delete_one, batch))

    def _delete_one(self, path: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self._bucket.writer, path)

    def abandon(self, prefix: str) -> None:
        try:
            with self._explained("list the uploads of"):
                self._large.abandon(self.prefix + prefix)
        except StoreUnavailable:
            raise
        except StoreError:
            pass  # neither the right to list uploads nor a list of them is needed to keep files

    def check(self) -> None:
        self._find_bucket()
        probe(self)

    def _find_bucket(self) -> None:
        """Raises StoreDenied when there is none, or when it is in another region: S3 tells, and which, when asked."""
        if self._bucket.s3 is None:
            return
        try:
            self._bucket.s3().head_bucket(Bucket=self._bucket.name)
        except Exception as error:
            answer = answer_of(error)
            if answer.status == 404:
                raise StoreDenied(
                    f"There is no bucket for {self.uri}.", "Make the bucket, or name another."
                ) from None
            if answer.status != 403:  # nobody tells a HEAD why: what comes next is told
                raise self._translated(error, "read", "") from None

    # ----------------------------------------------------------------------------------------------------------- errors

    def _path(self, key: str) -> str:
        names_of(key)
        return self.prefix + key

    @contextmanager
    def _explained(self, doing: str, key: str = "", source: Source | None = None) -> Iterator[None]:
        """What a library raises, in our words; what the source raised, as it was."""
        try:
            yield
        except Exception as error:
            if source is not None and source.error is not None:
                raise source.error from None
            raise self._translated(error, doing, key) from None

    def _translated(self, error: Exception, doing: str, key: str) -> StoreError:
        if answer_of(error).code in EXPIRED and time.monotonic() - self._renewed > _RENEW_EVERY:
            self._renewed = time.monotonic()
            with suppress(StoreError):
                self._bucket = self._connect()  # others may lie in the same file by now
        return translated(error, self.uri, doing, key)


def _cut(piece: bytes) -> Iterator[bytes]:
    """In chunks of at most 1 MiB; what is none larger is not copied."""
    return (piece[at : at + MIB] for at in range(0, len(piece), MIB))


def _bare(etag: str | None) -> str | None:
    """Without the quotes that some answers have and some listings do not."""
    return None if etag is None else etag.strip('"')
