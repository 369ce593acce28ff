"""For whoever runs a server: health, figures, the document of the API; and that a killed server is missed by nobody."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.api.serving import Served, serving, start
from tests.support import Grid, wait_for
from tests.unit.made import keep, make_run


def test_alive_and_ready(own_server: Served) -> None:
    assert own_server.client(None).get("/healthz").json()["status"] == "ok"
    assert own_server.client(None).get("/readyz").json() == {"status": "ready", "wrong": {}}
    shutil.move(own_server.context.home.store, own_server.context.home.store + "-away")
    away = own_server.client(None).get("/readyz")
    assert away.status_code == 503 and "not there" in away.json()["wrong"]["store of local"]
    assert own_server.client(None).get("/healthz").status_code == 200


def test_figures_for_prometheus(served: Served) -> None:
    make_run(served.context, "waiting", ["queued", "queued"])
    served.get("/v1/runs/waiting")
    served.get("/v1/runs/waiting/artifacts?signature=hidden")
    text = served.client(None).get("/metrics").text
    assert re.search(
        r'gridkeep_requests_total\{method="GET",route="/v1/runs/\{run_id\}",status="200"\} [1-9]', text
    )
    assert (
        'gridkeep_experiments{state="queued"} 2.0' in text or 'gridkeep_experiments{state="queued"} 2' in text
    )
    assert "gridkeep_request_seconds_bucket" in text and "waiting" not in re.sub(
        r"gridkeep_\w+|HELP.*", "", text
    )


def test_the_document_and_its_page_load_nothing_from_elsewhere(served: Served) -> None:
    stranger = served.client(None)
    document = stranger.get("/openapi.json").json()
    page = stranger.get("/docs")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    for path in document["paths"]:
        assert path.replace("&", "&amp;") in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text
    assert document["components"]["securitySchemes"]["key"] == {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
    }


def test_a_killed_server_is_missed_by_nobody(tmp_path: Path) -> None:
    content = os.urandom(40_000_000)
    with serving(tmp_path) as first:
        _, [experiment] = make_run(first.context, "kept", ["completed"])
        made = keep(first.context, experiment, b"x.bin", content)
        key, port = first.key(), first.url.rpartition(":")[2]
        with httpx.Client(base_url=first.url, headers={"x-api-key": key}) as client:
            url = client.get(f"/v1/artifacts/{made.artifact_id}/signed-url").json()["signed_url"]
            got = b""
            with pytest.raises(httpx.HTTPError), client.stream("GET", url) as answer:
                etag = answer.headers["etag"]
                for piece in answer.iter_raw():
                    got += piece
                    first.process.kill()
        first.process.wait()
        assert 0 < len(got) < len(content)
        second = start(tmp_path, "--port", port)
        try:  # what the first has signed is good, and what it has begun goes on
            rest = httpx.get(url, headers={"range": f"bytes={len(got)}-", "if-range": etag})
            assert rest.status_code == 206 and got + rest.content == content
            assert httpx.get(f"{second.url}/v1/runs/kept", headers={"x-api-key": key}).status_code == 200
        finally:
            second.close()


def test_it_starts_the_engine_for_work_that_lies_waiting(grid: Grid, project: Path, tmp_path: Path) -> None:
    (project / "hello.py").write_text("open('x', 'w')")
    with serving(tmp_path) as served:
        there = Grid(
            grid.command,
            Path(served.context.home.path),
            grid.cwd,
            {**grid.env, "GRIDKEEP_HOME": served.context.home.path},
        )
        there("run", "--name", "left", "hello.py")
        assert served.get("/v1/runs/left").json()["status"] == "queued"  # no engine may start
        served.release_engine()
        wait_for(lambda: served.get("/v1/runs/left").json()["status"] == "completed", 60, what="its end")


def test_another_catalog_in_its_place_makes_it_leave(own_server: Served) -> None:
    shutil.copy(own_server.context.home.catalog, own_server.context.home.catalog + ".new")
    os.rename(own_server.context.home.catalog + ".new", own_server.context.home.catalog)
    assert own_server.process.wait(30) == 1
    assert "replaced while it was in use" in own_server.log.read_text()
