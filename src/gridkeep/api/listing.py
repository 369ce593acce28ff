"""Listings of artifacts: a bare JSON array, by pages or whole, in the order that the artifacts were made in.

The whole array is streamed: a million rows do not sit in memory. A page costs the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
from starlette.responses import Response, StreamingResponse

from gridkeep.api.auth import Call
from gridkeep.api.shapes import artifact_shapes
from gridkeep.model import Artifact

PAGE = 1000
_JSON = "application/json"


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
            following = self.call.request.url.include_query_params(cursor=found[limit - 1].artifact_id)
            address = f"{self.call.base_url}{following.path}?{following.query}"
            response.headers["link"] = f'<{address}>; rel="next"'
        return response

    def whole(self) -> Response:
        first = self._artifacts("", PAGE)
        if len(first) < PAGE:
            return Response(orjson.dumps(list(shapes(self.call, first))), media_type=_JSON)
        return StreamingResponse(self._stream(first), media_type=_JSON)

    def _stream(self, page: list[Artifact]) -> Iterator[bytes]:
        opening = b"["
        while page:
            yield opening + orjson.dumps(list(shapes(self.call, page)))[1:-1]
            opening = b","
            page = self._artifacts(page[-1].artifact_id, PAGE)
        yield b"]"

    def _artifacts(self, after: str, limit: int) -> list[Artifact]:
        return self.call.catalog.artifacts_by_age(
            self.of, after=after, limit=limit, kept=self.kept, types=self.types
        )


def shapes(
    call: Call, artifacts: Sequence[Artifact], *, download: bool = False
) -> Iterator[dict[str, object]]:
    """Their JSON, each with a signed URL, but those of experiments that are gone by now."""
    places = call.site.places.of(artifact.experiment_id for artifact in artifacts)
    ttl = call.site.links.ttl()
    for cluster in dict.fromkeys(place.cluster for place in places.values()):
        of_cluster = [
            artifact
            for artifact in artifacts
            if (place := places.get(artifact.experiment_id)) and place.cluster == cluster
        ]
        urls = call.site.links.sign(cluster, of_cluster, base=call.base_url, ttl=ttl, download=download)
        yield from artifact_shapes(of_cluster, places, call.context.store(cluster).uri, urls)
