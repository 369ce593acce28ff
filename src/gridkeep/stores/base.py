"""The contract of a store: named objects of bytes, as on a disk or in a bucket.

Keys are text with `/` between names, without a leading slash; `keys` makes them. Durability: when `put` returns, the object
is durable, whole, and under its key; before that the key has the old object or none. Atomic: a reader gets one version
whole, or ObjectMissing. Retries: the caller's; every call is safe to repeat. Ordering: a `list` sees every finished
`put`. Threads: all calls may be made from several threads at once. Memory: no call holds more than a few MiB of an object.

Raises StoreUnavailable, StoreDenied, StoreFull, ObjectMissing, ObjectExists, KeyConflict of `errors`; never a library's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object. `etag` is None where a store has none that survives a copy (local folders)."""

    key: str
    size: int
    etag: str | None = None


class Store(Protocol):
    """See the module's docstring for what all calls share."""

    uri: str  # with a trailing slash, for people: file:///home/u/.gridkeep/store/

    def put(self, key: str, source: BinaryIO, *, if_absent: bool = False) -> ObjectInfo:
        """Reads `source` to its end, once, and stores it. An exception from `source` leaves the old object in place and
        is passed on. With `if_absent`, ObjectExists when there is one (atomically)."""
        ...

    def put_many(self, objects: Sequence[tuple[str, BinaryIO]]) -> Sequence[ObjectInfo | Exception]:
        """As `put` for each of many small objects, which is much faster than one after another; answers in their order, with
        what went wrong in place of the information. All that have any are durable when it returns."""
        ...

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in chunks of at most 1 MiB, of one version."""
        ...

    def head(self, key: str) -> ObjectInfo: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key begins with `prefix` (which ends in `/`), in any order, without holding them all."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """The names directly below `prefix` (which ends in `/`) that have objects below them, in any order, each once;
        nothing where there is none. Costs as many requests as there are pages of names, not of objects (a bucket lists
        with a delimiter). A name may come of which all objects were just deleted."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Removes them and any folder left empty; those that are not there are passed over. Returns the bytes freed.
        What writers of any key left half-written when they were killed goes, too."""
        ...

    def check(self) -> None:
        """Writes, lists, reads and removes a probe object; raises what is wrong in words."""
        ...
