"""A bucket, looked at behind the store's back, and `grid` with a cluster that keeps its files there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.services import Service, make_bucket
from tests.support import Grid

LARGE = 66 << 20  # bytes: several parts


@dataclass(frozen=True)
class CloudBucket:
    """A bucket of an S3 server."""

    service: Service
    name: str

    @property
    def client(self) -> Any:
        return self.service.client()

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Key to size."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def uploads(self) -> list[str]:
        """The keys of multipart uploads that nobody has finished."""
        found = self.client.list_multipart_uploads(Bucket=self.name)
        return [each["Key"] for each in found.get("Uploads", [])]

    def grid(self, grid: Grid, prefix: str = "team/x") -> Grid:
        """`grid` with credentials, and with a cluster `cloud` below `prefix` of this bucket, which runs use."""
        able = grid.with_env(**self.service.environ, GRIDKEEP_CLUSTER="cloud")
        able("cluster", "add", "cloud", "--store", f"s3://{self.name}/{prefix}".rstrip("/"))
        return able


def s3_bucket(service: Service, name: str) -> CloudBucket:
    make_bucket(service, name)
    return CloudBucket(service, name)


def without_credentials(grid: Grid) -> Grid:
    """`grid` in a shell that knows where the server is, and no key to it."""
    env = {
        name: value
        for name, value in grid.env.items()
        if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    return replace(grid, env={**env, "AWS_EC2_METADATA_DISABLED": "true"})
