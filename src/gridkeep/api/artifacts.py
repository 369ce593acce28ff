"""Artifacts: those of a run or an experiment, one of them, and signed URLs to their bytes."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gridkeep.api.auth import READER, Call, Reader
from gridkeep.api.busy import BusyRoute
from gridkeep.api.listing import Listing, shapes, signed
from gridkeep.api.lookup import id_of_run, the_artifact, the_experiment
from gridkeep.errors import Conflict, NotFound
from gridkeep.model import JSON, Artifact, ArtifactType, iso
from gridkeep.runs.signing import LONGEST

listings = APIRouter(tags=["artifacts"], route_class=BusyRoute)
router = APIRouter(tags=["artifacts"])

Types = Annotated[list[ArtifactType] | None, Query(alias="artifact_type")]
StateOf = Annotated[Literal["all", "stored"], Query(alias="state")]
Limit = Annotated[int | None, Query(ge=1, le=1000)]
Cursor = Annotated[str, Query(max_length=100)]

_MANY = 10_000

# Listings ask who calls by themselves (`READER`), in the same thread: another would cost a tenth of their time.
_LISTING: dict[str, Any] = {
    "response_model": None,
    "responses": {200: {"model": list[JSON]}},
    "openapi_extra": {"security": [{"key": []}]},
}


@listings.get("/v1/runs/{run_id}/artifacts", **_LISTING)
def of_run(
    request: Request,
    run_id: str,
    artifact_type: Types = None,
    state: StateOf = "stored",
    limit: Limit = None,
    cursor: Cursor = "",
) -> Response:
    """The artifacts of a run that have bytes in the store (`state=all`: all), oldest first, each with a signed URL. An
    unknown run has none."""
    call = READER(request)
    found = id_of_run(call.catalog, run_id)
    if found is None:
        return JSONResponse([])
    return _listed(Listing(call, found, state != "all", artifact_type), limit, cursor)


@listings.get("/v1/experiments/{experiment}/artifacts", **_LISTING)
def of_experiment(
    request: Request,
    experiment: str,
    artifact_type: Types = None,
    state: StateOf = "stored",
    limit: Limit = None,
    cursor: Cursor = "",
) -> Response:
    """The same of one experiment, by name or ULID."""
    call = READER(request)
    found = the_experiment(call.catalog, experiment)
    return _listed(Listing(call, found.experiment_id, state != "all", artifact_type), limit, cursor)


def _listed(listing: Listing, limit: int | None, cursor: str) -> Response:
    return listing.whole() if limit is None and not cursor else listing.page(limit or 1000, cursor)


@router.get("/v1/artifacts/{artifact_id}")
def one(call: Reader, artifact_id: str) -> JSON:
    """One artifact, in whatever state, with a signed URL where it has bytes."""
    for shape in shapes(call, [the_artifact(call.catalog, artifact_id)]):
        return shape
    raise NotFound(f"Artifact not found {artifact_id}")


@router.get("/v1/artifacts/{artifact_id}/signed-url")
def signed_url(
    call: Reader,
    artifact_id: str,
    expires_in: Annotated[float | None, Query(gt=0, le=LONGEST)] = None,
    download: bool = False,
) -> JSON:
    """A URL that gives its bytes to whoever has it, for `expires_in` seconds (else as the setting `signed_url_ttl` says)."""
    artifact = the_artifact(call.catalog, artifact_id)
    if not artifact.downloadable:
        raise Conflict(f"{artifact_id} has no bytes in the store: it is {artifact.state}.")
    [shape] = _signed(call, [artifact], expires_in, download)
    return shape


class Wanted(BaseModel):
    """The artifacts to sign URLs for."""

    artifact_ids: list[Annotated[str, Field(max_length=100)]] = Field(max_length=_MANY)
    expires_in: float | None = Field(None, gt=0, le=LONGEST)
    download: bool = False


@router.post("/v1/artifacts/signed-urls", response_model=None, responses={200: {"model": list[JSON]}})
def signed_urls(call: Reader, wanted: Wanted) -> list[JSON]:
    """Many at once, in the order asked for. One that is unknown, or has no bytes in the store, has null for its URL."""
    found = {one.artifact_id: one for one in call.catalog.artifacts_by_id(wanted.artifact_ids)}
    urls = {
        shape["artifact_id"]: shape
        for shape in _signed(call, list(found.values()), wanted.expires_in, wanted.download)
    }
    nothing = {"signed_url": None, "expires_at": None}
    return [urls.get(id_) or {"artifact_id": id_, **nothing} for id_ in wanted.artifact_ids]


def _signed(call: Call, artifacts: list[Artifact], expires_in: float | None, download: bool) -> list[JSON]:
    ttl = call.site.links.ttl(expires_in)
    ends = iso(time.time() + ttl)
    places = call.site.places.of(artifact.experiment_id for artifact in artifacts)
    kept = [artifact for artifact in artifacts if artifact.downloadable]
    return [
        {"artifact_id": artifact.artifact_id, "signed_url": url, "expires_at": ends}
        for _, stored, urls in signed(call, kept, places, ttl=ttl, download=download)
        for artifact, url in zip(stored, urls, strict=True)
    ]
