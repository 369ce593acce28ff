"""The pages for people: runs, a run's experiments, the artifacts of those that are selected.

Each is whole without scripts: check boxes and a button, links to the next page. With them, folders open in place and what
changes shows itself. A stranger is led to the login page; what goes wrong is said on a page.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter, Form, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gridkeep.api.archive import query_bytes
from gridkeep.api.auth import Call, NotLetIn, Reader, Writer
from gridkeep.api.errors import status_of
from gridkeep.api.html import page
from gridkeep.api.lookup import find_run, the_artifact, the_experiment
from gridkeep.errors import Conflict, GridError, NotFound
from gridkeep.model import Experiment, Run, State, iso
from gridkeep.runs.shares import Place, find_place, lifetime, make_share
from gridkeep.runs.shares import link as link_to
from gridkeep.terminal import printable
from gridkeep.web.pages import static
from gridkeep.web.tree import listing

_RUNS = 50  # on a page
_EXPERIMENTS = 200
_TREES = 20  # experiments whose artifacts are on one page
_COLUMNS = 8  # parameters in the table of experiments
_NAMED = 50  # experiments in an address
_FOREVER = "public, max-age=31536000, immutable"


class PageRoute(APIRoute):
    """Answers what goes wrong with a page, and strangers with the way in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NotLetIn as error:
                if error.tried or request.method != "GET":
                    raise
                where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                if (
                    request.headers.get("sec-fetch-site") == "cross-site"
                ):  # the cookie may come if we ask ourselves
                    return page("onward.html", user=None, said="One moment.", url=where)
                return RedirectResponse(f"/login?next={quote(where, safe='')}", 303)
            except RequestValidationError:
                return _trouble(request, 422, "This address is not one that is understood here.", None)
            except GridError as error:
                return _trouble(request, status_of(error), error.message, error.hint)

        return answer


router = APIRouter(include_in_schema=False, route_class=PageRoute)


def _trouble(request: Request, status: int, message: str, hint: str | None) -> Response:
    caller = getattr(request.state, "caller", None)
    user = None if caller is None else caller.user
    return page("trouble.html", user=user, status=status, message=message, hint=hint)


@router.get("/")
def runs(
    call: Reader,
    q: Annotated[str, Query(max_length=200)] = "",
    state: Literal["", "queued", "running", "syncing", "completed", "failed", "stopped"] = "",
    kind: Literal["", "script", "browser"] = "",
    who: Literal["", "me"] = "",
    before: Annotated[str | None, Query(pattern="^[a-z]{1,5}_[0-9a-z]{26}$")] = None,
) -> Response:
    """Everybody's runs, newest first."""
    live = call.catalog.last_change()
    found = call.catalog.find_runs(
        owner=call.user if who else None,
        kinds=[kind] if kind else None,
        states=[State(state)] if state else None,
        search=q or None,
        before=before,
        limit=_RUNS + 1,
    )
    active = call.catalog.count_runs(active=True)
    return page(
        "runs.html",
        user=call.user,
        live=live,
        runs=found[:_RUNS],
        asked={"q": q, "state": state, "kind": kind, "who": who},
        states=[str(one) for one in State],
        total=active + call.catalog.count_runs(active=False),
        active=active,
        newest=before is None,
        older=call.address_with(before=found[_RUNS - 1].run_id) if len(found) > _RUNS else None,
    )


@router.get("/runs/{run_id}")
def run(call: Reader, run_id: str, after: Annotated[int, Query(ge=-1, le=2**53)] = -1) -> Response:
    """One run, and its experiments to select from."""
    live = call.catalog.last_change()
    found = run_of_page(call, run_id)
    experiments = call.catalog.experiments(found.run_id, after=after, limit=_EXPERIMENTS + 1)
    shown = experiments[:_EXPERIMENTS]
    names = list(dict.fromkeys(name for one in shown for name in one.params))
    return page(
        "run.html",
        user=call.user,
        live=live,
        run=found,
        experiments=shown,
        names=names[:_COLUMNS],
        following=call.address_with(after=shown[-1].index) if len(experiments) > _EXPERIMENTS else None,
    )


