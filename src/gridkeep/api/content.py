"""The bytes of an artifact, as a browser or a program may safely have them.

They are hostile: all that is shown inline is shown in a sandbox, and nothing is taken for what it does not say it is. A
whole file ends only when its bytes were those that were recorded: its last part is held back until the hash is known, and
the connection is cut when it is another.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gridkeep.api.auth import READER
from gridkeep.api.lookup import the_artifact
from gridkeep.api.ranges import http_date, part_of
from gridkeep.api.shapes import mime_type
from gridkeep.api.site import Site, site_of
from gridkeep.errors import Conflict, GridError, NotFound, StoreError
from gridkeep.model import Artifact
from gridkeep.runs.artifact_bytes import no_bytes, open_bytes
from gridkeep.runs.context import Context

router = APIRouter(tags=["artifacts"])

_log = logging.getLogger("gridkeep.api")

_SHOWN = {
    *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/x-icon"),
    *("video/mp4", "video/webm", "video/ogg", "audio/mpeg", "audio/ogg", "audio/wav", "audio/x-wav"),
    *("audio/flac", "audio/webm", "audio/mp4", "application/pdf"),
}
_MARKUP = {"text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"}
_TEXT = {
    "application/json",
    "application/x-ndjson",
    "application/yaml",
    "application/toml",
    "application/x-sh",
}
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"


@router.get("/v1/artifacts/{artifact_id}/content", response_class=Response)
@router.head("/v1/artifacts/{artifact_id}/content", response_class=Response, include_in_schema=False)
def content(
    request: Request,
    artifact_id: str,
    expires: Annotated[str | None, Query(max_length=20)] = None,
    signature: Annotated[str | None, Query(max_length=100)] = None,
    download: bool = False,
) -> Response:
    """The bytes of an artifact: with a key, or with the `expires` and `signature` of a signed URL. `Range` gives a part;
    `download=1` an attachment."""
    site = site_of(request)
    if signature is None:
        READER(request)
    artifact = the_artifact(site.context.catalog, artifact_id)
    if signature is not None:
        site.links.check(artifact, expires=expires or "", signature=signature, download=download)
    return bytes_of(request, site.context, cluster_of(site, artifact), artifact, download=download)


def cluster_of(site: Site, artifact: Artifact) -> str:
    """Raises NotFound when its experiment was deleted just now."""
    place = site.places.of([artifact.experiment_id]).get(artifact.experiment_id)
    if place is None:
        raise NotFound(f"Artifact not found {artifact.artifact_id}")
    return place.cluster


def bytes_of(
    request: Request, context: Context, cluster: str, artifact: Artifact, *, download: bool = False
) -> Response:
    """The answer that holds what the request asks for of an artifact's bytes. Whether it may, the caller has seen to.
    Raises Conflict for one without bytes in the store, or StoreError."""
    if artifact.sha256 is None or artifact.size is None:
        raise no_bytes(artifact.artifact_id, artifact)
    modified = None if artifact.mtime_ns is None else artifact.mtime_ns / 1e9
    etag = f'"{artifact.sha256}"'
    part = part_of(request.method, request.headers, size=artifact.size, etag=etag, modified=modified)
    headers = {"etag": etag, "accept-ranges": "bytes", "cache-control": "private, no-cache"}
    if modified is not None and 0 <= modified < 2**37:
        headers["last-modified"] = http_date(modified)
    if part.status in (304, 412):
        return Response(status_code=part.status, headers=headers)
    if part.status == 416:
        headers["content-range"] = f"bytes */{artifact.size}"
        return Response(status_code=416, headers=headers)
    headers |= _described(artifact, download=download)
    headers["content-length"] = str(part.end - part.start)
    if part.status == 206:
        headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{artifact.size}"
    if request.method == "HEAD" or part.start == part.end:
        return Response(status_code=part.status, headers=headers)
    chunks = opened(context, cluster, artifact, part.start, part.end)
    whole = artifact.sha256 if (part.start, part.end) == (0, artifact.size) else None
    return Chunks(chunks, part.status, headers, sha256=whole)


def opened(context: Context, cluster: str, artifact: Artifact, start: int, end: int) -> Iterator[bytes]:
    """The bytes of the version that is recorded, read from one that is open: before an object is replaced, its artifact says
    that it is to be, so what is recorded after the opening is what was opened."""
    chunks = open_bytes(context.store(cluster), artifact, start=start, end=end)
    now = context.catalog.artifact(artifact.artifact_id)
    if now is None or now.sha256 != artifact.sha256:
        raise Conflict(f"{artifact.artifact_id} was replaced just now.", "Try again.")
    return chunks


class Chunks(Response):
    """A body that comes in pieces from a blocking iterator, of which no more than three are held. With `sha256`, its last
    piece is sent only when that is the hash of all of them."""

    def __init__(
        self, chunks: Iterator[bytes], status: int, headers: dict[str, str], *, sha256: str | None = None
    ) -> None:
        super().__init__(None, status, headers)
        if "content-length" not in headers:
            del self.headers["content-length"]  # that of nothing
        self._chunks = chunks
        self._sha256 = sha256
        self._digest = hashlib.sha256()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(disconnected(receive))
        try:
            first = await run_in_threadpool(self._next)  # what goes wrong here is still answered in words
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            try:
                await self._send_all(first, gone, send)
            except GridError as error:  # too late for words: without its end, the connection is cut
                _log.error("a store failed", extra={"fields": {**_told(scope), "reason": error.message}})
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            await run_in_threadpool(self._close)

    async def _send_all(self, piece: bytes, gone: asyncio.Task[None], send: Send) -> None:
        """Reads on while it sends. Raises StoreError when the bytes cannot be had, or are others."""
        following = await run_in_threadpool(self._next) if piece else b""
        while following and not gone.done():
            after = asyncio.ensure_future(run_in_threadpool(self._next))
            try:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            finally:
                piece, following = following, await after
        if gone.done():
            return
        if self._sha256 not in (None, self._digest.hexdigest()):
            raise StoreError("The bytes of the object are not those that were recorded.")
        await send({"type": "http.response.body", "body": piece, "more_body": False})

    def _next(self) -> bytes:
        piece = next(self._chunks, b"")
        if self._sha256 is not None:
            self._digest.update(piece)
        return piece

    def _close(self) -> None:
        if hasattr(self._chunks, "close"):
            self._chunks.close()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(scope: Scope) -> dict[str, str]:
    return {"artifact_id": scope.get("path_params", {}).get("artifact_id", "")}


# -------------------------------------------------------------------------------------------------------------- headers


def _described(artifact: Artifact, *, download: bool) -> dict[str, str]:
    """What the bytes are, and what a browser may do with them."""
    name = (artifact.path or b"file").rpartition(b"/")[2]
    media, shown = _media(mime_type(name.rpartition(b".")[2]))
    kind = "attachment" if download or not shown else "inline"
    headers = {"content-type": media, "content-disposition": disposition(kind, name)}
    if media not in (
        "application/pdf",
    ):  # whose viewer is a sandbox of its own, and does not start in another
        headers["content-security-policy"] = _SANDBOX
    headers["cross-origin-resource-policy"] = "same-origin"
    return headers


def _media(guess: str) -> tuple[str, bool]:
    """The type to call it by, and whether it may be shown."""
    if guess in _SHOWN or guess in _MARKUP:
        return guess + ("; charset=utf-8" if guess.startswith("text/") else ""), True
    if guess.startswith("text/") or guess in _TEXT:
        return "text/plain; charset=utf-8", True
    return "application/octet-stream", False


def disposition(kind: str, name: bytes) -> str:
    """RFC 6266: a name that every client reads, and the exact one where that is another."""
    text = name.decode(errors="replace")
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in text)
    plain = plain.replace("\\", "_").replace('"', "_").replace("%", "_")
    exact = "" if plain == text else f"; filename*=UTF-8''{quote(text, safe='')}"
    return f'{kind}; filename="{plain}"{exact}'
