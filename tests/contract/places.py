"""Where stores of each kind lie in tests, and how a process opens one: the test's own, or a worker that may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.base import Store
from tests.services import ROOT

CLOUDS = ("s3", "gcs", "azure")
_together = pytest.mark.xdist_group("cloud")  # one server of each kind for all
KINDS = [pytest.param("local"), *(pytest.param(kind, marks=_together) for kind in CLOUDS)]


@dataclass(frozen=True)
class Place:
    """A store that no other test uses."""

    kind: str
    uri: str
    endpoint: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> Store:
        """Opens it; any number of times. The environment must have been set."""
        cluster = Cluster(name="test", engine="local", store=self.uri, endpoint=self.endpoint)
        return open_store(cluster, create=True)

    def worker(self, *words: str) -> subprocess.Popen[str]:
        """`store_worker` with these words, as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.contract.store_worker", self.uri, self.endpoint or "", *words],
            cwd=ROOT,
            env={**os.environ, **self.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self, *words: str) -> dict[str, object]:
        """What such a process says in the end."""
        with self.worker(*words) as worker:
            said, _ = worker.communicate()
        assert worker.returncode == 0
        found: dict[str, object] = json.loads(said)
        return found
