"""Experiments: their listing, what they printed, their manifest."""

from __future__ import annotations

import pytest

from tests.api.serving import Served
from tests.unit.made import finish, make_run, move_log_to_store, print_to_journal


def test_those_of_a_run_in_pages(served: Served) -> None:
    run, experiments = make_run(served.context, "sweep", ["completed"] * 5)
    names = [experiment.name for experiment in experiments]
    for name in ("sweep", run.run_id):
        shapes = served.get(f"/v1/runs/{name}/experiments").json()
        assert [shape["name"] for shape in shapes] == names
    page = served.get("/v1/runs/sweep/experiments", params={"after": 1, "limit": 2}).json()
    assert [shape["name"] for shape in page] == names[2:4]
    assert served.get("/v1/runs/sweep/experiments", params={"after": 99}).json() == []


def test_one_by_name_or_ulid(served: Served) -> None:
    _, [experiment] = make_run(served.context, "alone", ["running"])
    for name in ("alone-exp0", experiment.experiment_id):
        shape = served.get(f"/v1/experiments/{name}").json()
        assert (shape["name"], shape["state"]) == ("alone-exp0", "running")


@pytest.mark.parametrize(
    "name", ["alone", "alone-exp7", "alone-exp007", "alone-exp" + "9" * 30, "x" * 26, "Ä", "a%00"]
)
def test_an_unknown_one_is_404(served: Served, name: str) -> None:
    for path in ("", "/artifacts", "/logs", "/manifest"):
        assert served.get(f"/v1/experiments/{name}{path}").status_code == 404


def test_what_it_prints_while_it_runs_and_after(served: Served) -> None:
    _, [experiment] = make_run(served.context, "printing", ["running"])
    path = f"/v1/experiments/{experiment.name}/logs"
    assert served.get(path).content == b""
    lines = b"".join(b"line %d \xff\n" % i for i in range(300_000))
    print_to_journal(served.context, experiment, lines)
    for after in (False, True):
        if after:
            move_log_to_store(served.context, experiment)
            finish(served.context, experiment)
        answer = served.get(path)
        assert answer.content == lines and answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "sandbox" in answer.headers["content-security-policy"]
        tail = served.get(path, params={"lines": 2})
        assert tail.content == b"line 299998 \xff\nline 299999 \xff\n"
        assert int(tail.headers["x-log-position"]) == len(lines) - len(tail.content)
        assert served.get(path, params={"start": len(lines) - 5}).content == lines[-5:]
        assert served.get(path, params={"start": len(lines) + 5}).content == b""
    assert served.get(path, params={"lines": 0}).status_code == 422


def test_without_a_manifest_it_says_when_there_will_be_one(served: Served) -> None:
    make_run(served.context, "unlisted", ["syncing"])
    answer = served.get("/v1/experiments/unlisted-exp0/manifest")
    assert answer.status_code == 404 and "syncing" in answer.json()["detail"]
