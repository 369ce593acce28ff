"""Where bytes live: the contract, the keys, and one module per kind of store."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from gridkeep.errors import StoreError
from gridkeep.model import Cluster
from gridkeep.stores.base import Store
from gridkeep.stores.clouds import SCHEMES, TIMEOUT, open_bucket
from gridkeep.stores.credentials import adopt
from gridkeep.stores.keys import names_of
from gridkeep.stores.local import LocalStore


def open_store(
    cluster: Cluster,
    *,
    create: bool = False,
    environ: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Store:
    """The store that a cluster names. `create` makes the folder of a local one (when a cluster is added;
    never later, as a store that is away must not be mistaken for an empty one). Credentials are looked for as in a process
    with `environ`, which this one becomes thereby (`credentials.adopt`); else in this process's environment. A request to a
    cloud that is silent for `timeout` seconds is given up. Raises
    StoreError for a URI that no kind of store answers to, or one that cannot be opened as things are."""
    scheme, separator, rest = cluster.store.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return LocalStore(rest, create=create)
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if scheme in SCHEMES and bucket:
        if prefix:
            names_of(prefix)
        if environ is not None:
            adopt(environ)
        return _open_bucket(cluster, scheme, bucket, f"{prefix}/" if prefix else "", timeout)
    raise StoreError(
        f"The store {cluster.store} of cluster {cluster.name} cannot be opened: there is no such kind of store.",
        "Name a folder by its full path (file:///data/runs), or a bucket: s3://BUCKET/PREFIX, gs://…, az://CONTAINER/….",
    )


def _open_bucket(cluster: Cluster, scheme: str, bucket: str, prefix: str, timeout: float) -> Store:
    try:
        if find_spec("boto3") is None:  # imported when it is needed
            raise ModuleNotFoundError(name="boto3")
        from gridkeep.stores.bucket import BucketStore
        from gridkeep.stores.multipart import S3Parts
        from gridkeep.stores.streams import StreamedParts
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{cluster.store} needs the package {error.name}, which is not installed.",
            "pip install 'gridkeep[cloud]'",
        ) from None
    return BucketStore(
        f"{scheme}://{bucket}/{prefix}",
        prefix,
        lambda: open_bucket(cluster, scheme, bucket, timeout),
        S3Parts if scheme == "s3" else StreamedParts,
    )
