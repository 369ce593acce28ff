"""What the tests of commands with a cloud share: a bucket for each."""

from __future__ import annotations

import itertools

import pytest

from tests.e2e.clouds import CloudBucket, s3_bucket
from tests.services import Service

_serial = itertools.count()


@pytest.fixture
def bucket(s3: Service) -> CloudBucket:
    """A new bucket."""
    return s3_bucket(s3, f"bucket-{next(_serial)}")
