"""Where the clouds' libraries find credentials: in the environment, in the usual ways of each cloud.

What is found stays in memory: it is never written to catalog, store, journal or log, nor put into a message.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gridkeep.errors import StoreError

if TYPE_CHECKING:
    import boto3
    from obstore.store import AzureConfig, S3Credential

# How long obstore keeps what it was given. It asks again five minutes before that; botocore renews what can be renewed
# ten minutes before it expires.
_KEPT = timedelta(minutes=15)

# What credentials and the way to a cloud depend on: keys, files, profiles, tools, proxies, certificates.
_OF_A_CLOUD = re.compile(
    r"(AWS|AZURE|CLOUDSDK|GCE|GCLOUD|GCS|GOOGLE|IDENTITY|MSI|SSL_CERT)_\w+"
    r"|(HTTPS?|ALL|NO)_PROXY|REQUESTS_CA_BUNDLE|HOME|PATH",
    re.IGNORECASE,
)


def of_clouds(environ: Mapping[str, str]) -> dict[str, str]:
    """What of `environ` it takes to open a cloud's store as in a process with it; secrets may be among it."""
    return {name: value for name, value in environ.items() if _OF_A_CLOUD.fullmatch(name)}


def adopt(environ: Mapping[str, str]) -> None:
    """From now on this process looks for credentials where one with `environ` would: variables of the clouds are taken over,
    for good, as the libraries look there again later. For a process that serves one user."""
    ours, theirs = of_clouds(os.environ), of_clouds(environ)
    for name in ours.keys() - theirs.keys() - {"HOME", "PATH"}:
        del os.environ[name]
    for name, value in theirs.items():
        if ours.get(name) != value:
            os.environ[name] = value


_ACCOUNT_KEYS = (
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
)


class AwsCredentials:
    """What obstore asks for credentials of AWS, in all the ways of botocore: variables, profiles, SSO, web identity,
    processes, the metadata of the machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @cached_property
    def session(self) -> boto3.session.Session:
        import boto3  # which takes longer than all the rest of a short command

        return boto3.session.Session()

    def __call__(self) -> S3Credential:
        """Raises what botocore raises when there are none or they cannot be renewed."""
        if (plain := _plain_keys()) is not None:
            return plain
        from botocore.exceptions import NoCredentialsError

        with self._lock:
            found = self.session.get_credentials()
            if found is None:
                raise NoCredentialsError
            frozen = found.get_frozen_credentials()
        if frozen.access_key is None or frozen.secret_key is None:
            raise NoCredentialsError
        return _keys(frozen.access_key, frozen.secret_key, frozen.token)

    def region(self) -> str | None:
        """Where AWS_REGION, AWS_DEFAULT_REGION or the profile says that the bucket is."""
        return os.environ.get("AWS_REGION") or self.session.region_name

    def endpoint(self) -> str | None:
        """What stands in the place of Amazon's own address, if anything does."""
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
            if value := os.environ.get(name):
                return value
        config: Mapping[str, Any] = self.session._session.get_scoped_config()
        return config.get("endpoint_url")


def _plain_keys() -> S3Credential | None:
    """Those that the variables give as they are: botocore, too, looks there first."""
    access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret or "AWS_CREDENTIAL_EXPIRATION" in os.environ:
        return None
    return _keys(
        access, secret, os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN") or None
    )


def _keys(access: str, secret: str, token: str | None) -> S3Credential:
    return {
        "access_key_id": access,
        "secret_access_key": secret,
        "token": token,
        "expires_at": datetime.now(UTC) + _KEPT,
    }


def s3_encryption() -> dict[str, Any]:
    """How S3 is asked to encrypt what is put, in the words of boto3's requests: by the variables that obstore looks at of
    itself. Raises StoreError for keys of one's own, which every reader would need."""
    if (kind := os.environ.get("AWS_SERVER_SIDE_ENCRYPTION")) is None:
        return {}
    if kind == "sse-c":
        raise StoreError(
            "AWS_SERVER_SIDE_ENCRYPTION asks for a key of your own (sse-c), which Gridkeep cannot use.",
            "Use AES256 or aws:kms, or let the bucket's default decide.",
        )
    found: dict[str, Any] = {"ServerSideEncryption": kind}
    if key := os.environ.get("AWS_SSE_KMS_KEY_ID"):
        found["SSEKMSKeyId"] = key
    if enabled := os.environ.get("AWS_SSE_BUCKET_KEY_ENABLED"):
        found["BucketKeyEnabled"] = enabled.lower() in ("1", "true", "on", "yes", "y")
    return found


def azure_config(endpoint: str | None) -> AzureConfig:
    """What obstore does not read by itself: the names that Azure's own tools use, the connection string, and the account
    that an endpoint names."""
    words = dict(
        part.split("=", 1)
        for part in os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";")
        if "=" in part
    )
    account = words.get("AccountName") or os.environ.get("AZURE_STORAGE_ACCOUNT")
    endpoint = endpoint or words.get("BlobEndpoint") or os.environ.get("AZURE_STORAGE_ENDPOINT")
    if endpoint and not account and "AZURE_STORAGE_ACCOUNT_NAME" not in os.environ:
        address = urlsplit(endpoint)
        account = address.path.strip("/") or (address.hostname or "").partition(".")[0]
    found = {
        "account_name": account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME"),
        "account_key": words.get("AccountKey")
        or next(filter(None, map(os.environ.get, _ACCOUNT_KEYS)), None),
        "sas_key": words.get("SharedAccessSignature"),
        "endpoint": endpoint,
    }
    config: AzureConfig = {name: value for name, value in found.items() if value}  # type: ignore[assignment]
    return config
