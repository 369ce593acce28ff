"""What a share link opens: a page for people, the bytes for programs. Nobody needs to be known here, only the link.

Which of the two is told by `Accept`: a page only where it names `text/html`. Knows no more of what lies below a link than
`runs.shares` tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Query
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from gridkeep.api.archive import answer, query_bytes
from gridkeep.api.content import bytes_of
from gridkeep.api.errors import status_of
from gridkeep.api.html import page
from gridkeep.api.shared_view import view_of
from gridkeep.api.site import site_of
from gridkeep.catalog.shares import Share
from gridkeep.errors import Gone, NotFound
from gridkeep.runs.archive import parts_of
from gridkeep.runs.shares import Place, below, open_share, top_of

router = APIRouter(tags=["shares"])

_HEADERS = {"vary": "accept", "x-robots-tag": "noindex"}


class _Rest(Convertor[str]):
    """All that is left of an address, whatever is in it (the framework's own stops at a newline)."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


@router.get("/s/{token}", response_class=Response)
@router.head("/s/{token}", response_class=Response, include_in_schema=False)
def opened(
    request: Request,
    token: str,
    download: bool = False,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """What the link leads to: a page where `Accept` names `text/html`, else its bytes (a ZIP for a folder, experiment or
    run)."""
    return _opened(request, token, lambda top: top, download=download, after=after)


@router.get("/s/{token}/raw", response_class=Response)
@router.head("/s/{token}/raw", response_class=Response, include_in_schema=False)
def raw(
    request: Request,
    token: str,
    path: Annotated[str | None, Query(max_length=10_000)] = None,
    download: bool = False,
) -> Response:
    """Its bytes in any case, or with `path` those of what lies there below it."""
    catalog, exact = site_of(request).context.catalog, query_bytes(request, "path")

    def find(top: Place) -> Place:
        return below(catalog, top, exact) if exact else top

    return _opened(request, token, find, download=download, as_bytes=True)


@router.get("/s/{token}/{path:rest}", response_class=Response)
@router.head("/s/{token}/{path:rest}", response_class=Response, include_in_schema=False)
def opened_below(
    request: Request,
    token: str,
    path: str,
    download: bool = False,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """What lies at that path below a shared folder, experiment or run, and nothing beside it."""
    catalog = site_of(request).context.catalog

    def find(top: Place) -> Place:
        exact = _exact(request, token)
        return below(catalog, top, exact) if exact else top

    return _opened(request, token, find, download=download, after=after)


def _opened(
    request: Request,
    token: str,
    find: Callable[[Place], Place],
    *,
    download: bool,
    as_bytes: bool = False,
    after: str | None = None,
) -> Response:
    context = site_of(request).context
    as_page = not as_bytes and not download and _wants_page(request)
    try:
        share = open_share(context.catalog, token)
        top = top_of(context.catalog, share)
        place = find(top)
        if _is_open(request):
            context.catalog.note_open(share.share_id, time.time())
        if as_page:
            response: Response = _page(request, token, share, top, place, after)
        elif place.artifact is not None:
            response = bytes_of(request, context, place.run.cluster, place.artifact, download=download)
        else:
            parts = parts_of(context, place.run, place.experiment, place.path)
            response = answer(request, context, parts, _file_name(place))
    except (NotFound, Gone) as error:
        if not as_page:
            raise
        return page(
            "no_share.html",
            user=None,
            status=status_of(error),
            headers=_HEADERS,
            title=error.message,
            hint=error.hint or "",
        )
    response.headers.update(_HEADERS)
    return response


def _page(
    request: Request, token: str, share: Share, top: Place, place: Place, after: str | None
) -> Response:
    site = site_of(request)
    view = view_of(site.context.catalog, f"/s/{token}", share, top, place, after)
    url = site.address(request) + (view.save if view.crumbs else f"/s/{token}")
    return page("shared.html", user=None, headers=_HEADERS, view=view, url=url)


def _is_open(request: Request) -> bool:
    """Whether this counts: who goes on with a file where they stopped, or looks at a film in parts, has opened it before."""
    wanted = request.headers.get("range", "bytes=0-").replace(" ", "")
    return request.method == "GET" and wanted.startswith("bytes=0-")


def _wants_page(request: Request) -> bool:
    for each in request.headers.get("accept", "").lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        if media == "text/html":
            return not any(part.replace(" ", "").rstrip("0.") == "q=" for part in parameters)
    return False


def _exact(request: Request, token: str) -> bytes:
    """The path after the token, byte for byte. Raises NotFound where a name in it would hold a slash."""
    before, written = f"/s/{token}/".encode(), request.scope["raw_path"]
    names = [unquote_to_bytes(name) for name in written.removeprefix(before).split(b"/")]
    if not written.startswith(before) or any(b"/" in name for name in names):
        raise NotFound("This link has nothing there.")
    return b"/".join(names)


def _file_name(place: Place) -> str:
    name = place.run.name if place.experiment is None else place.experiment.name
    last = (place.path or b"").rpartition(b"/")[2].decode(errors="replace")
    return f"{name}-{last}" if last else name
