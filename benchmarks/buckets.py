"""A bucket for benchmarks: an S3 server of their own on loopback, and a cluster in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homes import Home

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.services import make_bucket, s3_server


@contextmanager
def s3_cluster(home: Home) -> Iterator[None]:
    """A cluster in a bucket of a fresh server, which runs of the home use from now on."""
    with s3_server(home.folder / "server") as server:
        make_bucket(server, "bench")
        home.environ |= server.environ | {"GRIDKEEP_CLUSTER": "cloud"}
        home.grid("cluster", "add", "cloud", "--store", "s3://bench/kept")
        yield
