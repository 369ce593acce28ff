"""Runs: finding, looking at, ending and deleting them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from gridkeep.api.auth import Call, Reader, Writer
from gridkeep.api.listing import shapes
from gridkeep.api.lookup import the_run
from gridkeep.api.shapes import (
    RunStatus,
    RunType,
    errors_of,
    kinds_of,
    run_item,
    run_shape,
    states_of,
    status_of,
)
from gridkeep.api.site import Site
from gridkeep.errors import Conflict, GridError
from gridkeep.model import JSON, Run, State
from gridkeep.runs.access import note
from gridkeep.runs.delete import begin
from gridkeep.runs.pick import pick
from gridkeep.runs.stop import stop

router = APIRouter(tags=["runs"])

_log = logging.getLogger("gridkeep.api")

_PAGE = 100
_ERRORS = 1000  # experiments of a failed run that are looked at for what went wrong
_SHOTS = 3  # screenshots that a run shows
_ASKED = 10.0  # seconds that the asking for a stop may take before the answer goes out without it


@router.get("/v1/runs")
def runs(
    call: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 10,
    status: Annotated[list[RunStatus] | None, Query()] = None,
    run_type: Annotated[list[RunType] | None, Query()] = None,
    search_key: Annotated[str | None, Query(max_length=200)] = None,
    everyone: Annotated[bool, Query(alias="global")] = False,
) -> list[JSON]:
    """Your runs, newest first; `global=true`: everyone's."""
    find = _Finding(call, None if everyone else call.user, status, run_type, search_key)
    return [run_item(run, call.base_url) for run in find.page(page, page_size)]


@router.get("/v1/runs/{run_id}")
def run(call: Reader, run_id: str) -> JSON:
    """One run, by id or name."""
    return _full(call, the_run(call.catalog, run_id))


@router.get("/v1/runs/{run_id}/timeline")
def timeline(call: Reader, run_id: str) -> list[JSON]:
    """The steps of a browser run, newest first; a script run has none."""
    the_run(call.catalog, run_id)
    return []


@router.post("/v1/runs/{run_id}/cancel")
def cancel(call: Writer, run_id: str) -> JSON:
    """Stops it: asked for when this answers. Its files are kept."""
    run = the_run(call.catalog, run_id)
    call.must_own(run, "ends")
    if run.state.active and run.run_id not in call.site.stopping:
        asked = threading.Event()
        threading.Thread(target=_stop, args=(call.site, run, asked), daemon=True).start()
        asked.wait(_ASKED)
    return _full(call, the_run(call.catalog, run_id))


@router.delete("/v1/runs/{run_id}", status_code=202)
def delete(call: Writer, run_id: str) -> JSON:
    """Deletes it with its artifacts. They are in no listing any more, and their links dead, when this answers with what will
    go; that goes on by itself."""
    run = the_run(call.catalog, run_id)
    call.must_own(run, "deletes")
    if run.state.active:
        raise Conflict(
            f"{run.name} is still {run.state}: what is active is not deleted.",
            f"Stop it first: POST /v1/runs/{run.run_id}/cancel.",
        )
    picked = pick(call.context, [run.run_id], "run")
    gone = {"files": run.artifacts, "bytes": run.bytes, "experiments": len(picked.experiments)}
    begin(call.context, picked)
    note(call.catalog, call.user, "run.delete", run.run_id, name=run.name, **gone)
    return {"run_id": run.run_id, "name": run.name, **gone}


def _stop(site: Site, run: Run, asked: threading.Event) -> None:
    """Sees a stop through; `asked` is set when all have been told."""
    site.stopping.add(run.run_id)
    try:
        experiments = site.context.catalog.experiments(run.run_id)
        stop(site.context, experiments, waiting=lambda _: asked.set())
    except GridError as error:
        _log.warning("a stop was not seen through", extra={"fields": {"reason": error.message}})
    finally:
        site.stopping.discard(run.run_id)
        asked.set()


def _full(call: Call, run: Run) -> JSON:
    shape = run_shape(run, call.base_url)
    if run.state is State.FAILED:
        shape["errors"] = errors_of(call.catalog.experiments(run.run_id, limit=_ERRORS))
    return shape | _pictures(call, run) if run.kind == "browser" else shape


def _pictures(call: Call, run: Run) -> JSON:
    """What Skyvern's client shows of a browser run's artifacts."""
    types = ("recording", "screenshot_action", "download")
    found = call.catalog.artifacts_by_age(run.run_id, limit=10_000, types=types)
    by_type: dict[object, list[JSON]] = {}
    for shape in shapes(call, found):
        by_type.setdefault(shape["artifact_type"], []).append(shape)
    recordings, shots = by_type.get("recording", []), by_type.get("screenshot_action", [])
    return {
        "recording_url": recordings[-1]["signed_url"] if recordings else None,
        "screenshot_urls": [shot["signed_url"] for shot in shots[: -_SHOTS - 1 : -1]],
        "downloaded_files": [
            {
                "url": file["signed_url"],
                "checksum": file["checksum"],
                "filename": str(file["path"]).rpartition("/")[2],
                "file_size": file["file_size"],
                "modified_at": file["modified_at"],
                "artifact_id": file["artifact_id"],
            }
            for file in by_type.get("download", [])
        ],
    }


class _Finding:
    """A listing of runs. Some statuses are finer than what the catalog looks for, and are picked out here."""

    def __init__(
        self,
        call: Call,
        owner: str | None,
        statuses: Sequence[str] | None,
        types: Sequence[str] | None,
        search: str | None,
    ) -> None:
        self._catalog = call.catalog
        self._statuses = None if statuses is None else set(statuses)
        self._owner = owner
        self._kinds = None if types is None else kinds_of(types)
        self._states = None if statuses is None else states_of(statuses)
        self._search = search or None

    def page(self, page: int, size: int) -> list[Run]:
        skip = (page - 1) * size
        if self._states is None or State.FAILED not in self._states:
            return self._find(skip=skip, limit=size)
        return list(islice(self._picked(), skip, skip + size))

    def _picked(self) -> Iterator[Run]:
        before: str | None = None
        while found := self._find(before=before, limit=_PAGE):
            yield from (run for run in found if self._statuses is None or status_of(run) in self._statuses)
            before = found[-1].run_id

    def _find(self, *, limit: int, before: str | None = None, skip: int = 0) -> list[Run]:
        return self._catalog.find_runs(
            owner=self._owner,
            kinds=self._kinds,
            states=self._states,
            search=self._search,
            before=before,
            skip=skip,
            limit=limit,
        )