@router.get("/runs/{run_id}/artifacts")
def artifacts(
    call: Reader,
    run_id: str,
    e: Annotated[list[Annotated[int, Field(ge=0, le=2**53)]] | None, Query(max_length=10_000)] = None,
    begin: Annotated[int, Query(alias="from", ge=0, le=2**53)] = 0,
) -> Response:
    """The artifacts of the selected experiments (`e`, their numbers), a tree for each; of all, where none is selected."""
    live = call.catalog.last_change()
    found = run_of_page(call, run_id)
    if e is None:
        selected = call.catalog.experiments(found.run_id, after=begin - 1, limit=_TREES)
        following = selected[-1].index + 1 if len(selected) == _TREES else None
    else:
        chosen = list(dict.fromkeys(e))
        experiments = [
            call.catalog.experiment(f"{found.name}-exp{i}") for i in chosen[begin : begin + _TREES]
        ]
        selected = [one for one in experiments if one is not None]
        following = begin + _TREES if len(chosen) > begin + _TREES else None
    if not selected:
        raise NotFound(f"{found.name} has no such experiments.", "Go back to the run and select some.")
    return page(
        "artifacts.html",
        user=call.user,
        live=live,
        run=found,
        count=found.experiments if e is None else len(chosen),
        trees=[(one, listing(call.catalog, one.experiment_id)) for one in selected],
        may_share=call.caller.may_change(found),
        archive=_archive(found, None if e is None else chosen),
        following=call.address_with(**{"from": following}) if following else None,
    )


@router.get("/experiments/{experiment}/files")
def files(call: Reader, experiment: str) -> Response:
    """One folder of an experiment. `path` is its path with a slash at its end, `after` and `id` where to go on."""
    live = call.catalog.last_change()
    found = _experiment(call, experiment)
    of_run = run_of_page(call, found.run_id)
    folder, after = query_bytes(call.request, "path") or b"", query_bytes(call.request, "after")
    if folder and not folder.endswith(b"/"):
        folder += b"/"
    mark = None if after is None else (after, call.request.query_params.get("id", ""))
    return page(
        "files.html",
        user=call.user,
        live=live,
        run=of_run,
        experiment=found,
        folder=folder,
        listing=listing(call.catalog, found.experiment_id, folder, mark),
        may_share=call.caller.may_change(of_run),
    )


@router.post("/links")
def link(call: Writer, of: Annotated[str, Form(max_length=20_000)]) -> Response:
    """A fresh link to a file, a folder, an experiment or a run: `art_…`, `EXPERIMENT/PATH` as in an address, or a name."""
    place = _place(call, of)
    call.must_own(place.run, "shares")
    ttl = lifetime(call.context.settings, None)
    share, token = make_share(call.catalog, place, by=call.user, ttl=ttl)
    url = link_to(call.base_url, token)
    if "text/html" not in call.request.headers.get("accept", ""):
        return JSONResponse({"link": url, "of": place.name, "expires_at": iso(share.expires_at)}, 201)
    return page(
        "link.html",
        user=call.user,
        status=201,
        name=place.name,
        link=url,
        ends=share.expires_at,
        back=f"/runs/{place.run.name}",
    )


@router.get("/static/{version}/{name}", response_model=None)
def static_file(version: str, name: str) -> Response:
    """Style and scripts. They are no secret."""
    found = static(name)
    if found is None:
        raise NotFound(f"There is no {name}.")
    headers = {"cache-control": _FOREVER} if version == found.version else {}
    return Response(found.content, media_type=found.media, headers=headers)


def run_of_page(call: Call, name: str) -> Run:
    """Raises NotFound, in the words of a page."""
    run = find_run(call.catalog, name)
    if run is None:
        raise NotFound(f"There is no run {name}.", "It may have been deleted.")
    return run


def _experiment(call: Call, name: str) -> Experiment:
    try:
        return the_experiment(call.catalog, name)
    except NotFound:
        raise NotFound(f"There is no experiment {name}.", "It may have been deleted.") from None


def _place(call: Call, of: str) -> Place:
    """Raises NotFound, or Conflict for a file without bytes."""
    if of.startswith("art_"):
        artifact = the_artifact(call.catalog, of)
        experiment = _experiment(call, artifact.experiment_id)
        if not artifact.downloadable:
            raise Conflict(f"{printable(artifact.path or b'')} has no bytes in the store yet.")
        return Place(run_of_page(call, experiment.run_id), experiment, artifact.path, artifact)
    name, _, encoded = of.partition("/")
    path = unquote_to_bytes(encoded)
    if not path and (run := find_run(call.catalog, name)):
        return Place(run)
    if path and not path.strip(b"/"):
        raise NotFound("There is no link to all that lies outside.", "Make one to a folder in it.")
    experiment = _experiment(call, name)
    return find_place(call.catalog, run_of_page(call, experiment.run_id), experiment, path)


def _archive(run: Run, chosen: list[int] | None) -> str | None:
    """Where the selected experiments are one ZIP; None for more than an address can name."""
    if chosen is None:
        return f"/v1/runs/{run.name}/archive"
    names = "&".join(f"experiment={run.name}-exp{i}" for i in chosen)
    return f"/v1/archive?{names}" if len(chosen) <= _NAMED else None
