"""What the tests of commands with a cloud share: one S3 server for all of them, and a bucket for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.clouds import CloudBucket, s3_bucket
from tests.services import Service, s3_server

_serial = itertools.count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real S3 server. Tests that use it are of the group `cloud`, so that there is one of it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as service:
        yield service


@pytest.fixture
def bucket(s3: Service) -> CloudBucket:
    """A new bucket."""
    return s3_bucket(s3, f"bucket-{next(_serial)}")
