"""From what goes wrong to an answer: `{"detail": …}` with the status that the error stands for."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from gridkeep.api.auth import NotLetIn
from gridkeep.api.site import site_of
from gridkeep.errors import (
    CatalogError,
    Conflict,
    Forbidden,
    Gone,
    GridError,
    HomeError,
    NameTaken,
    NotFound,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

_log = logging.getLogger("gridkeep.api")
_FOR_STRANGERS = (
    "What this link leads to cannot be had just now."  # who has no more than a link is not told where
)

# The first that fits.
_STATUS: tuple[tuple[type[GridError], int], ...] = (
    (Forbidden, 403),
    (NotFound, 404),
    (Gone, 410),
    (NameTaken, 409),
    (Conflict, 409),
    (HomeError, 503),
    (CatalogError, 503),
    (ObjectMissing, 404),
    (StoreUnavailable, 503),
    (StoreFull, 507),
    (StoreError, 502),
    (GridError, 400),
)


def status_of(error: GridError) -> int:
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def explain_errors(app: FastAPI) -> None:
    """Gives the application its handlers of errors."""
    app.add_exception_handler(GridError, _explained)
    app.add_exception_handler(NotLetIn, _not_let_in)
    app.add_exception_handler(Exception, _unexpected)


async def _explained(request: Request, error: Exception) -> Response:
    assert isinstance(error, GridError)
    if isinstance(error, StoreError) and request.url.path.startswith("/s/"):
        _log.error("a store failed", extra={"fields": {"reason": error.message}})
        error = StoreUnavailable(_FOR_STRANGERS, "Try again later.")
    shape = {"detail": error.message} | ({"hint": error.hint} if error.hint else {})
    return JSONResponse(shape, status_of(error))


async def _not_let_in(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotLetIn)
    if error.tried:
        await site_of(request).throttle.wait(request.client.host if request.client else "")
    return JSONResponse({"detail": "Invalid credentials"}, 403)


async def _unexpected(_: Request, __: Exception) -> Response:
    """A fault of ours: its traceback is logged by uvicorn, which gets it next."""
    return JSONResponse({"detail": "An unexpected error; the server's log has its details."}, 500)
