"""Where bytes live: the contract, the keys, and one module per kind of store."""

from __future__ import annotations

from collections.abc import Mapping

from gridkeep.errors import StoreError
from gridkeep.model import Cluster
from gridkeep.stores.base import Store
from gridkeep.stores.local import LocalStore


def open_store(cluster: Cluster, *, create: bool = False, environ: Mapping[str, str] | None = None) -> Store:
    """The store that a cluster names. `create` makes the folder of a local one (when a cluster is added;
    never later, as a store that is away must not be mistaken for an empty one). Credentials are those of
    `environ`, else of this process's environment. Raises StoreError for a URI that no kind of store answers to."""
    scheme, separator, rest = cluster.store.partition("://")
    # Further kinds join here: s3, gs, az.
    if separator and scheme == "file" and rest.startswith("/"):
        return LocalStore(rest, create=create)
    raise StoreError(
        f"The store {cluster.store} of cluster {cluster.name} cannot be opened: only file:// is known.",
        "Name a folder by its full path, as in file:///data/runs.",
    )
