"""Experiments: those of a run, one of them, what it printed, and its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from gridkeep.api.auth import Call, Reader
from gridkeep.api.content import Chunks
from gridkeep.api.lookup import the_experiment, the_run, with_run
from gridkeep.errors import NotFound, ObjectMissing
from gridkeep.model import JSON, Run
from gridkeep.runs.logs import OutputLog
from gridkeep.stores.keys import manifest_key

router = APIRouter(tags=["experiments"])

_PAGE = 1000
_HARMLESS = {"content-security-policy": "sandbox; default-src 'none'"}


@router.get("/v1/runs/{run_id}/experiments", response_model=None, responses={200: {"model": list[JSON]}})
def of_run(
    call: Reader,
    run_id: str,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
) -> Response:
    """The experiments of a run in order of their numbers, those greater than `after`."""
    run = the_run(call.catalog, run_id)
    return StreamingResponse(_each(call, run, after, limit), media_type="application/json")


@router.get("/v1/experiments/{experiment}")
def one(call: Reader, experiment: str) -> JSON:
    """One experiment, by name or ULID."""
    return the_experiment(call.catalog, experiment).to_json()


@router.get("/v1/experiments/{experiment}/logs", response_class=Response)
def logs(
    call: Reader,
    experiment: str,
    lines: Annotated[int | None, Query(ge=1, le=10**9)] = None,
    start: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """What it has printed so far: from byte `start` on, or its last `lines`. `x-log-position` says where it begins."""
    found, run = with_run(call.catalog, experiment)
    log = OutputLog(call.context, run, found)
    log.position = start
    try:
        if lines is not None:
            log.to_last_lines(lines)
        headers = {
            **_HARMLESS,
            "content-type": "text/plain; charset=utf-8",
            "x-log-position": str(log.position),
        }
        return Chunks(_read(log), 200, headers)
    except BaseException:
        log.close()
        raise


@router.get("/v1/experiments/{experiment}/manifest", response_class=Response)
def manifest(call: Reader, experiment: str) -> Response:
    """The list of all that it wrote, with hashes: JSON lines. It is there when all of that is in the store."""
    found, run = with_run(call.catalog, experiment)
    store, key = call.context.store(run.cluster), manifest_key(found.experiment_id)
    try:
        size = store.head(key).size
        chunks = store.get(key)
    except ObjectMissing:
        raise NotFound(
            f"{found.name} has no manifest: it is {found.state}.",
            "It is written when all files are in the store.",
        ) from None
    headers = {**_HARMLESS, "content-type": "application/x-ndjson", "content-length": str(size)}
    return Chunks(iter(chunks), 200, headers, sha256=found.manifest_sha256)


def _each(call: Call, run: Run, after: int, limit: int | None) -> Iterator[bytes]:
    opening, left = b"[", limit
    while left is None or left > 0:
        page = call.catalog.experiments(
            run.run_id, after=after, limit=_PAGE if left is None else min(left, _PAGE)
        )
        if not page:
            break
        yield opening + orjson.dumps([experiment.to_json() for experiment in page])[1:-1]
        opening, after = b",", page[-1].index
        left = None if left is None else left - len(page)
    yield b"[]" if opening == b"[" else b"]"


def _read(log: OutputLog) -> Iterator[bytes]:
    with log:
        yield from log.read()
