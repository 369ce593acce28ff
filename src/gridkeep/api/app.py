"""The application: the routers, what every request passes, and how errors are answered.

A new noun is a module with a `router` and its name in `_ROUTERS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from gridkeep import __version__
from gridkeep.api import (
    archive,
    artifacts,
    content,
    docs,
    events,
    experiments,
    health,
    login,
    pages,
    preview,
    runs,
    share_pages,
    shared,
    shares,
    submit,
)
from gridkeep.api.errors import explain_errors
from gridkeep.api.gate import Gate
from gridkeep.api.observe import Figures, Observed
from gridkeep.api.site import Site

_ROUTERS: tuple[APIRouter, ...] = (  # the busiest first: they are gone through one after another
    artifacts.listings,
    artifacts.router,
    runs.router,
    experiments.router,
    content.router,
    preview.router,
    archive.router,
    shares.router,
    shared.router,
    events.router,
    submit.router,
    login.router,
    pages.router,
    share_pages.router,
    health.router,
    docs.router,
)

Beside = Callable[[], AbstractAsyncContextManager[None]]


def make_app(site: Site, beside: Beside | None = None) -> ASGIApp:
    """The whole ASGI application of a site. `beside` is entered while it serves."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        if beside is None:
            yield
            return
        async with beside():
            yield

    app = make_api(lifespan=life)
    app.state.site = site
    app.state.figures = Figures()
    explain_errors(app)
    return Observed(Gate(app, site), app.state.figures)


def make_api(**how: Any) -> FastAPI:
    """All routes, without anything to serve: enough for the OpenAPI document."""
    api = FastAPI(
        title="Gridkeep",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        **how,
    )
    for router in _ROUTERS:
        api.include_router(router)
    return api
