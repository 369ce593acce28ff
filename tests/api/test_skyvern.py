"""Skyvern's own client, unchanged, against this server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from skyvern.client import Skyvern
from skyvern.client.core.api_error import ApiError
from skyvern.client.errors import NotFoundError, UnprocessableEntityError

from tests.api.serving import Served
from tests.unit.made import finish, keep, make_run


@pytest.fixture
def client(served: Served) -> Iterator[Skyvern]:
    with httpx.Client(timeout=30) as connection:
        yield Skyvern(base_url=served.url, api_key=served.key(), httpx_client=connection)


def test_the_runs(served: Served, client: Skyvern) -> None:
    first, _ = make_run(served.context, "first", ["completed"])
    second, _ = make_run(served.context, "second", ["queued"])
    found = client.get_runs_v2(page=1, page_size=2)
    assert [(run.run_id, run.task_run_id, run.task_run_type, run.status) for run in found] == [
        (second.run_id, second.run_id, "workflow_run", "queued"),
        (first.run_id, first.run_id, "workflow_run", "completed"),
    ]
    assert [run.run_id for run in client.get_runs_v2(status=["queued", "failed"], search_key="seco")] == [
        second.run_id
    ]
    assert client.get_runs_v2(run_type="task_v2") == []


def test_one_run(served: Served, client: Skyvern) -> None:
    run, [experiment] = make_run(served.context, "one", ["running"], reason="exit code 3")
    assert client.get_run(run.run_id).status == "running"
    finish(served.context, experiment, "failed", outcome="exit", exit_code=3)
    found = client.get_run("one")
    assert (found.run_id, found.run_type, found.status) == (run.run_id, "workflow_run", "failed")
    assert found.failure_reason == "exit code 3"
    assert found.errors is not None and found.errors[0]["error_code"] == "exit"
    assert found.finished_at is not None and found.finished_at >= found.created_at


def test_an_unknown_run(client: Skyvern) -> None:
    for call in (client.get_run, client.get_run_timeline):
        with pytest.raises(NotFoundError) as caught:
            call("wr_nothing")
        assert caught.value.body == {"detail": "Task run not found wr_nothing"}
    with pytest.raises(ApiError) as refused:
        client.cancel_run("wr_nothing")
    assert refused.value.status_code == 404
    assert client.get_run_artifacts("wr_nothing") == []


def test_its_artifacts_and_their_bytes(served: Served, client: Skyvern) -> None:
    run, [experiment] = make_run(served.context, "kept", ["completed"])
    text, har = (
        keep(served.context, experiment, b"a.json", b'{"a": 1}'),
        keep(served.context, experiment, b"b.har", b"{}"),
    )
    served.context.catalog.record_artifacts(experiment.experiment_id, [replace(har, type="har")])
    found = client.get_run_artifacts(run.run_id)
    assert [artifact.artifact_id for artifact in found] == [text.artifact_id, har.artifact_id]
    assert [artifact.artifact_type for artifact in found] == ["file", "har"]
    assert found[0].checksum == text.sha256 and found[0].file_size == 8 and found[0].run_id == run.run_id
    assert httpx.get(found[0].signed_url or "").content == b'{"a": 1}'
    assert [
        each.artifact_type for each in client.get_run_artifacts(run.run_id, artifact_type=["har", "trace"])
    ] == ["har"]
    assert client.artifacts.get_artifact_content(text.artifact_id) == {"a": 1}
    with pytest.raises(UnprocessableEntityError):
        client.get_run_artifacts(run.run_id, artifact_type="nothing")


def test_a_script_run_has_no_timeline(served: Served, client: Skyvern) -> None:
    run, _ = make_run(served.context, "no-steps", ["completed"])
    assert client.get_run_timeline(run.run_id) == []


def test_it_is_stopped(served: Served, client: Skyvern) -> None:
    run, _ = make_run(served.context, "stopped", ["queued"])
    client.cancel_run(run.run_id)
    assert client.get_run(run.run_id).status == "canceled"


def test_a_file_is_sent(client: Skyvern) -> None:
    sent = client.upload_file(file="what it holds")
    assert sent.s3uri.startswith("gridkeep://uploads/")
    assert httpx.get(sent.presigned_url).content == b"what it holds"


def test_a_browser_run_says_what_is_missing(client: Skyvern) -> None:
    with pytest.raises(ApiError) as refused:
        client.run_task(prompt="Find the price", url="https://example.org", max_steps=3)
    assert refused.value.status_code == 501
    assert "gridkeep[browser]" in refused.value.body["detail"] and "pip install" in refused.value.body["hint"]


def test_a_wrong_key(served: Served) -> None:
    with pytest.raises(ApiError) as caught:
        Skyvern(base_url=served.url, api_key="no").get_run("one")
    assert (caught.value.status_code, caught.value.body) == (403, {"detail": "Invalid credentials"})
