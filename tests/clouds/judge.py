"""Whether a bucket holds what an experiment's catalog and manifest say: read by boto3, past the proxy, byte by byte."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Artifact, ArtifactState, Experiment, State
from gridkeep.stores.keys import artifacts_prefix, experiment_key, manifest_key, output_log_key
from gridkeep.supervisor import manifest
from tests.clouds.proxy import Proxy
from tests.services import Service
from tests.support import Grid, wait_for

PREFIX = "team/x/"


@dataclass(frozen=True)
class Place:
    """A bucket, and the proxy that `grid` knows of it."""

    server: Service
    bucket: str
    proxy: Proxy

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{PREFIX}"

    @property
    def client(self) -> Any:
        """Past the proxy."""
        return self.server.client()

    def environ(self, **more: str) -> dict[str, str]:
        return {**self.server.environ, "AWS_ENDPOINT_URL": self.proxy.endpoint, **more}

    def grid(self, grid: Grid) -> Grid:
        able = grid.with_env(
            **self.environ(),
            GRIDKEEP_CLUSTER="cloud",
            GRIDKEEP_RETRY_MAX="1s",
            GRIDKEEP_STORE_TIMEOUT="3s",
            GRIDKEEP_QUIET="0.1s",
        )
        able("cluster", "add", "cloud", "--store", self.uri)
        return able

    def objects(self, prefix: str = PREFIX) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        """`key` as the store has it, without the prefix."""
        found: bytes = self.client.get_object(Bucket=self.bucket, Key=PREFIX + key)["Body"].read()
        return found

    def uploads(self) -> list[str]:
        """Multipart uploads that nobody has finished."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [each["Key"] for each in found.get("Uploads", [])]


# ------------------------------------------------------------------------------------------------------------ the work


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def script(files: Mapping[str, int], *, after: str = "") -> str:
    """A program that writes files of these sizes, then does what `after` says."""
    return f"""
import os, random, time
for name, size in {dict(files)!r}.items():
    with open(name, "wb") as file:
        file.write(random.Random(name).randbytes(size))
{after}
"""


def digests(files: Mapping[str, int]) -> dict[str, str]:
    return {name: hashlib.sha256(content(name, size)).hexdigest() for name, size in files.items()}


# ----------------------------------------------------------------------------------------------------------- the proof


def looked_up(able: Grid, name: str) -> tuple[Experiment, list[Artifact]]:
    """A run's only experiment, and all its artifacts, without starting anything."""
    catalog = open_catalog(str(able.home / "catalog.db"))
    try:
        found = catalog.experiment(f"{name}-exp0")
        assert found is not None
        return found, catalog.artifacts(found.experiment_id)
    finally:
        catalog.close()


def waiting_for(able: Grid, name: str, words: str, timeout: float = 60) -> Experiment:
    """Until the run's experiment says that it waits for what these words say."""

    def says() -> Experiment | None:
        one, _ = looked_up(able, name)
        return one if words in (one.waiting_for or "") else None

    return wait_for(says, timeout, every=0.1, what=f"that {name} waits for: {words}")


def ended(able: Grid, name: str, timeout: float = 120) -> Experiment:
    """Until the run's experiment is final."""

    def final() -> Experiment | None:
        one, _ = looked_up(able, name)
        return None if one.state.active else one

    return wait_for(final, timeout, every=0.1, what=f"the end of {name}")


def check_stored(place: Place, artifacts: list[Artifact]) -> None:
    """What is called stored has its bytes in the bucket."""
    for one in artifacts:
        if one.state is ArtifactState.STORED:
            data = place.read(one.key or "")
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one.size, one.sha256), one


def proven(
    able: Grid, place: Place, name: str, expected: Mapping[str, str], *, timeout: float = 120
) -> Experiment:
    """The run's only experiment completes; every file is stored as it was written (`expected`: its SHA-256), in catalog,
    manifest and bucket alike; nothing else lies there, and no upload is left."""
    one = ended(able, name, timeout)
    assert (one.state, one.waiting_for, one.missing) == (State.COMPLETED, None, 0), one
    _, artifacts = looked_up(able, name)
    assert {each.path: each.sha256 for each in artifacts if each.state is not ArtifactState.REMOVED} == {
        path.encode(): sha256 for path, sha256 in expected.items()
    }
    check_stored(place, artifacts)
    text = place.read(manifest_key(one.experiment_id))
    assert hashlib.sha256(text).hexdigest() == one.manifest_sha256
    _, listed = manifest.read([text])
    assert [(each.path, each.state, each.sha256, each.key, each.etag) for each in listed] == [
        (each.path, each.state, each.sha256, each.key, each.etag) for each in artifacts
    ]
    ulid = one.experiment_id
    beside = {manifest_key(ulid), experiment_key(ulid), output_log_key(ulid)}
    wanted = {each.key for each in artifacts if each.sha256 is not None} | beside
    assert {key.removeprefix(PREFIX) for key in place.objects()} == wanted
    assert all(key.startswith(artifacts_prefix(ulid)) for key in wanted - beside if key)
    assert place.uploads() == []
    return one


def gone(able: Grid, timeout: float = 30) -> None:
    """Until the home holds neither working copies nor journals."""
    kept = [able.home / "work", able.home / "journal"]
    wait_for(
        lambda: not [path for part in kept for path in _entries(part)] or None, timeout, what="a clean home"
    )


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())
