"""The bytes of an artifact, opened in its store, and the words for when they are not to be had. Knows not who asks."""

from __future__ import annotations

from collections.abc import Iterator

from gridkeep.errors import Conflict, ObjectMissing, StoreUnavailable
from gridkeep.model import Artifact
from gridkeep.stores.base import Store


def open_bytes(
    store: Store, artifact: Artifact, *, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """As `Store.get`. Raises StoreUnavailable where the object that was recorded is not there."""
    try:
        return store.get(artifact.key or "", start=start, end=end)
    except ObjectMissing:
        raise StoreUnavailable(
            f"The bytes of {artifact.artifact_id} are not in the store {store.uri} now.",
            "`grid verify` says more.",
        ) from None


def no_bytes(name: str, artifact: Artifact) -> Conflict:
    """What is to be raised for one that has none, as whoever asked for it calls it."""
    reason = f" ({artifact.reason})" if artifact.reason else ""
    return Conflict(f"{name} has no bytes in the store: it is {artifact.state}{reason}.")
