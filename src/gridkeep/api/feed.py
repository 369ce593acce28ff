"""The catalog's changes as events, read once for all who follow them.

One task reads what is new and keeps the latest events; a follower is no more than the number it has come to. Whoever is
further behind than what is kept (just come, or slow) reads the catalog until it has caught up. So nobody waits for another,
nobody misses a number, and memory does not grow with followers. The task is there while anybody follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import orjson
from starlette.concurrency import run_in_threadpool

from gridkeep.api.channel import Channel, Signal
from gridkeep.api.places import Places
from gridkeep.errors import GridError
from gridkeep.model import JSON, State
from gridkeep.runs.context import Context

HEARTBEAT = 15.0  # seconds of silence after which a follower is told that all is well
_TICK = 0.1  # seconds between two looks
_PAUSE = 1.0  # the same after one that failed
_KEPT = 2000  # events, at least
_PAGE = 200
_READERS = 4  # followers that read the catalog at once

_log = logging.getLogger("gridkeep.api")


@dataclass(frozen=True, slots=True)
class Event:
    """One change: of an experiment, an artifact, or that a run or experiment was deleted."""

    number: int
    kind: str
    id: str
    run_id: str | None  # not known of an experiment that was deleted
    experiment_id: str | None
    state: State | None  # of an experiment
    data: bytes

    def text(self, id_: str | None = None) -> bytes:
        """As it is sent, under its number or another id."""
        return message(self.kind, self.data, str(self.number) if id_ is None else id_)


class Feed:
    """Of one server. All but `_read` belongs to the event loop. `readers` lets few followers read the catalog at once."""

    def __init__(self, context: Context, places: Places, closing: threading.Event) -> None:
        self._context = context
        self._places = places
        self._closing = closing
        self._news = Signal()
        self._channels: dict[str, Channel] = {}
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self.readers = asyncio.Semaphore(_READERS)
        self._events: list[Event] = []  # all there are after `_first`, up to `_last`
        self._first = self._last = 0

    async def follow(self, after: int) -> AsyncIterator[list[Event]]:
        """Every change after that number, then each as it comes, until the server ends; an empty list is a heartbeat. A
        number that the catalog has not given out is of another catalog: then everything comes."""
        async with self.followed():
            at = after if after <= await run_in_threadpool(self._context.catalog.last_change) else 0
            while not self._closing.is_set():
                turn, before = self._news.turn(), at
                events, at = await self.since(at)
                if events:
                    yield events
                elif at == before and not await turn.wait(HEARTBEAT):
                    yield []

    @contextlib.asynccontextmanager
    async def followed(self, experiment_id: str | None = None) -> AsyncIterator[Channel | None]:
        """While inside, changes are read; with an experiment, its output as well. Raises GridError."""
        self._followers += 1
        try:
            if self._task is None:
                last = await run_in_threadpool(self._context.catalog.last_change)
                if self._task is None:
                    self._events, self._first, self._last = [], last, last
                    self._task = asyncio.create_task(self._run())
            if experiment_id is None:
                yield None
            else:
                async with self._channel(experiment_id) as channel:
                    yield channel
        finally:
            self._followers -= 1
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def since(self, at: int) -> tuple[list[Event], int]:
        """A part of the events after number `at`, and how far they reach. Raises GridError."""
        if at >= self._first:
            begin = bisect_right(self._events, at, key=lambda event: event.number)
            events = self._events[begin : begin + _PAGE]
            return events, events[-1].number if events else at
        async with self.readers:
            reached = self._last
            events, upto = await run_in_threadpool(self._read, at)
        return events, max(at, reached if upto is None else upto, events[-1].number if events else 0)

    @contextlib.asynccontextmanager
    async def _channel(self, experiment_id: str) -> AsyncIterator[Channel]:
        channel = self._channels.get(experiment_id)
        if channel is None:
            opened = await run_in_threadpool(Channel, self._context, experiment_id)
            channel = self._channels.setdefault(experiment_id, opened)
        channel.followers += 1
        try:
            yield channel
        finally:
            channel.followers -= 1
            if not channel.followers:
                self._channels.pop(experiment_id, None)
                await run_in_threadpool(channel.close)

    # -------------------------------------------------------------------------------------------------------- reading

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                full = await self._look()
            except GridError as error:
                _log.warning("cannot follow the catalog", extra={"fields": {"reason": error.message}})
                full = await asyncio.sleep(_PAUSE, False)
            await asyncio.sleep(0 if full else _TICK)
        for channel in self._channels.values():
            channel.news.tell()
        self._news.tell()

    async def _look(self) -> bool:
        """Takes what is new; whether there is more at once."""
        channels = list(self._channels.values())
        events, upto = await run_in_threadpool(self._read, self._last)
        printed = await run_in_threadpool(lambda: [channel.look() for channel in channels])
        if events:
            self._events += events
            self._last = events[-1].number
            if len(self._events) > 2 * _KEPT:
                self._first = self._events[-_KEPT - 1].number
                del self._events[:-_KEPT]
            self._news.tell()
        if upto is not None:
            self._last = max(self._last, upto)
        for event in events:
            if event.experiment_id in self._channels:
                self._channels[event.experiment_id].told(event.state)
        for channel, new in zip(channels, printed, strict=True):
            if new:
                channel.news.tell()
        return upto is not None

    def _read(self, after: int) -> tuple[list[Event], int | None]:
        """A page of changes; and when there may be more at once, the number that it reaches."""
        rows = self._context.catalog.changes(after, _PAGE)
        return list(self._events_of(rows)), rows[-1][0] if len(rows) == _PAGE else None

    def _events_of(self, rows: list[tuple[int, str, str]]) -> Iterator[Event]:
        """Those of what is still there: of what is not, a later change tells."""
        catalog = self._context.catalog
        ids = [thing for _, kind, thing in rows if kind == "artifact"]
        artifacts = {one.artifact_id: one for one in catalog.artifacts_by_id(ids)} if ids else {}
        places = self._places.of(artifact.experiment_id for artifact in artifacts.values())
        for number, kind, thing in rows:
            if kind == "artifact":
                artifact = artifacts.get(thing)
                place = artifact and places.get(artifact.experiment_id)
                if artifact and place:
                    more = {"run_id": place.run_id, "artifact": artifact.to_json(place.experiment)}
                    yield _event(number, kind, thing, more, place.run_id, artifact.experiment_id)
            elif kind == "experiment":
                if experiment := catalog.experiment(thing):
                    more = {"run_id": experiment.run_id, "experiment": experiment.to_json()}
                    yield _event(number, kind, thing, more, experiment.run_id, thing, experiment.state)
            else:
                of_run = kind == "run_deleted"
                yield _event(number, kind, thing, {}, thing if of_run else None, None if of_run else thing)


def _event(
    number: int,
    kind: str,
    id_: str,
    more: JSON,
    run_id: str | None,
    experiment_id: str | None,
    state: State | None = None,
) -> Event:
    data = orjson.dumps({"change": number, "kind": kind, "id": id_, **more})
    return Event(number, kind, id_, run_id, experiment_id, state, data)


def message(kind: str, data: bytes, id_: str | None) -> bytes:
    """One server-sent event. JSON has no line breaks of its own, so what it holds cannot end the message."""
    named = b"" if id_ is None else b"id: %s\n" % id_.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (named, kind.encode(), data)
