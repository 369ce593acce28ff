"""The contract of a store: named objects of bytes, as on a disk or in a bucket.

Keys are text with `/` between names, without a leading slash; `keys` makes them. Durability: when `put` returns, the object
is durable, whole, and under its key; before that the key has the old object or none. Atomic: a reader gets one version
whole, or ObjectMissing. Retries: the caller's; every call is safe to repeat, and one whose answer was lost may have been
done. Ordering: a `list` sees every finished `put`; and one whose answer was lost, and that comes to the store later, takes
the place of nothing that was put after it, if its key has one writer at a time and the store knows conditional writes (what
stays open is in docs/faults.md). Threads: all calls may be made from several threads at once; after a `fork`, from the
parent only. Memory: a few tens of MiB of an object, whatever its size, and all calls of a process together stay within one
budget (`budget`).

Raises StoreUnavailable, StoreDenied, StoreFull, ObjectMissing, ObjectExists, KeyConflict of `errors`; never a library's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object. `etag`, without quotes, is that of `put`, `head` and `list` alike; None where a store
    has none (local folders)."""

    key: str
    size: int
    etag: str | None = None


class Store(Protocol):
    """See the module's docstring for what all calls share."""

    uri: str  # with a trailing slash, for people: file:///home/u/.gridkeep/store/

    @property
    def prefix(self) -> str:
        """What a bucket has before every key, which counts towards a key's length; empty in a folder."""
        ...

    def put(
        self, key: str, source: BinaryIO, *, if_absent: bool = False, journal: str | None = None
    ) -> ObjectInfo:
        """Reads `source` to its end, once, and stores it. An exception from `source` leaves the old object in place and
        is passed on. With `if_absent`, ObjectExists when there is one (atomically). A `source` with a `fileno()` is a
        regular file that is read from `tell()` on: its bytes may be read again through the descriptor, and what is then
        stored are the bytes that `source` gave. `journal` is the path of a file, used by nobody else, in which a store may
        note how far a large object has come: after a death of the process, a `put` of the same key, version of the file and
        `journal` sends only what is missing. It is gone when `put` has returned or `source` has raised."""
        ...

    def put_many(self, objects: Sequence[tuple[str, BinaryIO]]) -> Sequence[ObjectInfo | Exception]:
        """As `put` for each of many small objects, which is much faster than one after another; answers in their order, with
        what went wrong in place of the information. All that have any are durable when it returns."""
        ...

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in chunks of at most 1 MiB, of one version: StoreUnavailable
        when it was replaced meanwhile and the store does not keep it for readers."""
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

    def delete(self, keys: Iterable[str]) -> None:
        """Removes them and any folder left empty; those that are not there are passed over."""
        ...

    def abandon(self, prefix: str) -> None:
        """What writers of keys below `prefix` (which ends in `/`) left half-written when they were killed goes. To be called
        when nobody writes there: a living upload may be ended, too. As far as the store lets us."""
        ...

    def sign(self, keys: Sequence[str], expires: float) -> Sequence[str] | None:
        """A link to each, with which anybody can GET the object (also a range of it) from the store itself for `expires`
        seconds, a week at most; whether it is there is not asked. None where a store has none to give: local folders, and
        Azure without the account's key when a name is not plain."""
        ...

    def check(self) -> None:
        """Writes, lists, reads, puts if absent and removes a probe object; raises what is wrong in words."""
        ...
