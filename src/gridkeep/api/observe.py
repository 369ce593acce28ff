"""What a server tells of itself to whoever runs it: a line of JSON for each request, and figures for Prometheus.

Neither ever holds a key, a signature or a token: a request is named by its route, not by its address.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from typing import TextIO

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gridkeep.model import iso

_log = logging.getLogger("gridkeep.api.requests")
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Figures:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self.requests = Counter("gridkeep_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "gridkeep_request_seconds",
            "From a request's head to the last byte of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.sent = Counter("gridkeep_sent_bytes", "Bytes of bodies sent.", ["route"], registry=self.registry)
        self.under_way = Gauge("gridkeep_requests_under_way", "Requests now.", registry=self.registry)


class Observed:
    """The outermost ASGI application: counts and logs each request when it has ended."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, sent = 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self._figures.under_way.inc()
        try:
            await self._app(scope, receive, counting)
        except asyncio.CancelledError:
            _log.warning("given up, as the server ends")  # nobody else cancels; its client has gone
        finally:
            self._figures.under_way.dec()
            self._tell(scope, status, sent, time.perf_counter() - begun)

    def _tell(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._figures.requests.labels(method, route, status).inc()
        self._figures.seconds.labels(route).observe(seconds)
        self._figures.sent.labels(route).inc(sent)
        caller = scope.get("state", {}).get("caller")
        client = scope.get("client")
        fields = {
            "method": method,
            "route": route,
            **{name: value for name, value in scope.get("path_params", {}).items() if name in _NAMED},
            "status": status,
            "ms": round(seconds * 1000, 2),
            "bytes": sent,
            "client": client[0] if client else None,
            "user": caller.user if caller else None,
            "key": caller.key_id if caller else None,
        }
        _log.info("request", extra={"fields": fields})


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NAMED = ("run_id", "experiment", "artifact_id")  # parts of an address that may be told


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        shape = {"at": iso(record.created), "level": record.levelname.lower(), "event": record.getMessage()}
        shape |= getattr(record, "fields", {})
        if record.exc_info:
            shape["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(shape, default=str).decode()


def log_to(stream: TextIO = sys.stderr) -> None:
    """Sends what this package and uvicorn log to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name, level in (("gridkeep", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
