"""Large objects to S3, in parts.

A part of a file is read once for the hashes and sent as it is read a second time, so that it takes no memory; its MD5 goes
with it, and the store refuses it if a byte differs. So what was hashed is what is stored. With a journal an upload
survives the process: the next one reads the file for the hashes, finds by them the parts that the store has, and sends the
others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

from gridkeep.errors import StoreUnavailable
from gridkeep.stores.budget import MIB, SHARED
from gridkeep.stores.cloud_errors import CONFLICT, answer_of, is_damage
from gridkeep.stores.s3_upload import Body, Part, Upload, combined_etag
from gridkeep.stores.sources import Source
from gridkeep.stores.upload_journal import UploadJournal, Version

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from gridkeep.stores.clouds import Bucket
    from gridkeep.stores.conditions import Conditions

PART = 16 * MIB  # of a file; more where there would be too many
HELD_PART = 8 * MIB  # of what is no file, and so is held until it is sent
MOST_PARTS = 10_000
_AT_ONCE = 4  # parts of one object
_SENDERS = 12  # parts of all objects


def part_size(size: int) -> int:
    """How large the parts of a file of `size` bytes are, so that there are no more of them than may be."""
    return max(PART, -(-size // MOST_PARTS // MIB) * MIB)


class S3Parts:
    """See `bucket.Large`. `bucket` gives the open bucket."""

    def __init__(self, bucket: Callable[[], Bucket], conditions: Conditions) -> None:
        self._bucket = bucket
        self._conditions = conditions
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="part")

    def put(
        self, path: str, source: Source, *, if_absent: bool, journal: str | None
    ) -> tuple[int, str | None]:
        upload = self._upload(path, None if if_absent else self._conditions)
        return _Sending(upload, path, source, self._senders, journal if source.fd is not None else None).run()

    def abandon(self, prefix: str) -> None:
        bucket = self._bucket()
        pages = self._client().get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=bucket.name, Prefix=prefix):
            for found in page.get("Uploads", []):
                if found["Key"].startswith(prefix):
                    self._upload(found["Key"], None, found["UploadId"]).abort()

    def _upload(self, path: str, conditions: Conditions | None, upload_id: str = "") -> Upload:
        return Upload(self._client(), self._bucket().name, path, conditions, upload_id)

    def _client(self) -> S3Client:
        client = self._bucket().s3
        assert client is not None
        return client()


class _Sending:
    """One object on its way."""

    def __init__(
        self, upload: Upload, path: str, source: Source, senders: Executor, journal: str | None
    ) -> None:
        self._upload = upload
        self._path = path
        self._source = source
        self._senders = senders
        self._journal = UploadJournal(journal) if journal is not None else None
        self._part_size = HELD_PART if source.fd is None else part_size(source.size or 0)
        self._known: dict[int, Part] = {}  # what the store has from before
        self._etag = ""  # of the object, if it was completed before
        self._parts: dict[int, Part] = {}
        self._under_way: set[Future[None]] = set()
        self._size = 0
        self._held = 0  # bytes of the budget

    def run(self) -> tuple[int, str]:
        """Size and etag. Raises what the source or botocore raises, StoreError; then what was sent is kept for the next
        try if there is a journal and the file is as it was, and aborted if not."""
        try:
            if self._journal is not None:
                self._resume(self._journal)
            etag = self._send()
        except BaseException as error:
            wait(self._under_way)
            self._let_go(error)
            raise
        finally:
            SHARED.give(self._held)
        if self._journal is not None:
            self._journal.remove()
        return self._size, etag

    def _resume(self, journal: UploadJournal) -> None:
        """Finds out what an earlier process has sent of this very version; what it has sent of another is aborted."""
        begun = journal.read()
        if begun is None:
            return
        self._upload.upload_id = begun.upload_id
        assert self._source.fd is not None
        if begun.version != Version.of(self._path, self._source.fd):
            self._forget()
            return
        self._part_size = begun.part_size
        listed = self._upload.parts()
        if listed is None:  # completed before its answer came, or aborted by somebody
            etag = combined_etag(md5 for _, (_, md5) in sorted(begun.parts.items()))
            if self._upload.etag() != etag:
                self._forget()
                return
            self._etag = etag
            self._known = {
                number: Part(
                    etag, min(begun.part_size, begun.version.size - (number - 1) * begun.part_size), md5
                )
                for number, (etag, md5) in begun.parts.items()
            }
            return
        journal.go_on()
        for number, part in listed.items():
            etag, md5 = begun.parts.get(number, ("", b""))
            self._known[number] = part._replace(md5=md5) if etag == part.etag else part

    def _send(self) -> str:
        number = 0
        while (part := self._next())[1]:
            number += 1
            body, size, md5 = part
            if number == 1 and size < self._part_size and not self._upload.upload_id:
                return self._upload.whole(body, size, md5)
            if (known := self._known.get(number)) and (known.size, known.md5) == (size, md5):
                self._parts[number] = known
                continue
            if self._etag:
                raise StoreUnavailable("What was completed is not this file.", "It is sent again.")
            if not self._upload.upload_id:
                self._begin()
            self._under_way.add(self._senders.submit(self._send_part, number, body, size, md5))
            while len(self._under_way) >= _AT_ONCE:
                self._collect()
        while self._under_way:
            self._collect()
        return self._etag or self._upload.complete(self._parts)

    def _next(self) -> tuple[Body, int, bytes]:
        """What is sent as the next part, its size (0: the end), and its MD5."""
        if self._source.fd is not None:
            size, md5 = self._source.skim(self._part_size)
            body: Body = cast(IO[bytes], self._source.slice(self._size, size))
        else:
            while self._held and not SHARED.try_take(self._part_size):
                self._collect()
            if not self._held:
                SHARED.take(self._part_size)
            self._held += self._part_size
            body = self._source.read(self._part_size)
            size, md5 = len(body), hashlib.md5(body, usedforsecurity=False).digest()
        self._size += size
        return body, size, md5

    def _begin(self) -> None:
        self._upload.begin()
        if self._journal is not None:
            assert self._source.fd is not None
            version = Version.of(self._path, self._source.fd)
            self._journal.begin(version, self._upload.upload_id, self._part_size)

    def _send_part(self, number: int, body: Body, size: int, md5: bytes) -> None:
        part = self._upload.part(number, body, size, md5)
        if self._journal is not None:
            self._journal.add(number, part.etag, md5)
        self._parts[number] = part

    def _collect(self) -> None:
        """Waits for one of those under way. Raises what it raised."""
        done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
        if self._source.fd is None:
            SHARED.give(len(done) * self._part_size)
            self._held -= len(done) * self._part_size
        for one in done:
            one.result()

    def _let_go(self, error: BaseException) -> None:
        """After a failure. What was damaged on its way may have been changed in its file: the source tells, at its end."""
        if isinstance(error, Exception) and is_damage(error):
            with suppress(Exception):
                while self._source.read(MIB):
                    pass
        # After a conflict S3 wants the parts anew.
        lost = self._etag or answer_of(error).code in ("NoSuchUpload", CONFLICT)
        if self._journal is None or self._source.error is not None or lost:
            self._forget()
        else:
            self._journal.close()

    def _forget(self) -> None:
        """Aborts the upload, if the store lets us now, and begins anew."""
        if self._upload.upload_id:
            with suppress(Exception):
                self._upload.abort()
        self._upload.upload_id = ""
        if self._journal is not None:
            self._journal.remove()
