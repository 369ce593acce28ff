"""Letting a browser in: with a one-time link, or with a key typed here. It gets a cookie that scripts cannot read."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gridkeep.api.auth import NotLetIn, Reader, cookie_name, refuse_other_sites
from gridkeep.api.html import page
from gridkeep.api.site import Site, site_of
from gridkeep.model import JSON
from gridkeep.runs.access import (
    Caller,
    caller_with_code,
    caller_with_key,
    end_session,
    make_login_code,
    open_session,
)

router = APIRouter(tags=["login"])

_LONGEST = 2000  # characters of the address to go on to


@router.get("/login", response_class=HTMLResponse)
def login_page(
    request: Request,
    code: Annotated[str | None, Query(max_length=200)] = None,
    following: Annotated[str, Query(alias="next", max_length=_LONGEST)] = "/",
) -> Response:
    """With a `code`, the one-time code of a link: lets in. Without: a page to type a key in, which leads to `next` then."""
    site = site_of(request)
    if code is None:
        return _form(request, "Type a key to come in.", following=following)
    caller = caller_with_code(site.context.catalog, code)
    if caller is None:
        return _form(request, "This link was used before, or has ended.", 403)
    response = page("onward.html", user=None, said="You are in.", url="/")
    _let_in(request, site, caller, response)
    return response


@router.post("/login", response_class=HTMLResponse)
async def log_in(request: Request) -> Response:
    """The form of the page: `key`, and `next`."""
    refuse_other_sites(request)
    site = site_of(request)
    form = parse_qs((await request.body()).decode(errors="replace"))
    key = form.get("key", [""])[0].strip()
    following = form.get("next", ["/"])[0]
    caller = await run_in_threadpool(caller_with_key, site.context.catalog, key)
    if caller is None:
        await site.throttle.wait(request.client.host if request.client else "")
        return _form(request, "That is no key, or no longer one.", 403, following=following)
    response = RedirectResponse(_own(following), 303)
    await run_in_threadpool(_let_in, request, site, caller, response)
    return response


@router.post("/logout", response_class=RedirectResponse)
def log_out(request: Request) -> Response:
    """Ends the browser's session."""
    refuse_other_sites(request)
    name = cookie_name(request)
    if token := request.cookies.get(name):
        end_session(site_of(request).context.catalog, token)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(name, path="/", httponly=True, samesite="strict")
    return response


@router.post("/v1/login-links")
def login_link(call: Reader) -> JSON:
    """A link that lets one browser in as the caller, once; for `grid login`."""
    if call.caller.by_cookie:
        raise NotLetIn(tried=False)
    code = make_login_code(call.catalog, call.caller, call.context.settings.login_code_ttl)
    return {"url": f"{call.base_url}/login?code={code}"}


def _let_in(request: Request, site: Site, caller: Caller, response: Response) -> None:
    ttl = site.context.settings.session_ttl
    response.set_cookie(
        cookie_name(request),
        open_session(site.context.catalog, caller, ttl),
        max_age=int(ttl),
        path="/",
        secure=site.address(request).startswith("https:"),
        httponly=True,
        samesite="strict",
    )


def _form(request: Request, said: str, status: int = 200, *, following: str = "/") -> Response:
    address = site_of(request).address(request)
    return page(
        "login.html",
        user=None,
        status=status,
        said=said,
        wrong=status != 200,
        next=_own(following),
        address=address,
    )


def _own(following: str) -> str:
    """An address on this server, whatever was asked for."""
    own = re.fullmatch(r"/(?![/\\])[!-~]*", following)
    return following if own and len(following) <= _LONGEST else "/"
