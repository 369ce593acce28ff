"""Large objects to Google Cloud Storage and Azure, by obstore's own parts.

obstore keeps the name of an upload to itself: one that is cut off cannot be gone on with, and begins anew. Both clouds
forget what is never completed (Azure after a week, Google by a rule of the bucket). obstore completes none on a condition,
either. But one that comes late finds nothing to complete: Google was told to abort it when its answer was lost, and Azure
forgot its parts when something newer was put there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import obstore

from gridkeep.model import new_ulid
from gridkeep.stores.budget import MIB, SHARED
from gridkeep.stores.sources import Source

if TYPE_CHECKING:
    from gridkeep.stores.clouds import Bucket
    from gridkeep.stores.conditions import Conditions

PART = 5 * MIB
MOST_PARTS = 10_000
_AT_ONCE = 3


class StreamedParts:
    """See `bucket.Large`. `bucket` gives the open bucket; conditions are of no use here."""

    def __init__(self, bucket: Callable[[], Bucket], _: Conditions) -> None:
        self._bucket = bucket
        self._at_once = _AT_ONCE

    def put(
        self, path: str, source: Source, *, if_absent: bool, journal: str | None
    ) -> tuple[int, str | None]:
        """With `if_absent` it goes to a name of its own first, as only a copy within the bucket can be conditional."""
        if not if_absent:
            return self._stream(path, source)
        beside = f"{path}.{new_ulid()}"
        writer = self._bucket().writer
        try:
            size, _ = self._stream(beside, source)
            obstore.copy(writer, beside, path, overwrite=False)
            return size, obstore.head(writer, path)["e_tag"]
        finally:
            with suppress(Exception):
                obstore.delete(writer, beside)

    def _stream(self, path: str, source: Source) -> tuple[int, str | None]:
        part = max(PART, -(-(source.size or 0) // MOST_PARTS))
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            while piece := source.read(MIB):
                sent += len(piece)
                yield piece

        width = self._at_once
        with SHARED.held((width + 1) * part):
            try:
                answer = obstore.put(
                    self._bucket().writer,
                    path,
                    pieces(),
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=width,
                )
            except Exception:
                self._at_once = max(1, width // 2)  # so that it comes through in time on a slow line
                raise
        self._at_once = min(_AT_ONCE, width + 1)
        return sent, answer["e_tag"]

    def abandon(self, prefix: str) -> None:
        """Nothing: no list of uploads is to be had from obstore."""
