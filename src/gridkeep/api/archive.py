"""Archives: a run, an experiment, a folder or a selection as one ZIP, made while it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from gridkeep.api.auth import Call, Reader
from gridkeep.api.content import Chunks, disposition
from gridkeep.api.lookup import the_experiment, the_run
from gridkeep.errors import NotFound
from gridkeep.runs.archive import Part, make_zip, parts_of
from gridkeep.runs.context import Context
from gridkeep.runs.select import Target
from gridkeep.runs.shares import find_place

router = APIRouter(tags=["archives"])

_MANY = 10_000
Ids = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=_MANY)]
Words = Annotated[list[Annotated[str, Field(max_length=100)]], Query(max_length=_MANY)]


@router.get("/v1/runs/{run_id}/archive", response_class=Response)
@router.head("/v1/runs/{run_id}/archive", response_class=Response, include_in_schema=False)
def of_run(call: Reader, run_id: str) -> Response:
    """All files of a run that have bytes in the store, as `RUN/RUN-expN/path`, and each experiment's manifest beside its
    folder."""
    run = the_run(call.catalog, run_id)
    return answer(call.request, call.context, parts_of(call.context, run, None, None), run.name)


@router.get("/v1/experiments/{experiment}/archive", response_class=Response)
@router.head("/v1/experiments/{experiment}/archive", response_class=Response, include_in_schema=False)
def of_experiment(
    call: Reader, experiment: str, path: Annotated[str | None, Query(max_length=10_000)] = None
) -> Response:
    """Those of an experiment as `RUN-expN/path`; with `path` only what is at or under it."""
    found = the_experiment(call.catalog, experiment)
    run = the_run(call.catalog, found.run_id)
    under = query_bytes(call.request, "path")
    place = find_place(call.catalog, run, found, under)
    parts = parts_of(call.context, run, found, place.path)
    return answer(call.request, call.context, parts, found.name)


class Wanted(BaseModel):
    """What is to be in the archive: artifacts, and all of some experiments."""

    artifact_ids: Ids = []
    experiments: Ids = []


@router.get("/v1/archive", response_class=Response)
def selected(call: Reader, artifact_id: Words = [], experiment: Words = []) -> Response:  # noqa: B006 - FastAPI copies it
    """A selection: `artifact_id` and `experiment` may be repeated. As `RUN-expN/path`."""
    return _selection(call, Wanted(artifact_ids=artifact_id, experiments=experiment))


@router.post("/v1/archive", response_class=Response)
def selected_many(call: Reader, wanted: Wanted) -> Response:
    """The same for a selection too long for an address."""
    return _selection(call, wanted)


def _selection(call: Call, wanted: Wanted) -> Response:
    parts = list(_parts(call, wanted))
    names = {part.target.experiment.name for part in parts}
    return answer(call.request, call.context, parts, names.pop() if len(names) == 1 else "selection")


def _parts(call: Call, wanted: Wanted) -> Iterator[Part]:
    """Raises NotFound unless all is there."""
    whole = {
        found.experiment_id: found for found in (the_experiment(call.catalog, n) for n in wanted.experiments)
    }
    single: dict[str, set[str]] = {}
    for artifact in call.catalog.artifacts_by_id(wanted.artifact_ids):
        single.setdefault(artifact.experiment_id, set()).add(artifact.artifact_id)
    if lacking := set(wanted.artifact_ids).difference(*single.values()):
        raise NotFound(f"Artifact not found {min(lacking)}")
    if not whole and not single:
        raise NotFound("Nothing was selected.", "Name artifacts or experiments.")
    for ulid in sorted({*whole, *single}):
        experiment = whole.get(ulid) or the_experiment(call.catalog, ulid)
        target = Target(the_run(call.catalog, experiment.run_id), experiment, (experiment.name,))
        yield Part(target, only=None if ulid in whole else frozenset(single[ulid]))


def answer(request: Request, context: Context, parts: Iterable[Part], name: str) -> Response:
    """The ZIP, as it is made. Whether the request may have it, the caller has seen to."""
    headers = {
        "content-type": "application/zip",
        "content-disposition": disposition("attachment", f"{name}.zip".encode()),
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return Chunks(make_zip(context, parts), 200, headers)


def query_bytes(request: Request, name: str) -> bytes | None:
    """A parameter of the address, byte for byte: paths need not be UTF-8."""
    text = request.scope["query_string"].decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
    return next((value.encode("latin-1") for each, value in pairs if each == name), None)
