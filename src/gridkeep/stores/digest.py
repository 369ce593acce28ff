"""What the bytes of an object are, told by reading them."""

from __future__ import annotations

import hashlib

from gridkeep.stores.base import Store


def digest_of(store: Store, key: str) -> tuple[str, int]:
    """The SHA-256 of an object, from its very bytes, and how many they are. Raises what `Store.get` raises."""
    digest, size = hashlib.sha256(), 0
    for chunk in store.get(key):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
