"""The process of `grid serve`: binding, serving, seeing to it that work is done, and ending in order.

Whatever it is doing it may be killed: runs go on, clients come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import uvicorn
from starlette.concurrency import run_in_threadpool

from gridkeep.api.app import make_app
from gridkeep.api.observe import log_to
from gridkeep.api.options import LOOPBACK, Options, check
from gridkeep.api.site import Site, host_names
from gridkeep.catalog.access import Role
from gridkeep.errors import GridError, HomeError
from gridkeep.runs import dispatch
from gridkeep.runs.access import Caller, make_login_code
from gridkeep.runs.context import Context
from gridkeep.runs.links import Links
from gridkeep.runs.servers import announced
from gridkeep.runs.uploads import drop_old

_RECOVER_EVERY = 3.0  # seconds between two looks for work that nobody does
_TIDY_EVERY = 3600.0
_AFTER_GRACE = 2.0  # in which those who were cut off are let go of
_BACKLOG = 1024

_log = logging.getLogger("gridkeep.server")


def serve(context: Context, options: Options, announce: Callable[[str, str], None]) -> int:
    """Serves until it is told to end; the exit status. `announce` is told the address and a link that lets one browser in as
    the owner of the home. Raises UsageError, GridError where the address cannot be had."""
    check(options)
    _check_certificate(options)
    listener = _bind(options.host, options.port)
    scheme = "https" if options.tls_cert else "http"
    name = f"[{options.host}]" if ":" in options.host else options.host
    address = options.url or f"{scheme}://{name}:{listener.getsockname()[1]}"
    site = Site(
        context,
        Links(context),
        url=options.url and options.url.rstrip("/"),
        hosts=host_names(options.host, urlsplit(address).hostname),
        any_address=options.host not in LOOPBACK,
    )
    owner = Caller(context.user, Role.ADMIN)
    code = make_login_code(context.catalog, owner, context.settings.login_code_ttl)
    log_to()
    server = _Server(_config(site, options), site)
    server.beside = lambda: _recovering(server, context)
    _log.info("serving", extra={"fields": {"host": options.host, "port": listener.getsockname()[1]}})
    gc.freeze()  # what is loaded stays: to look through it again and again cost a tenth of a busy server's time
    with announced(context.home, address):
        announce(address, f"{address.rstrip('/')}/login?code={code}")
        server.run([listener])
    return server.status


def _check_certificate(options: Options) -> None:
    """Raises GridError when it cannot be used."""
    if options.tls_cert:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or error
            raise GridError(
                f"The certificate {options.tls_cert} with the key {options.tls_key} cannot be used: {reason}.",
                "Both are PEM files, and the key is that of the certificate.",
            ) from None


def _config(site: Site, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        lambda: None,  # the application comes with the server, which it knows
        http="httptools",
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=options.behind_proxy,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        timeout_graceful_shutdown=round(site.context.settings.shutdown_grace + _AFTER_GRACE),
        backlog=_BACKLOG,
    )


class _Server(uvicorn.Server):
    """uvicorn's, which tells the site when it is to end, and leaves with an exit status instead of a signal."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self.status = 0
        self.beside: Callable[[], contextlib.AbstractAsyncContextManager[None]] | None = None
        self._site = site
        config.app = make_app(site, lambda: self.beside())  # type: ignore[misc]

    def end(self) -> None:
        """In order: what is under way may finish within the grace; told a second time, it is cut off at once."""
        grace = 0.0 if self.should_exit else self._site.context.settings.shutdown_grace
        asyncio.get_running_loop().call_later(grace, self._cut_off)
        self.should_exit = True
        self._site.closing.set()

    def _cut_off(self) -> None:
        """For whatever still answers them, all clients go away now."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        yield


@contextlib.asynccontextmanager
async def _recovering(server: _Server, context: Context) -> AsyncIterator[None]:
    """Looks for queued or orphaned work all the time, as every command does once."""
    task = asyncio.create_task(_recover(server, context))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _recover(server: _Server, context: Context) -> None:
    tidy_at = 0.0
    while True:
        try:
            if time.monotonic() >= tidy_at:
                await run_in_threadpool(drop_old, context.home)
                tidy_at = time.monotonic() + _TIDY_EVERY
            if await run_in_threadpool(_look, context):
                _log.info("started the engine")
        except HomeError as error:  # whoever starts us again opens what is there now, or is the newer one
            _log.error("leaving", extra={"fields": {"reason": error.message}})
            server.status = 1
            server.end()
            return
        except (GridError, OSError) as error:
            _log.warning("cannot look for work", extra={"fields": {"reason": str(error)}})
        await asyncio.sleep(_RECOVER_EVERY)


def _look(context: Context) -> bool:
    """Raises HomeError when the catalog is another one by now, or a newer version's."""
    if context.catalog.is_newer():
        raise HomeError("A newer gridkeep has taken over the catalog.", "Start its `grid serve`.")
    return dispatch.wake(context.home, context.catalog)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # who comes before we serve waits
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GridError(
            f"{host}:{port} cannot be served: {reason}.", "Choose another with --host and --port."
        ) from None
    return listener
