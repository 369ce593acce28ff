"""For whoever runs a server: is it alive, can it work, and how is it doing."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from gridkeep import __version__
from gridkeep.api.auth import find_caller
from gridkeep.api.observe import Figures
from gridkeep.api.site import site_of
from gridkeep.errors import GridError
from gridkeep.model import JSON, State
from gridkeep.runs.dispatch import engine_alive

router = APIRouter(tags=["health"])

_LOOPBACK = ("127.0.0.1", "::1", "")


@router.get("/healthz")
async def healthz() -> JSON:
    """The process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", response_model=None)
def readyz(request: Request) -> Response:
    """The catalog can be read, and each cluster's store can be opened: 200; else 503, with what is wrong."""
    context = site_of(request).context
    wrong: dict[str, str] = {}
    try:
        context.catalog.last_change()
        clusters = context.catalog.clusters()
    except GridError as error:
        wrong["catalog"], clusters = error.message, []
    for cluster in clusters:
        try:
            next(iter(context.store(cluster.name).folders("")), None)
        except GridError as error:
            wrong[f"store of {cluster.name}"] = error.message
    status = "not ready" if wrong else "ready"
    return JSONResponse({"status": status, "wrong": wrong}, 503 if wrong else 200)


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Figures for Prometheus; from another machine with a key only."""
    site = site_of(request)
    if request.client is not None and request.client.host not in _LOOPBACK:
        find_caller(request, site)
    figures: Figures = request.app.state.figures
    text = generate_latest(figures.registry).decode()
    with suppress(GridError):
        text += _of_catalog(request)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _of_catalog(request: Request) -> str:
    context = site_of(request).context
    active = context.catalog.unfinished()
    lines = [
        "# HELP gridkeep_experiments Experiments that are not finished.",
        "# TYPE gridkeep_experiments gauge",
    ]
    for state in State:
        if state.active:
            count = sum(one.state is state for one in active)
            lines.append(f'gridkeep_experiments{{state="{state}"}} {count}')
    waiting = sum(one.waiting_for is not None for one in active)
    lines += [
        "# HELP gridkeep_experiments_waiting Experiments whose store is away or full.",
        "# TYPE gridkeep_experiments_waiting gauge",
        f"gridkeep_experiments_waiting {waiting}",
        "# HELP gridkeep_changes_total Changes recorded in the catalog.",
        "# TYPE gridkeep_changes_total counter",
        f"gridkeep_changes_total {context.catalog.last_change()}",
        "# HELP gridkeep_engine_alive Whether the engine's process is there.",
        "# TYPE gridkeep_engine_alive gauge",
        f"gridkeep_engine_alive {int(engine_alive(context.home))}",
    ]
    return "\n".join(lines) + "\n"
