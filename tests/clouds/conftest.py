"""What these tests share: one S3 server, a bucket and a proxy for each test, and `grid` that knows only the proxy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.clouds.judge import Place
from tests.clouds.proxy import Proxy
from tests.services import Service, make_bucket, s3_server
from tests.support import Grid

_serial = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real S3 server, one for each process of tests: so these tests can be shared among them."""
    with s3_server(tmp_path_factory.mktemp("s3")) as service:
        yield service


@pytest.fixture
def place(server: Service) -> Iterator[Place]:
    """A new bucket with a proxy of its own before it."""
    name = f"faulty-{next(_serial)}"
    make_bucket(server, name)
    with Proxy(server.endpoint, seed=name) as proxy:
        yield Place(server, name, proxy)


@pytest.fixture
def able(grid: Grid, place: Place) -> Grid:
    """`grid` with a cluster in that bucket, which runs use; a server that is silent is given up soon."""
    return place.grid(grid)
