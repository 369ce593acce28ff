"""A run on Google Cloud Storage and on Azure: what `test_cloud` shows for S3, once through."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.support import downloaded, experiment, ran
from tests.services import Service
from tests.support import Grid, processes_of, wait_for

pytestmark = pytest.mark.xdist_group("cloud")

NAMES = ["a b.txt", "100%.txt", "%41", "x&y", "données/é.txt", "plus+", "q?#[]"]
WRITES = f"""
import os, random
for name in {NAMES!r}:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    open(name, "w").write(name)
open(b"bad\\xff", "wb").write(b"bad")
open("large", "wb").write(random.Random(1).randbytes(1 << 20) * 12)
"""


@pytest.mark.parametrize(("cloud", "uri"), [("gcs", "gs://lab/team/x"), ("azure", "az://lab/team/x")])
def test_a_run_from_its_start_to_its_deletion(
    request: pytest.FixtureRequest, grid: Grid, cloud: str, uri: str
) -> None:
    service: Service = request.getfixturevalue(cloud)
    able = grid.with_env(**service.environ, GRIDKEEP_CLUSTER="cloud")
    place = ("--store", uri, "--endpoint", service.endpoint)
    assert "writes, lists, reads and deletes" in able("cluster", "add", "cloud", *place).stdout
    one = ran(able, WRITES, name="r")
    assert (one["state"], one["reason"], one["missing"]) == ("completed", None, 0)
    assert f"{uri}/experiments/{one['experiment_id']}/artifacts/ │" in (
        able("artifacts", "--bucket_path", "r").stdout
    )
    files = downloaded(able, "r-exp0")
    assert files.pop(b"large").count(b"\0") > 0
    assert files == {**{name.encode(): name.encode() for name in NAMES}, b"bad\xff": b"bad"}
    assert "9 of 9 verified" in able("verify", "--deep", "r").stdout
    assert able("cat", "r-exp0:q?#[]").stdout == "q?#[]"
    wait_for(lambda: not processes_of(able.home) or None)
    before = able.json("artifacts", "r")
    shutil.rmtree(able.home)
    able("catalog", "rebuild", uri, "--endpoint", service.endpoint)
    assert able.json("artifacts", "r") == before
    assert experiment(able, "r-exp0")["experiment_id"] == one["experiment_id"]
    assert "Deleted 1 experiment, 12 objects" in able("delete", "--yes", "r").stdout
    # A server may still list a folder that it keeps, empty.
    able("catalog", "rebuild", uri, "--endpoint", service.endpoint, code=None)
    assert able.json("history") == []
