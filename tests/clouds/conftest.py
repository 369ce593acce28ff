"""What these tests share: a bucket and a proxy for each test, and `grid` that knows only the proxy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.clouds.judge import Place
from tests.clouds.proxy import Proxy
from tests.services import Service, make_bucket
from tests.support import Grid

_serial = itertools.count()


@pytest.fixture
def place(s3: Service) -> Iterator[Place]:
    """A new bucket with a proxy of its own before it."""
    name = f"faulty-{next(_serial)}"
    make_bucket(s3, name)
    with Proxy(s3.endpoint, seed=name) as proxy:
        yield Place(s3, name, proxy)


@pytest.fixture
def able(grid: Grid, place: Place) -> Grid:
    """`grid` with a cluster in that bucket, which runs use; a server that is silent is given up soon."""
    return place.grid(grid)
