"""Share links for those who make them: making, listing, revoking. What they open is `shared`'s."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, field_validator, model_validator
from starlette.responses import JSONResponse, Response

from gridkeep.api.auth import Call, Reader, Writer
from gridkeep.api.lookup import the_artifact, the_experiment, the_run, with_run
from gridkeep.catalog.shares import Share
from gridkeep.errors import Conflict
from gridkeep.model import JSON
from gridkeep.runs.shares import (
    Place,
    end_share,
    find_place,
    lifetime,
    link,
    make_share,
    share_json,
    shares_for,
)

router = APIRouter(tags=["shares"])

Name = Annotated[str | None, Field(max_length=100)]


class Wanted(BaseModel):
    """What to share: a run, an experiment, or one artifact; with `path` one file or folder of the experiment (what ends in a
    slash is a folder). `path_b64` has the exact bytes where they are no UTF-8."""

    run_id: Name = None
    experiment: Name = None
    artifact_id: Name = None
    path: str | None = Field(None, max_length=10_000)
    path_b64: str | None = Field(None, max_length=20_000)
    expires_in: float | str | None = Field(None, description="Seconds, or as in 90m, 24h, 7d.")

    @model_validator(mode="after")
    def _one_thing(self) -> Wanted:
        if sum(name is not None for name in (self.run_id, self.experiment, self.artifact_id)) != 1:
            raise ValueError("Name one of run_id, experiment and artifact_id.")
        if self.experiment is None and self.exact_path is not None:
            raise ValueError("A path is one of an experiment.")
        return self

    @field_validator("path_b64")
    @classmethod
    def _is_base64(cls, value: str | None) -> str | None:
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("This is no base64.") from None
        return value

    @property
    def exact_path(self) -> bytes | None:
        if self.path_b64 is not None:
            return base64.b64decode(self.path_b64)
        return None if self.path is None else self.path.encode(errors="surrogatepass")


@router.post("/v1/shares", status_code=201)
def create(call: Writer, wanted: Wanted) -> JSON:
    """A new link, whose `url` is told only now. Each call makes one: a fresh link is always at hand."""
    place = _place(call, wanted)
    call.must_own(place.run, "shares")
    ttl = lifetime(call.context.settings, wanted.expires_in)
    share, token = make_share(call.catalog, place, by=call.user, ttl=ttl)
    return share_json(share, place.run, place.experiment) | {"url": link(call.base_url, token)}


@router.get("/v1/shares", response_model=None, responses={200: {"model": list[JSON]}})
def listing(
    call: Reader,
    run_id: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The links that the caller made, and those to the caller's runs (an admin: all), newest first; also those that have
    ended or were revoked. The next page is in `Link`."""
    run = None if run_id is None else the_run(call.catalog, run_id)
    found = shares_for(
        call.catalog, call.caller, run_id=None if run is None else run.run_id, before=cursor, limit=limit + 1
    )
    response = JSONResponse([_shape(call, share) for share in found[:limit]])
    if len(found) > limit:
        response.headers.update(call.next_page(cursor=found[limit - 1].share_id))
    return response


@router.delete("/v1/shares/{share_id}")
def end(call: Writer, share_id: str) -> JSON:
    """Revokes a link, by its id or its token: it opens nothing any more, at once. One that was revoked before stays so."""
    return _shape(call, end_share(call.catalog, share_id, call.caller))


def _place(call: Call, wanted: Wanted) -> Place:
    if wanted.run_id is not None:
        return Place(the_run(call.catalog, wanted.run_id))
    if wanted.experiment is not None:
        experiment, run = with_run(call.catalog, wanted.experiment)
        return find_place(call.catalog, run, experiment, wanted.exact_path)
    artifact = the_artifact(call.catalog, wanted.artifact_id or "")
    experiment, run = with_run(call.catalog, artifact.experiment_id)
    if not artifact.path:
        raise Conflict(f"{artifact.artifact_id} is no file: its path is not known.")
    return find_place(call.catalog, run, experiment, artifact.path)


def _shape(call: Call, share: Share) -> JSON:
    run = the_run(call.catalog, share.run_id)
    experiment = None if share.experiment_id is None else the_experiment(call.catalog, share.experiment_id)
    return share_json(share, run, experiment)
