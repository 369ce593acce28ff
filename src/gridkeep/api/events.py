"""Server-sent events: every change of the catalog, and all that happens to one experiment.

The ids of the first stream are change numbers; those of the second are `CHANGE-POSITION`, the position being that in the
output log. A client that was cut off sends the last id that it saw (`Last-Event-ID`, as browsers do) and misses nothing.
Whoever may read may read everybody's runs, so all see the same events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gridkeep.api.auth import Reader
from gridkeep.api.channel import Channel
from gridkeep.api.content import disconnected
from gridkeep.api.feed import HEARTBEAT, Feed, message
from gridkeep.api.lookup import the_experiment, the_run
from gridkeep.api.site import Site
from gridkeep.errors import GridError
from gridkeep.model import JSON, Artifact, Experiment

router = APIRouter(tags=["events"])

Kind = Literal["experiment", "artifact", "run_deleted", "experiment_deleted"]
LastEventId = Annotated[str | None, Header(max_length=60)]

_PATIENCE = 60.0  # seconds that a follower may take to read what it was sent
_PAGE = 200
_LONGEST_LINE = 1 << 16  # bytes; one that is longer comes in parts

_log = logging.getLogger("gridkeep.api")


@router.get("/v1/events", response_model=None, responses={200: {"content": {"text/event-stream": {}}}})
def events(
    call: Reader,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    kind: Annotated[list[Kind] | None, Query()] = None,
    run: Annotated[str | None, Query(max_length=100)] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Every change since number `after` (or since `Last-Event-ID`, which wins), then each as it comes. Of a thing that
    changed several times only the newest change is told. `kind` (may be repeated) and `run` tell of some only."""
    if last_event_id is not None and re.fullmatch(r"\d{1,16}", last_event_id):
        after = int(last_event_id)
    run_id = None if run is None else the_run(call.catalog, run).run_id
    return EventStream(_changes(call.site.feed, after, kind, run_id))


@router.get(
    "/v1/experiments/{experiment}/events",
    response_model=None,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def of_experiment(call: Reader, experiment: str, last_event_id: LastEventId = None) -> Response:
    """What happens to one experiment: `experiment` when its state or its totals change, `artifact`, `output` (`text`, and
    the `position` in the log that it reaches), `experiment_deleted`; and `end` when it is final and all was told. First
    come the artifacts that there are, its state and all that it printed, or what is new since `Last-Event-ID`."""
    found = the_experiment(call.catalog, experiment)
    seen = re.fullmatch(r"(\d{1,16})-(\d{1,16})(-end)?", last_event_id or "")
    if seen and seen[3] and not found.state.active:
        return Response(status_code=204)  # it was told all: a browser does not ask again
    follower = _Follower(call.site, found.experiment_id, *(map(int, seen.groups()[:2]) if seen else (0, 0)))
    return EventStream(follower.events())


class EventStream(Response):
    """An answer that lasts: what the iterator gives is sent at once. A client that does not read is cut off."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})  # a proxy is to pass it on at once
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _send_all(self, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._pieces) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    async with asyncio.timeout(_PATIENCE):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            _log.info("a follower that does not read was cut off")
            return
        except GridError as error:  # it comes again
            _log.warning("events cannot be read", extra={"fields": {"reason": error.message}})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _changes(
    feed: Feed, after: int, kinds: Sequence[str] | None, run_id: str | None
) -> AsyncIterator[bytes]:
    yield b": changes\n\n"
    told = after
    async with contextlib.aclosing(feed.follow(after)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            if not batch:
                yield b"id: %d\n\n" % told  # a heartbeat: no event, but a client remembers the number
            told = batch[-1].number if batch else told
            chosen = [
                event.text()
                for event in batch
                if (kinds is None or event.kind in kinds)
                and (run_id is None or event.run_id in (None, run_id))
            ]
            if chosen:
                yield b"".join(chosen)


class _Follower:
    """One follower of one experiment."""

    def __init__(self, site: Site, experiment_id: str, change: int, position: int) -> None:
        self._feed = site.feed
        self._closing = site.closing
        self._catalog = site.context.catalog
        self._experiment_id = experiment_id
        self._change = change
        self._position = position  # up to which the output was told
        self._final = self._deleted = False

    async def events(self) -> AsyncIterator[bytes]:
        yield b": events\n\n"
        async with self._feed.followed(self._experiment_id) as channel:
            assert channel is not None
            async for piece in self._so_far():
                yield piece
            while not self._closing.is_set() and not self._deleted:
                turn, final, told = channel.news.turn(), self._final, False
                async for piece in self._news():
                    told = True
                    yield piece
                if printed := await self._printed(channel, final):
                    told = True
                    yield printed
                if final and not told:
                    yield _message("end", {}, f"{self._id}-end")
                    return
                if not told and not await turn.wait(HEARTBEAT):
                    yield b": \n\n"

    @property
    def _id(self) -> str:
        return f"{self._change}-{self._position}"

    async def _so_far(self) -> AsyncIterator[bytes]:
        """Its state, and its artifacts that have changed since the number that the follower has seen. They come in order of
        their paths: only with the last one does the follower get a number to go on from."""
        seen, now = self._change, await run_in_threadpool(self._catalog.last_change)
        seen = seen if seen <= now else 0
        experiment = await run_in_threadpool(self._catalog.experiment, self._experiment_id)
        page = [] if experiment is None else await self._page(None)
        while page and experiment:
            shapes = (one.to_json(experiment.name) for one in page if one.change > seen)
            if text := b"".join(_message("artifact", {"artifact": shape}, None) for shape in shapes):
                yield text
            last = (page[-1].path or b"", page[-1].artifact_id)
            page = await self._page(last)
        self._change = now
        if experiment is not None:
            yield self._state_of(experiment)

    async def _page(self, after: tuple[bytes, str] | None) -> list[Artifact]:
        async with self._feed.readers:
            return await run_in_threadpool(
                self._catalog.artifacts, self._experiment_id, after=after, limit=_PAGE
            )

    def _state_of(self, experiment: Experiment) -> bytes:
        self._final = not experiment.state.active
        return _message("experiment", {"experiment": experiment.to_json()}, self._id)

    async def _news(self) -> AsyncIterator[bytes]:
        """What has changed since."""
        while True:
            batch, upto = await self._feed.since(self._change)
            for event in batch:
                if event.experiment_id == self._experiment_id:
                    self._change = event.number
                    self._final = self._final if event.state is None else not event.state.active
                    self._deleted = event.kind == "experiment_deleted"
                    yield event.text(self._id)
            if upto == self._change and not batch:
                return
            self._change = upto

    async def _printed(self, channel: Channel, final: bool) -> bytes | None:
        """Whole lines of output that are new; the last one may lack its end."""
        piece = channel.at_hand(self._position)
        if piece is None:
            piece = await run_in_threadpool(channel.piece, self._position)
        whole = piece.rfind(b"\n") + 1
        if not whole and (final or len(piece) >= _LONGEST_LINE):
            whole = len(piece)
        if not whole:
            return None
        self._position += whole
        text = piece[:whole].decode(errors="replace")
        return _message("output", {"position": self._position, "text": text}, self._id)


def _message(kind: str, data: JSON, id_: str | None) -> bytes:
    return message(kind, orjson.dumps({"kind": kind, **data}), id_)
