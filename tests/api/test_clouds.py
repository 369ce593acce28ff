"""Artifacts in a bucket: signed URLs are the store's own, and their bytes never pass the server."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gridkeep.model import Artifact, ArtifactState, Cluster, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.stores.keys import artifact_key
from tests.api.serving import Served, serving
from tests.services import Service, s3_server
from tests.support import wait_for

CONTENT = b"in a bucket" * 300_000


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with s3_server(tmp_path_factory.mktemp("s3")) as service:
        service.client().create_bucket(Bucket="runs")
        yield service


@pytest.fixture
def served(bucket: Service, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, env=bucket.environ) as served:
        served.context.catalog.put_cluster(
            Cluster(name="team", engine="local", store="s3://runs/here", endpoint=bucket.endpoint)
        )
        yield served


def kept(served: Served) -> Artifact:
    at = time.time()
    spec = RunSpec(argv=["true"], display="true", workdir="", root="/")
    run = Run(
        run_id=f"wr_{new_ulid()}",
        name="cloudy",
        kind="script",
        cluster="team",
        created_by=served.context.user,
        created_at=at,
        spec=spec,
    )
    experiment = Experiment(
        experiment_id=new_ulid(), run_id=run.run_id, run="cloudy", index=0, state=State.COMPLETED
    )
    served.context.catalog.create_run(run, [experiment])
    key = artifact_key(experiment.experiment_id, b"out/x y.bin")
    served.context.store("team").put(key, io.BytesIO(CONTENT))
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=b"out/x y.bin",
        key=key,
        state=ArtifactState.STORED,
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    served.context.catalog.record_artifacts(experiment.experiment_id, [artifact])
    return artifact


def test_signed_urls_lead_to_the_bucket_and_content_through_the_server(
    served: Served, bucket: Service
) -> None:
    artifact = kept(served)
    [shape] = served.get("/v1/runs/cloudy/artifacts").json()
    assert shape["uri"] == f"s3://runs/here/{artifact.key}"
    one = served.get(f"/v1/artifacts/{artifact.artifact_id}/signed-url", params={"expires_in": 60}).json()
    many = served.post("/v1/artifacts/signed-urls", json={"artifact_ids": [artifact.artifact_id]}).json()
    for url in (shape["signed_url"], one["signed_url"], many[0]["signed_url"]):
        assert urlsplit(url).netloc == urlsplit(bucket.endpoint).netloc
        assert httpx.get(url).content == CONTENT
        assert httpx.get(url[:-3]).status_code == 403
    direct = served.get(f"/v1/artifacts/{artifact.artifact_id}/content")
    assert direct.content == CONTENT and direct.headers["etag"] == f'"{artifact.sha256}"'
    part = served.get(f"/v1/artifacts/{artifact.artifact_id}/content", headers={"range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, CONTENT[5:10])


def test_a_bucket_that_is_away_is_said_so(served: Served) -> None:
    artifact = kept(served)
    assert served.get("/readyz").status_code == 200
    served.context.catalog.put_cluster(
        Cluster(name="team", engine="local", store="s3://runs/here", endpoint="http://127.0.0.1:1")
    )
    answer = served.get(f"/v1/artifacts/{artifact.artifact_id}/content")
    assert answer.status_code == 503 and answer.json()["detail"]
    ready = served.get("/readyz")
    assert ready.status_code == 503 and "store of team" in ready.json()["wrong"]


def test_a_run_that_is_sent_keeps_its_files_there_and_sees_no_credentials(served: Served) -> None:
    served.release_engine()
    body = {
        "command": "sh",
        "args": ["-c", "env > seen.txt"],
        "strategy": "none",
        "cluster": "team",
        "name": "sent",
    }
    assert served.post("/v1/run/scripts", json=body).status_code == 201
    wait_for(lambda: served.get("/v1/runs/sent").json()["status"] == "completed", 90, what="its end")
    [shape] = served.get("/v1/runs/sent/artifacts").json()
    seen = httpx.get(shape["signed_url"]).text
    assert "PATH=" in seen and "AWS_" not in seen
