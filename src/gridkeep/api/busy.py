"""Routes that are asked hundreds of times a second: nothing is done for them that a request does not need.

Most requests for a listing name no parameters. FastAPI takes as long to find each of them absent as the catalog takes to
answer, so it is asked only where there are some.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response


class BusyRoute(APIRoute):
    """Of a handler that takes the request, the strings of its path, and parameters that may be left out; it is no coroutine,
    and gives a response."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        with_parameters = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                return await with_parameters(request)
            return await run_in_threadpool(self.endpoint, request, **request.path_params)

        return handle
