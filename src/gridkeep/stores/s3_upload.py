"""The requests of one upload to S3, by boto3: as one object, or begun, sent by parts, completed or aborted.

An answer that was lost is no failure: what is there is known again by its etag. Raises what botocore raises.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from gridkeep.errors import StoreUnavailable
from gridkeep.stores.cloud_errors import answer_of, is_unmet

if TYPE_CHECKING:
    from obstore import PutMode, PutResult
    from types_boto3_s3 import S3Client

    from gridkeep.stores.conditions import Conditions

_MD5 = re.compile(r"[0-9a-f]{32}")


Body = bytes | IO[bytes]


class Part(NamedTuple):
    """A part that the store has. `md5` is that of its bytes; None when nobody noted it and the etag does not tell."""

    etag: str
    size: int
    md5: bytes | None


class Upload:
    """One object of one bucket. `conditions` say when it may replace another; None: never."""

    def __init__(
        self, client: S3Client, bucket: str, path: str, conditions: Conditions | None, upload_id: str = ""
    ) -> None:
        self._client = client
        self._object: Any = {"Bucket": bucket, "Key": path}
        self._conditions = conditions
        self.upload_id = upload_id

    def whole(self, body: Body, size: int, md5: bytes) -> str:
        """Puts all of it by one request; returns its etag."""

        def request(**condition: Any) -> Any:
            if not isinstance(body, bytes):
                body.seek(0)
            return self._client.put_object(
                **self._object, Body=body, ContentLength=size, ContentMD5=_base64(md5), **condition
            )

        return self._once(md5.hex(), request, look_first=False)

    def begin(self) -> None:
        self.upload_id = self._client.create_multipart_upload(**self._object)["UploadId"]

    def part(self, number: int, body: Body, size: int, md5: bytes) -> Part:
        """Sends a part. The store compares it with its MD5; so do we, where its etag is one."""
        answer = self._client.upload_part(
            **self._object,
            UploadId=self.upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=size,
            ContentMD5=_base64(md5),
        )
        etag = answer["ETag"].strip('"')
        encrypted = "kms" in str(answer.get("ServerSideEncryption")) or answer.get("SSECustomerAlgorithm")
        if _MD5.fullmatch(etag) and not encrypted and etag != md5.hex():
            raise StoreUnavailable("Bytes were damaged on their way to the store.", "They are sent again.")
        return Part(etag, size, md5)

    def parts(self) -> dict[int, Part] | None:
        """What the store has of it; None when it knows no such upload (any more)."""
        found: dict[int, Part] = {}
        pages = self._client.get_paginator("list_parts").paginate(**self._object, UploadId=self.upload_id)
        try:
            for page in pages:
                for part in page.get("Parts", []):
                    etag = part["ETag"].strip('"')
                    md5 = bytes.fromhex(etag) if _MD5.fullmatch(etag) else None
                    found[part["PartNumber"]] = Part(etag, part["Size"], md5)
        except self._client.exceptions.ClientError as error:
            if answer_of(error).code != "NoSuchUpload":
                raise
            return None
        return found

    def complete(self, parts: dict[int, Part]) -> str:
        """Makes the object of its parts; returns its etag."""
        listed: Any = [{"PartNumber": number, "ETag": part.etag} for number, part in sorted(parts.items())]

        def request(**condition: Any) -> Any:
            return self._client.complete_multipart_upload(
                **self._object, UploadId=self.upload_id, MultipartUpload={"Parts": listed}, **condition
            )

        return self._once(
            combined_etag(part.md5 for _, part in sorted(parts.items())), request, look_first=True
        )

    def abort(self) -> None:
        """The store forgets what it has of it, if it has any."""
        with suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(**self._object, UploadId=self.upload_id)

    def etag(self) -> str:
        """The etag of the object that is there now; empty when there is none."""
        try:
            return self._client.head_object(**self._object)["ETag"].strip('"')
        except self._client.exceptions.ClientError as error:
            if answer_of(error).status != 404:
                raise
            return ""

    def _once(self, expected: str, request: Callable[..., Any], *, look_first: bool) -> str:
        """Does what makes the object. If it was done already by a try whose answer was lost, that counts."""

        def attempt(mode: PutMode) -> PutResult:
            try:
                etag = str(request(**_condition(mode))["ETag"])
            except self._client.exceptions.ClientError as error:
                repeated = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
                gone = answer_of(error).code == "NoSuchUpload"
                if not gone and not (repeated and is_unmet(error)):
                    raise
                if self.etag() != expected:
                    raise
                etag = f'"{expected}"'
            return {"e_tag": etag, "version": None}

        if self._conditions is None:
            made = attempt("create")
        else:
            made = self._conditions.put(self._object["Key"], attempt, look_first=look_first)
        return str(made["e_tag"]).strip('"')


def _condition(mode: PutMode) -> dict[str, str | None]:
    """In the words of S3."""
    if isinstance(mode, str):
        return {"IfNoneMatch": "*"} if mode == "create" else {}
    return {"IfMatch": mode["e_tag"]}


def combined_etag(digests: Iterable[bytes | None]) -> str:
    """The etag that S3 gives an object of parts with these MD5s."""
    known = [digest or b"" for digest in digests]
    return f"{hashlib.md5(b''.join(known), usedforsecurity=False).hexdigest()}-{len(known)}"


def _base64(md5: bytes) -> str:
    return base64.b64encode(md5).decode()
