"""Who asks, and may they: how a route says which role it needs, and what a handler is told of its caller.

    def listing(call: Reader, run_id: str) -> Response:    # also Writer, Admin
        call.catalog, call.context, call.site, call.user, call.role, call.base_url

A key in a header wins over a cookie; a cookie is no good for changes that another site's page asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Security
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection, Request

from gridkeep.api.site import Site, site_of
from gridkeep.catalog.access import Role
from gridkeep.catalog.base import Catalog
from gridkeep.errors import Forbidden
from gridkeep.model import Run
from gridkeep.runs.access import Caller, caller_with_key, caller_with_session
from gridkeep.runs.context import Context

_SAFE = ("GET", "HEAD", "OPTIONS")


class NotLetIn(Exception):
    """No key, or a wrong one; `tried` tells which."""

    def __init__(self, *, tried: bool) -> None:
        super().__init__("Invalid credentials")
        self.tried = tried


@dataclass(frozen=True, slots=True)
class Call:
    """One request of somebody who was let in."""

    request: Request
    site: Site
    caller: Caller

    @property
    def context(self) -> Context:
        return self.site.context

    @property
    def catalog(self) -> Catalog:
        return self.site.context.catalog

    @property
    def user(self) -> str:
        return self.caller.user

    @property
    def role(self) -> Role:
        return self.caller.role

    @property
    def base_url(self) -> str:
        return self.site.address(self.request)

    def address_with(self, **changed: object) -> str:
        """This request's own address on this server, with other parameters: of another page of what it lists."""
        url = self.request.url.include_query_params(**changed)
        return f"{url.path}?{url.query}"

    def next_page(self, **changed: object) -> dict[str, str]:
        """The header that leads to the next page of a listing (RFC 8288)."""
        return {"link": f'<{self.base_url}{self.address_with(**changed)}>; rel="next"'}

    def must_own(self, run: Run, doing: str) -> None:
        """Raises Forbidden unless the caller may end or delete that run."""
        if not self.caller.may_change(run):
            raise Forbidden(
                f"{run.name} belongs to {run.created_by}.", f"Only its owner or an admin {doing} it."
            )


class Needs(APIKeyHeader):
    """A dependency that lets in whoever has the role, and gives the `Call`."""

    def __init__(self, role: Role) -> None:
        super().__init__(name="x-api-key", scheme_name="key", auto_error=False)
        self._role = role

    def __call__(self, request: Request) -> Call:  # type: ignore[override]  # not async: it asks the catalog
        site = site_of(request)
        caller = find_caller(request, site)
        if not caller.role.allows(self._role):
            raise Forbidden(
                f"This needs the role {self._role}, and yours is {caller.role}.",
                f"Make a key with `grid key create --role {self._role}`.",
            )
        return Call(request, site, caller)


READER = Needs(Role.READ)  # for a handler that asks by itself
Reader = Annotated[Call, Security(READER)]
Writer = Annotated[Call, Security(Needs(Role.WRITE))]
Admin = Annotated[Call, Security(Needs(Role.ADMIN))]


def find_caller(request: Request, site: Site) -> Caller:
    """Raises NotLetIn, or Forbidden for a change that a page of another site asks for."""
    key = key_of(request)
    if key is not None:
        caller = caller_with_key(site.context.catalog, key)
    else:
        caller = None
        token = request.cookies.get(cookie_name(request))
        if token:
            caller = caller_with_session(site.context.catalog, token)
    if caller is None:
        raise NotLetIn(tried=key is not None)
    if caller.by_cookie and request.method not in _SAFE:
        refuse_other_sites(request)
    request.state.caller = caller
    return caller


def key_of(request: HTTPConnection) -> str | None:
    """The key that a request bears, if any: `x-api-key` wins over `Authorization: Bearer`."""
    key = request.headers.get("x-api-key")
    if key is not None:
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def cookie_name(connection: HTTPConnection) -> str:
    """One for each port: cookies of `localhost` are shared by all of them."""
    return f"gridkeep-{connection.url.port or connection.url.scheme}"


def refuse_other_sites(request: Request) -> None:
    """Raises Forbidden unless the page that asks is of this very origin, which every browser of today says."""
    fetched = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    same = fetched == "same-origin" or (
        fetched is None
        and origin is not None
        and _origin(origin) == _origin(site_of(request).address(request))
    )
    if not same:
        raise Forbidden("A page of another site may not ask for this.", "Use an API key.")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
