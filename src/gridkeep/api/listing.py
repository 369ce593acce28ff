"""Listings of artifacts: a bare JSON array, by pages or whole, in the order that the artifacts were made in.

The whole array is streamed: a million rows do not sit in memory. A page costs the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson
from starlette.responses import Response, StreamingResponse

from gridkeep.api.auth import Call
from gridkeep.api.places import Place
from gridkeep.api.shapes import artifact_shapes
from gridkeep.model import Artifact, Listed
from gridkeep.stores.base import Store

PAGE = 1000
_JSON = "application/json"
A = TypeVar("A", Artifact, Listed)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is asked for: of a run (its id) or an experiment (its ULID)."""

    call: Call
    of: str
    kept: bool  # only those with bytes in the store
    types: Sequence[str] | None

    def page(self, limit: int, cursor: str) -> Response:
        """At most `limit` after the one named by `cursor`; the address of the next page in `Link`."""
        found = self._artifacts(cursor, limit + 1)
        response = Response(orjson.dumps(list(shapes(self.call, found[:limit]))), media_type=_JSON)
        if len(found) > limit:
            response.headers.update(self.call.next_page(cursor=found[limit - 1].artifact_id))
        return response

    def whole(self) -> Response:
        first = self._artifacts("", PAGE)
        if len(first) < PAGE:
            return Response(orjson.dumps(list(shapes(self.call, first))), media_type=_JSON)
        return StreamingResponse(self._stream(first), media_type=_JSON)

    def _stream(self, page: list[Listed]) -> Iterator[bytes]:
        opening = b"["
        while page:
            # Nothing, when all of it has gone meanwhile.
            if body := orjson.dumps(list(shapes(self.call, page)))[1:-1]:
                yield opening + body
                opening = b","
            page = self._artifacts(page[-1].artifact_id, PAGE)
        yield b"]" if opening == b"," else b"[]"

    def _artifacts(self, after: str, limit: int) -> list[Listed]:
        return self.call.catalog.artifacts_by_age(
            self.of, after=after, limit=limit, kept=self.kept, types=self.types
        )


def shapes(call: Call, artifacts: Sequence[A]) -> Iterator[dict[str, object]]:
    """Their JSON, each with a signed URL, but those of experiments that are gone by now."""
    places = call.site.places.of(artifact.experiment_id for artifact in artifacts)
    for store, stored, urls in signed(call, artifacts, places, ttl=call.site.links.ttl()):
        yield from artifact_shapes(stored, places, store.uri, urls)


def signed(
    call: Call,
    artifacts: Sequence[A],
    places: Mapping[str, Place],
    *,
    ttl: float,
    download: bool = False,
) -> Iterator[tuple[Store, list[A], list[str | None]]]:
    """By store: its artifacts, and a URL for each (None for one without bytes); without those that have no place."""
    clusters: dict[str, list[A]] = {}
    for artifact in artifacts:
        if place := places.get(artifact.experiment_id):
            clusters.setdefault(place.cluster, []).append(artifact)
    for cluster, of_cluster in clusters.items():
        store, sign = call.context.store(cluster), call.site.links.sign
        yield store, of_cluster, sign(store, of_cluster, base=call.base_url, ttl=ttl, download=download)
