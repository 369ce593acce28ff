"""How each cloud's bucket is opened by the libraries that speak to it: obstore for all, boto3 beside it for S3.

A bucket has three clients. They differ in patience: what is read must send a byte now and then; what is written answers
only when it has taken all; and a conditional put is never repeated by the library, as the second answer would hide the
first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from gridkeep.errors import StoreError
from gridkeep.model import Cluster
from gridkeep.stores.credentials import AwsCredentials, azure_config, s3_encryption

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, ObjectStore, RetryConfig, S3Store
    from types_boto3_s3 import S3Client

    from gridkeep.stores.signing import Signer

    OneOf = TypeVar("OneOf", S3Store, GCSStore, AzureStore)

CONNECT = 10.0  # seconds for a connection
TIMEOUT = 60.0  # seconds from the beginning of a small object's request to its answer; of reading, half of it without a byte
_RETRIES = 2  # by the library; beyond, it is the caller who tries again, for hours if need be
_CONNECTIONS = 32

SCHEMES = ("s3", "gs", "az")


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket, opened. `s3` gives boto3's client where there is one: made when it is first needed, as that takes long."""

    name: str
    reader: ObjectStore
    writer: ObjectStore
    once: ObjectStore  # for conditional puts
    sign: Signer
    s3: Callable[[], S3Client] | None = None


def open_bucket(cluster: Cluster, scheme: str, name: str, timeout: float = TIMEOUT) -> Bucket:
    """`timeout` seconds are waited for a sign of the store. Raises StoreError for what cannot be an address, a key or an
    account."""
    return {"s3": _s3, "gs": _gcs, "az": _azure}[scheme](cluster, name, timeout)


def _s3(cluster: Cluster, name: str, timeout: float) -> Bucket:
    from obstore.store import S3Store

    from gridkeep.stores.signing import s3_signer

    credentials = AwsCredentials()
    endpoint = cluster.endpoint or credentials.endpoint()
    region = cluster.region or credentials.region() or "us-east-1"
    encryption = s3_encryption()

    def make(options: ClientConfig, retries: RetryConfig) -> S3Store:
        address: dict[str, Any] = {"aws_endpoint_url_s3": endpoint.rstrip("/")} if endpoint else {}
        return S3Store(
            name,
            region=region,
            credential_provider=credentials,
            client_options=options,
            retry_config=retries,
            **address,
        )

    client: list[S3Client] = []
    lock = threading.Lock()

    def s3() -> S3Client:
        with lock:
            if not client:
                made = _boto_client(credentials, endpoint, region, timeout)
                for request in ("PutObject", "CreateMultipartUpload"):
                    event = f"provide-client-params.s3.{request}"
                    made.meta.events.register(event, lambda params, **_: params.update(encryption))
                client.append(made)
        return client[0]

    return _bucket(name, endpoint, timeout, make, s3_signer, s3)


def _boto_client(credentials: AwsCredentials, endpoint: str | None, region: str, timeout: float) -> S3Client:
    from botocore.config import Config

    config = Config(
        connect_timeout=min(CONNECT, timeout),
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": _RETRIES + 1},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": False, "addressing_style": "path" if endpoint else "auto"},
    )
    return credentials.session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _gcs(cluster: Cluster, name: str, timeout: float) -> Bucket:
    from obstore.store import GCSStore

    from gridkeep.stores.signing import gcs_signer

    def make(options: ClientConfig, retries: RetryConfig) -> GCSStore:
        address: dict[str, Any] = {"base_url": cluster.endpoint.rstrip("/")} if cluster.endpoint else {}
        return GCSStore(name, client_options=options, retry_config=retries, **address)

    return _bucket(name, cluster.endpoint, timeout, make, gcs_signer)


def _azure(cluster: Cluster, name: str, timeout: float) -> Bucket:
    from obstore.store import AzureStore

    from gridkeep.stores.signing import azure_signer

    config = azure_config(cluster.endpoint)

    def make(options: ClientConfig, retries: RetryConfig) -> AzureStore:
        return AzureStore(name, config=config, client_options=options, retry_config=retries)

    return _bucket(
        name, config.get("endpoint"), timeout, make, lambda store: azure_signer(store, name, config)
    )


def _bucket(
    name: str,
    endpoint: str | None,
    timeout: float,
    make: Callable[[ClientConfig, RetryConfig], OneOf],
    signer: Callable[[OneOf], Signer],
    s3: Callable[[], S3Client] | None = None,
) -> Bucket:
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=min(CONNECT, timeout)),
        "timeout": timedelta(days=1),  # of a whole request: what is slow is not broken
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
    }
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        if path := os.environ.get(variable):
            try:
                with open(path, "rb") as file:
                    options["root_certificate"] = file.read()
            except OSError as error:
                raise StoreError(
                    f"{variable} names {path}: {error.strerror}.", "Mend that variable."
                ) from None
            break
    reading: ClientConfig = {**options, "read_timeout": timedelta(seconds=timeout / 2)}
    writing: ClientConfig = {**options, "read_timeout": timedelta(seconds=timeout)}
    try:
        reader = make(reading, _retries(_RETRIES))
        return Bucket(
            name=name,
            reader=reader,
            sign=signer(reader),
            writer=make(writing, _retries(_RETRIES)),
            once=make(writing, _retries(0)),
            s3=s3,
        )
    except (
        Exception
    ) as error:  # of obstore, for a file of credentials that cannot be read, a missing account, and the like
        raise StoreError(
            f"The bucket {name} cannot be opened ({type(error).__name__}).",
            "Check its endpoint, and the variables and files of its cloud's credentials.",
        ) from None


def _retries(count: int) -> RetryConfig:
    return {
        "max_retries": count,
        "retry_timeout": timedelta(seconds=20),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
