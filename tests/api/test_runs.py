"""Runs: finding, looking at, ending, deleting; whose they are."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, Experiment, State, new_ulid
from gridkeep.runs.shares import Place, make_share
from tests.api.serving import Served
from tests.support import wait_for
from tests.unit.made import finish, keep, make_run


def names(served: Served, **params: object) -> list[str]:
    answer = served.get("/v1/runs", params={"page_size": 100, **params})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()]


def test_one_run_by_id_or_name(served: Served) -> None:
    run, _ = make_run(served.context, "one", ["completed", "completed"])
    for name in ("one", run.run_id):
        shape = served.get(f"/v1/runs/{name}").json()
        assert (shape["run_id"], shape["name"], shape["run_type"]) == (run.run_id, "one", "workflow_run")
        assert (shape["status"], shape["experiments"], shape["kind"]) == ("completed", 2, "script")
        assert shape["run_request"] is None and shape["errors"] == [] and shape["syncing"] is False
        assert shape["app_url"] == f"{served.url}/runs/one"


@pytest.mark.parametrize("name", ["nobody", "wr_nobody", "One", "ö", "a%00b", "..%2f..", "x" * 300, "'"])
def test_an_unknown_run_is_404_in_skyverns_words(served: Served, name: str) -> None:
    for method, path in (
        ("GET", ""),
        ("GET", "/timeline"),
        ("POST", "/cancel"),
        ("DELETE", ""),
        ("GET", "/experiments"),
    ):
        answer = served.client().request(method, f"/v1/runs/{name}{path}")
        assert answer.status_code == 404, (path, answer.text)
    if name == "nobody":
        assert served.get("/v1/runs/nobody").json() == {"detail": "Task run not found nobody"}


STATUSES = {
    ("queued",): "queued",
    ("running",): "running",
    ("syncing",): "running",
    ("completed", "queued"): "queued",
    ("completed",): "completed",
    ("stopped", "completed"): "canceled",
    ("failed", "completed"): "failed",
}


@pytest.mark.parametrize(("states", "status"), STATUSES.items(), ids=str)
def test_states_in_skyverns_words(served: Served, states: tuple[str, ...], status: str) -> None:
    name = "-".join(states)
    make_run(served.context, name, states)
    shape = served.get(f"/v1/runs/{name}").json()
    assert (shape["status"], shape["syncing"]) == (status, states == ("syncing",))
    assert name in names(served, status=status) and name in names(served, status=["created", status])
    others = {"queued", "running", "completed", "canceled", "failed", "timed_out", "terminated"} - {status}
    assert name not in names(served, status=sorted(others))


def test_a_run_that_took_too_long(served: Served) -> None:
    _, experiments = make_run(served.context, "slow", ["running", "running"], reason="timed out after 5 s")
    for experiment in experiments:
        finish(served.context, experiment, "failed", outcome="timeout")
    shape = served.get("/v1/runs/slow").json()
    assert (shape["status"], shape["failure_reason"]) == ("timed_out", "timed out after 5 s")
    assert [error["error_code"] for error in shape["errors"]] == ["timeout", "timeout"]
    assert "slow" in names(served, status="timed_out") and "slow" not in names(served, status="failed")


def test_pages_and_filters(own_server: Served) -> None:
    for number in range(25):
        make_run(
            own_server.context,
            f"page-{number}",
            ["completed"],
            created_by="ann" if number == 3 else own_server.context.user,
        )
    everything = names(own_server, **{"global": "true"})
    assert everything == [f"page-{number}" for number in reversed(range(25))]
    mine = [name for name in everything if name != "page-3"]
    assert names(own_server) == mine
    assert names(own_server, page_size=7, page=3) == mine[14:21]
    assert names(own_server, page=1000) == []
    assert len(own_server.get("/v1/runs").json()) == 10
    assert names(own_server, search_key="GE-1") == [name for name in mine if name.startswith("page-1")]
    assert names(own_server, run_type="workflow_run") == mine and names(own_server, run_type="task_v2") == []
    item = own_server.get("/v1/runs").json()[0]
    assert (item["task_run_id"], item["task_run_type"]) == (item["run_id"], "workflow_run")
    for wrong in (
        {"page": 0},
        {"page_size": 0},
        {"page_size": 1000},
        {"status": "lost"},
        {"run_type": "script"},
        {"page": "x"},
    ):
        answer = own_server.get("/v1/runs", params=wrong)
        assert answer.status_code == 422 and answer.json()["detail"][0]["loc"][0] == "query"


def test_a_script_run_has_no_timeline(served: Served) -> None:
    make_run(served.context, "no-steps", ["completed"])
    assert served.get("/v1/runs/no-steps/timeline").json() == []


def test_a_browser_run_has_its_pictures_and_downloads(served: Served) -> None:
    script, _ = make_run(served.context, "a-script", ["completed"])
    run = replace(script, run_id=f"tsk_{new_ulid()}", name="browsed", kind="browser")
    experiment = Experiment(
        experiment_id=new_ulid(), run_id=run.run_id, run=run.name, index=0, state=State.COMPLETED
    )
    served.context.catalog.create_run(run, [experiment])
    made = dict[str, Artifact]()
    for type_ in (
        "screenshot_action",
        "recording",
        "download",
        *["screenshot_action"] * 3,
        "recording",
        "file",
    ):
        name = f"{len(made)}.{type_}"
        kept = keep(served.context, experiment, f"dir/{name}".encode(), name.encode())
        served.context.catalog.record_artifacts(experiment.experiment_id, [replace(kept, type=type_)])
        made[name] = kept
    shape = served.get("/v1/runs/browsed").json()
    assert (shape["run_type"], shape["run_id"], shape["step_count"]) == ("task_v2", run.run_id, 0)
    assert httpx.get(shape["recording_url"]).text == "6.recording"
    shots = [httpx.get(url).text for url in shape["screenshot_urls"]]
    assert shots == [f"{number}.screenshot_action" for number in (5, 4, 3)]
    [download] = shape["downloaded_files"]
    assert httpx.get(download.pop("url")).text == "2.download"
    assert download == {
        "checksum": made["2.download"].sha256,
        "filename": "2.download",
        "file_size": len("2.download"),
        "modified_at": download["modified_at"],
        "artifact_id": made["2.download"].artifact_id,
    }
    assert names(served, run_type="task_v2") == ["browsed"]
    artifacts = served.get("/v1/runs/browsed/artifacts").json()
    assert {(one["task_id"], one["workflow_run_id"]) for one in artifacts} == {(run.run_id, None)}


# ------------------------------------------------------------------------------------------------------ ending, deleting


def test_a_queued_run_is_stopped(served: Served) -> None:
    make_run(served.context, "to-stop", ["queued", "queued"])
    shape = served.post("/v1/runs/to-stop/cancel").json()
    assert (shape["status"], shape["failure_reason"]) == ("canceled", "stopped by its owner")
    assert served.post("/v1/runs/to-stop/cancel").json()["status"] == "canceled"  # it is


def test_a_running_one_is_asked_to(served: Served) -> None:
    run, [experiment] = make_run(served.context, "to-ask", ["running"])
    assert served.post("/v1/runs/to-ask/cancel").json()["status"] == "running"
    assert asked_to_stop(served, experiment) == "stopped by its owner"
    finish(served.context, experiment, "stopped")
    assert served.get(f"/v1/runs/{run.run_id}").json()["status"] == "canceled"


def asked_to_stop(served: Served, experiment: Experiment) -> str | None:
    now = served.context.catalog.experiment(experiment.experiment_id)
    assert now is not None
    return now.stop_requested


def test_deleting_says_what_goes_and_it_is_gone_at_once(served: Served) -> None:
    run, [experiment] = make_run(served.context, "to-go", ["running"])
    artifact = keep(served.context, experiment, b"x", b"12345")
    refused = served.delete("/v1/runs/to-go")
    assert refused.status_code == 409 and "still running" in refused.json()["detail"]
    finish(served.context, experiment)
    answer = served.delete("/v1/runs/to-go")
    assert answer.status_code == 202
    assert answer.json() == {"run_id": run.run_id, "name": "to-go", "files": 1, "bytes": 5, "experiments": 1}
    for path in (
        f"runs/{run.run_id}",
        f"artifacts/{artifact.artifact_id}",
        f"artifacts/{artifact.artifact_id}/content",
        "experiments/to-go-exp0",
    ):
        assert served.get(f"/v1/{path}").status_code == 404
    assert served.get(f"/v1/runs/{run.run_id}/artifacts").json() == []
    [line] = served.context.catalog.audit(limit=1)
    assert (line.action, line.subject, line.detail["name"]) == ("run.delete", run.run_id, "to-go")


def test_the_engine_finishes_a_deletion(own_server: Served) -> None:
    """Here one may start: the server starts it."""
    _, [experiment] = make_run(own_server.context, "to-erase", ["completed"])
    keep(own_server.context, experiment, b"x", b"12345")
    own_server.release_engine()
    own_server.delete("/v1/runs/to-erase")
    wait_for(lambda: not own_server.context.catalog.deleting(), what="the end of the deletion")
    assert not list(own_server.context.store("local").list(""))


# --------------------------------------------------------------------------------------------------------- whose they are


def test_whose_run_it_is_and_what_others_may(served: Served) -> None:
    _, [experiment] = make_run(served.context, "anns", ["queued"], created_by="ann")
    ben, admin = served.client(Role.WRITE, user="ben"), served.client(Role.ADMIN, user="ben")
    reader = served.client(Role.READ, user="ann")
    assert [run["name"] for run in ben.get("/v1/runs").json()] == []
    assert ben.get("/v1/runs/anns").status_code == 200  # the team sees it
    for client, words in ((ben, "belongs to ann"), (reader, "needs the role write")):
        for answer in (client.post("/v1/runs/anns/cancel"), client.delete("/v1/runs/anns")):
            assert answer.status_code == 403 and words in answer.json()["detail"]
    assert asked_to_stop(served, experiment) is None
    assert admin.post("/v1/runs/anns/cancel").json()["status"] == "canceled"
    assert served.client(Role.WRITE, user="ann").delete("/v1/runs/anns").status_code == 202


CHANGES = {  # what a key that may only read is refused
    ("post", "/v1/run/scripts"),
    ("post", "/v1/run/tasks"),
    ("post", "/v1/runs/{run_id}/cancel"),
    ("delete", "/v1/runs/{run_id}"),
    ("post", "/v1/shares"),
    ("delete", "/v1/shares/{share_id}"),
    ("post", "/v1/upload_file"),
}
ASKS = {("post", "/v1/archive"), ("post", "/v1/artifacts/signed-urls"), ("post", "/v1/login-links")}


def test_what_each_role_may_in_every_call_on_anothers_run(served: Served) -> None:
    """Everybody with a key sees it; who may only read changes nothing, nor does another user with the role."""
    run, [experiment] = make_run(served.context, "in-every-call", ["completed"], created_by="ann")
    artifact = keep(served.context, experiment, b"x.txt", b"1")
    share, _ = make_share(served.context.catalog, Place(run), by="ann", ttl=60)
    names = {
        "run_id": run.run_id,
        "experiment": experiment.name,
        "artifact_id": artifact.artifact_id,
        "share_id": share.share_id,
    }
    bodies = {
        "/v1/archive": {"experiments": [experiment.name]},
        "/v1/artifacts/signed-urls": {"artifact_ids": [artifact.artifact_id]},
        "/v1/shares": {"run_id": run.run_id},
        "/v1/run/scripts": {"command": "true"},
        "/v1/run/tasks": {"prompt": "x"},
    }
    reader, writer = served.client(Role.READ, user="ben"), served.client(Role.WRITE, user="ben")
    seen = set()
    for path, methods in served.get("/openapi.json").json()["paths"].items():
        for method in methods:
            call = (method, path)
            if not path.startswith("/v1/") or path.endswith("/events") or path == "/v1/uploads/{upload_id}":
                continue
            seen.add(call)
            address, body = path.format_map(names), bodies.get(path)
            params = {"experiment": experiment.name} if call == ("get", "/v1/archive") else None
            answer = reader.request(method, address, params=params, json=body)
            if call in CHANGES:
                assert answer.status_code == 403 and "needs the role write" in answer.json()["detail"], call
                if "_id}" in path or path == "/v1/shares":
                    answer = writer.request(method, address, json=body)
                    assert answer.status_code == 403 and "ann" in answer.json()["detail"], call
            else:
                assert method == "get" or call in ASKS, call
                assert answer.status_code == (404 if path.endswith("/manifest") else 200), (call, answer.text)
    assert {*CHANGES, *ASKS} <= seen and len(seen) > 20
    again = served.context.catalog.share(share.share_id)
    assert again is not None and again.revoked_at is None and served.context.catalog.run("in-every-call")


def test_every_call_needs_a_key(served: Served) -> None:
    run, [experiment] = make_run(served.context, "closed", ["completed"])
    artifact = keep(served.context, experiment, b"x", b"1")
    stranger = served.client(None)
    spec = stranger.get("/openapi.json").json()
    values = {"run_id": run.run_id, "experiment": experiment.name, "artifact_id": artifact.artifact_id}
    seen = 0
    for path, methods in spec["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for method in methods:
            answer = stranger.request(
                method, path.format_map({**values, "share_id": "x", "upload_id": "x"}), json={}
            )
            assert answer.status_code == 403, (method, path, answer.status_code)
            assert answer.json() == {"detail": "Invalid credentials"}
            seen += 1
    assert seen > 10
    assert served.context.catalog.run("closed")


def test_the_states_are_those_of_the_model() -> None:
    assert {state for states in STATUSES for state in states} == {str(state) for state in State}
