"""What a server's handlers work with: the open home, links, how strangers are slowed down, its own address.

There is one for each server. It holds nothing that would be missed when the server is killed.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.requests import HTTPConnection

from gridkeep.api.feed import Feed
from gridkeep.api.options import LOOPBACK
from gridkeep.api.places import Places
from gridkeep.api.throttle import Throttle
from gridkeep.runs.context import Context
from gridkeep.runs.links import Links


@dataclass
class Site:
    """`url` is the address that people use, where it is not the one that requests come to (a proxy in front)."""

    context: Context
    links: Links
    url: str | None = None
    hosts: frozenset[str] = frozenset(LOOPBACK)  # names that the server answers to
    any_address: bool = False  # answers to every literal IP address as well
    places: Places = field(init=False)
    feed: Feed = field(init=False)
    throttle: Throttle = field(default_factory=Throttle)
    stopping: set[str] = field(default_factory=set)  # runs that are being stopped, by run_id
    closing: threading.Event = field(default_factory=threading.Event)  # set when the server is told to end

    def __post_init__(self) -> None:
        self.places = Places(self.context.catalog)
        self.feed = Feed(self.context, self.places, self.closing)

    def answers_to(self, host: str) -> bool:
        """Whether a request may name this host (without a port). A stranger's page whose name
        leads here by DNS may not."""
        return host.lower().rstrip(".") in self.hosts or (self.any_address and _is_address(host))

    def address(self, connection: HTTPConnection) -> str:
        """The server's own address as the client knows it, without a slash at its end."""
        return self.url or f"{connection.url.scheme}://{connection.url.netloc}"


def site_of(connection: HTTPConnection) -> Site:
    site: Site = connection.app.state.site
    return site


def host_names(bound: str, url_host: str | None) -> frozenset[str]:
    """The names that a server bound to an address answers to."""
    own = {socket.gethostname().lower()} if bound not in LOOPBACK else set()
    return frozenset({*LOOPBACK, *own, bound.lower(), *([url_host.lower()] if url_host else [])})


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
