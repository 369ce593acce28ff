"""What every request passes before it reaches a route: is it meant for this server, and is it of a sane size?

Plain ASGI, so that it costs microseconds and leaves streams alone.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gridkeep.api.site import Site

BODY_LIMIT = 2**20  # bytes of a request's body; a file that is sent (`stream_file`) may be larger
_FILES = ("/v1/upload_file",)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # addresses may hold signatures
    "cache-control": "no-store",
}


class Gate:
    """Refuses foreign hosts and huge bodies, and gives every answer the headers that all have unless they say otherwise."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    own.setdefault(name, value)
            await send(message)

        hosts = headers.getlist("host")
        if len(hosts) != 1:
            await _refuse(with_headers, 400, "A request names one host.")
            return
        if not self._site.answers_to(_host(hosts[0])):
            await _refuse(with_headers, 421, "This server does not go by that name.")
            return
        length = headers.get("content-length", "")
        limit = None if scope["path"] in _FILES else BODY_LIMIT
        if limit is not None and length.isdigit() and int(length) > limit:
            await _refuse(with_headers, 413, f"A body of more than {limit} bytes is not taken here.")
            return
        await self._app(scope, receive if limit is None else _bounded(receive, limit), with_headers)


def _host(header: str) -> str:
    """The name without its port, and without the brackets of IPv6."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body of unknown length ends at the limit, as if the client had gone away."""
    taken = 0

    async def receive_some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > limit else message

    return receive_some


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers: list[tuple[bytes, Any]] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
