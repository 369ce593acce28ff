"""The page of share links: what they lead to, until when, how often they were opened, and the button that ends one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from gridkeep.api.auth import Call, Reader, Writer
from gridkeep.api.html import page
from gridkeep.api.pages import PageRoute, run_of_page
from gridkeep.catalog.shares import Share
from gridkeep.model import Experiment, Run
from gridkeep.runs.shares import Place, end_share, may_end, shares_for

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_SHARES = 100  # on a page


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the page. `href` leads to where what is shared is looked at."""

    share: Share
    name: str
    href: str
    state: str
    may_end: bool


@router.get("/shares")
def shares(
    call: Reader,
    run: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[str | None, Query(pattern="^shr_[0-9a-z]{26}$")] = None,
) -> Response:
    """The links that the caller made, and those to the caller's runs (an admin: all); with `run` to that one only."""
    of = None if run is None else run_of_page(call, run)
    found = shares_for(
        call.catalog, call.caller, run_id=None if of is None else of.run_id, before=before, limit=_SHARES + 1
    )
    return page(
        "shares.html",
        user=call.user,
        run=of,
        rows=_rows(call, found[:_SHARES]),
        newest=before is None,
        older=call.address_with(before=found[_SHARES - 1].share_id) if len(found) > _SHARES else None,
    )


@router.post("/shares/{share_id}/revoke")
def revoke(call: Writer, share_id: str, run: Annotated[str | None, Query(max_length=100)] = None) -> Response:
    """Ends the link at once, and shows the page again."""
    end_share(call.catalog, share_id, call.caller)
    return RedirectResponse("/shares" if run is None else f"/shares?run={quote(run, safe='')}", 303)


def _rows(call: Call, found: list[Share]) -> list[Row]:
    """Without those of what was deleted just now."""
    runs: dict[str, Run | None] = {}
    rows, now = [], time.time()
    for share in found:
        if share.run_id not in runs:
            runs[share.run_id] = call.catalog.run(share.run_id)
        experiment = None if share.experiment_id is None else call.catalog.experiment(share.experiment_id)
        if run := runs[share.run_id]:
            state = share.state(now)
            ends = state == "live" and may_end(call.caller, share, run)
            name = Place(run, experiment, share.path).name
            rows.append(Row(share, name, _address(run, experiment), state, ends))
    return rows


def _address(run: Run, experiment: Experiment | None) -> str:
    where = f"/runs/{run.name}"
    return where if experiment is None else f"{where}/artifacts?e={experiment.index}"
