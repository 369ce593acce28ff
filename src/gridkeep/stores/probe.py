"""The check of a store, the same for every kind: one probe object is written, listed, read, not replaced and removed.

Knows only the contract.
"""

from __future__ import annotations

import io
import time
from contextlib import suppress

from gridkeep.errors import ObjectExists, StoreError
from gridkeep.model import new_ulid
from gridkeep.stores.base import Store

_ABANDONED = 3600.0  # seconds after which nobody is at a probe any more


def probe(store: Store) -> None:
    """Raises what the store raises, or StoreError when it answers but not with what was put. Takes away what probes left
    that were killed."""
    name = new_ulid()
    key, content = f"_probe/{name}/object", name.encode()
    oldest = f"_probe/{new_ulid(time.time() - _ABANDONED)}"  # ULIDs are in the order of their times
    try:
        store.put(key, io.BytesIO(content))
        if [(item.key, item.size) for item in store.list(f"_probe/{name}/")] != [(key, len(content))]:
            raise StoreError(f"The store {store.uri} does not list an object that was just put there.")
        if b"".join(store.get(key)) != content:
            raise StoreError(f"The store {store.uri} gives other bytes than were just put there.")
        with suppress(ObjectExists):
            store.put(key, io.BytesIO(b"again"), if_absent=True)
            raise StoreError(
                f"The store {store.uri} replaces an object although it was told not to.",
                "Use a store that has conditional writes (If-None-Match).",
            )
    except StoreError:
        with suppress(StoreError):
            store.delete([key])
        raise
    store.delete([key, *(item.key for item in store.list("_probe/") if item.key < oldest)])
