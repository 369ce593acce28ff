"""Artifacts: their listing, one of them, signed URLs."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from gridkeep.model import Artifact, ArtifactState, Experiment, iso, new_ulid
from gridkeep.runs.signing import Signer
from tests.api.serving import Served
from tests.unit.made import keep, make_run


def one_run(served: Served, name: str, state: str = "completed") -> Experiment:
    return make_run(served.context, name, [state])[1][0]


def listed(served: Served, path: str, **params: object) -> list[dict[str, object]]:
    answer = served.get(path, params=params)
    assert answer.status_code == 200, answer.text
    shapes: list[dict[str, object]] = answer.json()
    return shapes


def test_an_artifact_to_the_letter(served: Served) -> None:
    run, [_, experiment] = make_run(served.context, "letter", ["completed", "completed"])
    made = keep(served.context, experiment, b"out/model.json", b"{}")
    served.context.catalog.record_artifacts(
        experiment.experiment_id, [replace(made, mtime_ns=1_700_000_000_123_456_789)]
    )
    [shape] = listed(served, "/v1/runs/letter/artifacts")
    url = shape.pop("signed_url")
    uri = (
        f"file://{served.context.home.store}/experiments/{experiment.experiment_id}/artifacts/out/model.json"
    )
    assert shape == {
        "artifact_id": made.artifact_id,
        "artifact_type": "file",
        "uri": uri,
        "organization_id": "o_gridkeep",
        "created_at": shape["created_at"],
        "modified_at": "2023-11-14T22:13:20.123456Z",
        "run_id": run.run_id,
        "task_id": None,
        "step_id": None,
        "workflow_run_id": run.run_id,
        "workflow_run_block_id": None,
        "browser_session_id": None,
        "observer_cruise_id": None,
        "observer_thought_id": None,
        "ai_suggestion_id": None,
        "bundle_key": None,
        "checksum": made.sha256,
        "file_size": 2,
        "archived": False,
        "experiment": "letter-exp1",
        "path": "out/model.json",
        "state": "stored",
        "reason": None,
        "mime_type": "application/json",
        "step_number": None,
    }
    assert httpx.get(str(url)).content == b"{}"
    assert listed(served, f"/v1/runs/{run.run_id}/artifacts")[0]["artifact_id"] == made.artifact_id
    assert listed(served, "/v1/experiments/letter-exp1/artifacts")[0]["artifact_id"] == made.artifact_id
    assert listed(served, "/v1/experiments/letter-exp0/artifacts") == []
    alone = served.get(f"/v1/artifacts/{made.artifact_id}").json()
    assert {**alone, "signed_url": None} == {**shape, "signed_url": None}


def test_created_at_is_when_its_id_was_made_and_ascends(served: Served) -> None:
    experiment = one_run(served, "ages")
    at = [1_700_000_000.0 + number for number in (5, 1, 3)]
    made = [
        Artifact(
            artifact_id=f"art_{new_ulid(each)}",
            experiment_id=experiment.experiment_id,
            path=b"%d" % i,
            state=ArtifactState.STORED,
            size=1,
            sha256="0" * 64,
        )
        for i, each in enumerate(at)
    ]
    served.context.catalog.record_artifacts(experiment.experiment_id, made)
    assert [shape["created_at"] for shape in listed(served, "/v1/runs/ages/artifacts")] == [
        iso(each) for each in sorted(at)
    ]


def test_only_what_has_bytes_unless_all_is_asked_for(served: Served) -> None:
    experiment = one_run(served, "states", "running")
    for state in ArtifactState:
        for sha256 in (None, "0" * 64):
            served.context.catalog.record_artifacts(
                experiment.experiment_id,
                [
                    Artifact(
                        artifact_id=f"art_{new_ulid()}",
                        experiment_id=experiment.experiment_id,
                        path=f"{state}-{bool(sha256)}".encode(),
                        state=state,
                        size=1 if sha256 else None,
                        sha256=sha256,
                    )
                ],
            )
    kept = {str(shape["path"]) for shape in listed(served, "/v1/runs/states/artifacts")}
    assert kept == {f"{state}-True" for state in ArtifactState}
    everything = listed(served, "/v1/runs/states/artifacts", state="all")
    assert len(everything) == 2 * len(ArtifactState)
    assert all(bool(shape["signed_url"]) == bool(shape["checksum"]) for shape in everything)


def test_types_may_be_repeated_and_others_are_refused(served: Served) -> None:
    experiment = one_run(served, "types")
    for number, kind in enumerate(("file", "har", "trace", "recording")):
        made = keep(served.context, experiment, b"%d" % number, b"x")
        served.context.catalog.record_artifacts(experiment.experiment_id, [replace(made, type=kind)])
    path = "/v1/runs/types/artifacts"
    assert [shape["artifact_type"] for shape in listed(served, path, artifact_type=["recording", "har"])] == [
        "har",
        "recording",
    ]
    assert [shape["artifact_type"] for shape in listed(served, path, artifact_type="file")] == ["file"]
    assert listed(served, path, artifact_type="hashed_href_map") == []
    refused = served.get(path, params={"artifact_type": "picture"})
    assert refused.status_code == 422 and refused.json()["detail"][0]["loc"] == ["query", "artifact_type", 0]


def test_parameters_that_say_what_is_so_anyhow_change_nothing(served: Served) -> None:
    """Without any the listing takes a shorter way (`BusyRoute`)."""
    experiment = one_run(served, "same")
    made = [keep(served.context, experiment, b"%d" % number, b"x") for number in range(3)]
    pending = replace(made[0], artifact_id=f"art_{new_ulid()}", path=b"pending", sha256=None)
    served.context.catalog.record_artifacts(experiment.experiment_id, [pending])
    for path in ("/v1/runs/same/artifacts", "/v1/experiments/same-exp0/artifacts"):
        for parameters in ({}, {"state": "stored"}):
            shapes = listed(served, path, **parameters)
            assert [shape["artifact_id"] for shape in shapes] == [artifact.artifact_id for artifact in made]
            refused = httpx.get(f"{served.url}{path}", params=parameters)
            assert (refused.status_code, refused.json()) == (403, {"detail": "Invalid credentials"})


def test_an_unknown_run_has_none(served: Served) -> None:
    assert listed(served, "/v1/runs/wr_nothing/artifacts") == []
    assert served.get("/v1/experiments/nobody-exp0/artifacts").status_code == 404


def test_names_of_any_bytes(served: Served) -> None:
    experiment = one_run(served, "bytes")
    paths = [b"caf\xe9.txt", "snow \u2603 & %41?#.png".encode(), b"a\nb", b"_abs/etc/x"]
    for path in paths:
        keep(served.context, experiment, path, path)
    shapes = listed(served, "/v1/runs/bytes/artifacts")
    assert [shape["path"] for shape in shapes] == [path.decode(errors="replace") for path in paths]
    assert "path_b64" in shapes[0] and "path_b64" not in shapes[1]
    for shape, path in zip(shapes, paths, strict=True):
        assert httpx.get(str(shape["signed_url"])).content == path


# -------------------------------------------------------------------------------------------------------------- pages


def test_pages_follow_the_link_and_give_the_same_as_the_whole(served: Served) -> None:
    experiments = make_run(served.context, "many", ["completed"] * 3)[1]
    for experiment in experiments:
        served.context.catalog.record_artifacts(
            experiment.experiment_id,
            [
                Artifact(
                    artifact_id=f"art_{new_ulid()}",
                    experiment_id=experiment.experiment_id,
                    path=b"%d" % i,
                    state=ArtifactState.STORED,
                    size=1,
                    sha256="0" * 64,
                    key=f"k{i}",
                )
                for i in range(900)
            ],
        )
    whole = listed(served, "/v1/runs/many/artifacts")
    assert len(whole) == 2700 and whole == sorted(whole, key=lambda shape: str(shape["artifact_id"]))
    found: list[dict[str, object]] = []
    url: str | None = f"{served.url}/v1/runs/many/artifacts?limit=800&artifact_type=file"
    while url:
        answer = served.get(url)
        found += answer.json()
        url = answer.links.get("next", {}).get("url")
        assert (len(answer.json()) == 800) == (url is not None)
    assert [shape["artifact_id"] for shape in found] == [shape["artifact_id"] for shape in whole]
    for wrong in ({"limit": 0}, {"limit": 5000}, {"limit": "x"}, {"state": "some"}):
        assert served.get("/v1/runs/many/artifacts", params=wrong).status_code == 422


# -------------------------------------------------------------------------------------------------------- signed URLs


def content(url: str) -> int:
    return httpx.get(url).status_code


def changed(url: str, **parameters: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | parameters
    return parts._replace(query=urlencode({k: v for k, v in query.items() if v is not None})).geturl()


def test_a_signed_url_needs_no_key_and_says_when_it_ends(served: Served) -> None:
    made = keep(served.context, one_run(served, "signed"), b"x.txt", b"hello")
    shape = served.get(f"/v1/artifacts/{made.artifact_id}/signed-url").json()
    assert shape["artifact_id"] == made.artifact_id
    assert shape["expires_at"][:16] in {iso(time.time() + 900 + late)[:16] for late in (-60, 0)}  # type: ignore[index]
    answer = httpx.get(shape["signed_url"])
    assert answer.content == b"hello" and answer.headers["content-disposition"].startswith("inline")
    attached = served.get(f"/v1/artifacts/{made.artifact_id}/signed-url", params={"download": "true"}).json()
    assert httpx.get(attached["signed_url"]).headers["content-disposition"].startswith("attachment")


def test_whatever_is_changed_of_it_it_is_refused(served: Served) -> None:
    experiment = one_run(served, "tampered")
    made, other = (keep(served.context, experiment, name, name) for name in (b"a", b"b"))
    url = served.get(f"/v1/artifacts/{made.artifact_id}/signed-url").json()["signed_url"]
    assert content(url) == 200
    query = parse_qs(urlsplit(url).query)
    number, _, mac = query["signature"][0].partition(".")
    wrong = [
        changed(url, expires=str(int(query["expires"][0]) + 1)),
        changed(url, expires=""),
        changed(url, expires=None),
        changed(url, expires="9" * 20),
        changed(url, expires=" " + query["expires"][0]),
        changed(url, signature=""),
        changed(url, signature=mac),
        changed(url, signature=f"2.{mac}"),
        changed(url, signature=f"{number}.{mac[:-1]}"),
        changed(url, signature=f"{number}.{mac}="),
        changed(url, signature="\u00e9"),
        changed(url, download="1"),
        url.replace(made.artifact_id, other.artifact_id),
    ]
    for each in wrong:
        answer = httpx.get(each)
        assert answer.status_code == 403 and "fresh one" in answer.json()["hint"], each
    assert content(changed(url, signature=None)) == 403


def test_it_ends_by_time_by_replacement_and_by_deletion(served: Served) -> None:
    experiment = one_run(served, "ends")
    made = keep(served.context, experiment, b"a", b"a")
    path = f"/v1/artifacts/{made.artifact_id}/signed-url"
    short = served.get(path, params={"expires_in": 0.5}).json()["signed_url"]
    fresh = served.get(path).json()["signed_url"]
    time.sleep(2)
    answer = httpx.get(short)
    assert (answer.status_code, answer.json()["detail"]) == (403, "This URL has ended.")
    served.context.catalog.record_artifacts(experiment.experiment_id, [replace(made, sha256="1" * 64)])
    assert content(fresh) == 403
    served.context.catalog.record_artifacts(experiment.experiment_id, [made])
    assert content(fresh) == 200
    served.delete("/v1/runs/ends")
    assert content(fresh) == 404
    for wrong in (0, -1, 8 * 86400, "x", "nan", "inf"):
        assert served.get(path, params={"expires_in": wrong}).status_code == 422


def test_a_new_secret_lets_old_urls_end_by_themselves_or_at_once(served: Served) -> None:
    made = keep(served.context, one_run(served, "rotated"), b"a", b"a")
    path = f"/v1/artifacts/{made.artifact_id}/signed-url"
    signer, old = Signer(served.context.home), served.get(path).json()["signed_url"]
    signer.rotate()
    new = served.get(path).json()["signed_url"]
    assert old != new and content(old) == content(new) == 200
    signer.rotate(at_once=True)
    assert content(old) == content(new) == 403
    assert content(served.get(path).json()["signed_url"]) == 200


def test_many_at_once_in_the_order_asked_for(served: Served) -> None:
    experiment = one_run(served, "bulk", "running")
    made = [keep(served.context, experiment, b"%d" % i, b"%d" % i) for i in range(3)]
    growing = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=b"g",
        state=ArtifactState.GROWING,
    )
    served.context.catalog.record_artifacts(experiment.experiment_id, [growing])
    ids = [made[2].artifact_id, "art_unknown", made[0].artifact_id, growing.artifact_id, made[2].artifact_id]
    answer = served.post("/v1/artifacts/signed-urls", json={"artifact_ids": ids, "expires_in": 60}).json()
    assert [each["artifact_id"] for each in answer] == ids
    bodies = [each["signed_url"] and httpx.get(each["signed_url"]).content for each in answer]
    assert bodies == [b"2", None, b"0", None, b"2"]
    assert served.get(f"/v1/artifacts/{growing.artifact_id}/signed-url").status_code == 409
    for wrong in (
        {},
        {"artifact_ids": ["x"] * 10_001},
        {"artifact_ids": "x"},
        {"artifact_ids": [], "expires_in": 10**6},
    ):
        assert served.post("/v1/artifacts/signed-urls", json=wrong).status_code == 422
    assert served.post("/v1/artifacts/signed-urls", json={"artifact_ids": []}).json() == []


@pytest.mark.parametrize("artifact_id", ["art_x", "x", "art_" + "0" * 26, "..", "%2e%2e", "art_%00"])
def test_an_unknown_artifact_is_404(served: Served, artifact_id: str) -> None:
    for path in ("", "/content", "/signed-url"):
        assert served.get(f"/v1/artifacts/{artifact_id}{path}").status_code == 404
    assert (
        httpx.get(f"{served.url}/v1/artifacts/{artifact_id}/content?expires=1&signature=1.x").status_code
        == 404
    )
