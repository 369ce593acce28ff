"""`grid share`, on a home with and without a server, and at a server from elsewhere."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, ArtifactState, Cluster, Experiment, new_ulid
from gridkeep.runs.context import Context
from gridkeep.runs.servers import announced, running
from gridkeep.settings import Home
from tests.api.serving import Served, serving
from tests.support import Grid
from tests.unit.made import keep, make_run, quiet_home

STRANGER = httpx.Client(timeout=60)  # has no key, no cookie, and patience with a busy machine


@pytest.fixture
def here(served: Served, grid: Grid) -> Grid:
    """`grid` on the home that is served."""
    return grid.with_env(GRIDKEEP_HOME=served.context.home.path)


def some_files(context: Context, **more: object) -> Experiment:
    [experiment] = make_run(context, f"c-{new_ulid()}", ["completed"], **more)[1]
    for path in (b"out/a.txt", b"out/deep/b", b"c d"):
        keep(context, experiment, path, path)
    return experiment


def test_the_link_is_the_last_line_and_leads_to_the_server_of_the_home(served: Served, here: Grid) -> None:
    experiment = some_files(served.context)
    done = here("share", f"{experiment.name}:out/a.txt")
    assert done.stdout.startswith(f"{served.url}/s/") and "out/a.txt, until 20" in done.stderr
    assert STRANGER.get(done.last_line).content == b"out/a.txt"
    for words in (
        [experiment.name, "c d"],
        [f"{experiment.run}:c d"],
        [experiment.run, "c d", "--expires", "90m"],
    ):
        assert STRANGER.get(here("share", *words).last_line).content == b"c d"
    scopes = {"run": experiment.run, "experiment": experiment.name, "folder": f"{experiment.name}:out/"}
    for scope, word in scopes.items():
        here("share", word)
        newest = here.json("share", "--list")[0]
        assert (newest["scope"], newest["run"], newest["state"]) == (scope, experiment.run, "live")


def test_links_are_listed_and_ended_one_by_one(served: Served, here: Grid) -> None:
    experiment = some_files(served.context)
    first, second = (here("share", experiment.name).last_line for _ in range(2))
    STRANGER.get(first)
    of_run = [each for each in here.json("share", "--list") if each["run"] == experiment.run]
    assert [each["opens"] for each in of_run] == [0, 1]
    table = here("share", "--list").stdout
    assert of_run[0]["share_id"] in table and "Last Opened" in table
    assert "is revoked" in here("share", "--revoke", of_run[0]["share_id"]).stderr
    assert (STRANGER.get(first).status_code, STRANGER.get(second).status_code) == (200, 410)
    here("share", "--revoke", f"{first}/out/a.txt")
    assert STRANGER.get(first).status_code == 410
    assert "no such link" in here("share", "--revoke", "shr_nothing", code=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Say what to share"),
        (["x", "--list"], 2, "Say what to share"),
        (["x", "--json"], 2, "goes with `--list`"),
        (["--list", "--expires", "1h"], 2, "goes with"),
        (["x:y", "z"], 2, "twice"),
        (["nothing"], 1, "nothing does not exist - can not share"),
        (["nothing", "x"], 1, "nothing does not exist - can not share"),
        (["NAME", "no such file"], 1, "has nothing at no such file"),
        (["NAME", "--expires", "never"], 1, "'never' is not a duration"),
        (["NAME", "--expires", "31d"], 1, "at most 30 days"),
    ],
    ids=str,
)
def test_what_cannot_be_shared_is_said(
    served: Served, here: Grid, words: list[str], code: int, said: str
) -> None:
    if "NAME" in words:
        words = [some_files(served.context).name, *words[1:]]
    assert said in here("share", *words, code=code).stderr


def test_from_elsewhere_the_server_does_it(served: Served, grid: Grid) -> None:
    experiment = some_files(served.context, created_by="ann")
    ann = grid.with_env(GRID_URL=f"{served.url}/", GRID_API_KEY=served.key(Role.WRITE, user="ann"))
    words = ([f"{experiment.name}:c d"], [experiment.run, "c d"], [experiment.run])
    links = [ann("share", *each).last_line for each in words]
    assert [STRANGER.get(link).status_code for link in links] == [200] * 3
    assert STRANGER.get(links[0]).content == STRANGER.get(links[1]).content == b"c d"
    assert [each["scope"] for each in ann.json("share", "--list")] == ["run", "file", "file"]
    ann("share", "--revoke", links[0])
    assert STRANGER.get(links[0]).status_code == 410
    bob = ann.with_env(GRID_API_KEY=served.key(Role.WRITE, user="bob"))
    assert "belongs to ann" in bob("share", experiment.name, code=1).stderr
    assert "There is no such link" in bob("share", "--revoke", "nothing", code=1).stderr
    assert "not one of its keys" in ann.with_env(GRID_API_KEY="gk_x_y")("share", "--list", code=1).stderr
    assert (
        "cannot be reached" in ann.with_env(GRID_URL="http://127.0.0.1:1")("share", "--list", code=1).stderr
    )
    assert "no address" in ann.with_env(GRID_URL="nonsense")("share", "--list", code=1).stderr
    assert not grid.home.exists()


# ---------------------------------------------------------------------------------------------------------------- without


@pytest.fixture
def alone(home: Path) -> Iterator[Context]:
    with quiet_home(home) as context:
        yield context


def test_without_a_server_it_says_how_to_start_one(alone: Context, grid: Grid) -> None:
    experiment = some_files(alone)
    for word in (experiment.run, f"{experiment.name}:c d"):
        done = grid("share", word, code=1)
        assert "No server runs" in done.stderr and "grid serve" in done.stderr and done.stdout == ""
    assert grid.json("share", "--list") == []
    link = grid.with_env(GRID_URL="https://grid.example.org/")("share", experiment.name).last_line
    assert link.startswith("https://grid.example.org/s/")


def test_a_server_that_has_ended_is_not_led_to(tmp_path: Path, grid: Grid) -> None:
    with serving(tmp_path) as served:
        experiment = some_files(served.context)
        assert grid("share", experiment.name).last_line.startswith(served.url)
        assert served.end(signal.SIGKILL) == -signal.SIGKILL
        assert "No server runs" in grid("share", experiment.name, code=1).stderr
        assert os.listdir(served.context.home.servers) == []


def test_a_file_in_a_cloud_has_the_clouds_own_link(alone: Context, grid: Grid) -> None:
    """Nothing of the cloud is asked for: signing is done here."""
    cluster = Cluster(
        name="cloud", engine="local", store="s3://lab/x", endpoint="http://127.0.0.1:1", region="eu-1"
    )
    alone.catalog.put_cluster(cluster)
    run, [experiment] = make_run(alone, "in-a-cloud", ["completed"])
    moved = replace(run, run_id=f"wr_{new_ulid()}", name="cloudy", cluster="cloud")
    there = replace(experiment, experiment_id=new_ulid(), run_id=moved.run_id, run="cloudy")
    alone.catalog.create_run(moved, [there])
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=there.experiment_id,
        path=b"out/a b",
        state=ArtifactState.STORED,
        size=1,
        sha256=hashlib.sha256(b"1").hexdigest(),
        key=f"experiments/{there.experiment_id}/artifacts/out/a b",
    )
    alone.catalog.record_artifacts(there.experiment_id, [artifact])
    able = grid.with_env(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret")
    done = able("share", "cloudy-exp0:out/a b", "--expires", "30d")
    assert done.last_line.startswith("http://127.0.0.1:1/lab/x/experiments/")
    assert "X-Amz-Expires=604800" in done.last_line and "cannot be revoked" in done.stderr
    for folder in ("cloudy", "cloudy-exp0:out"):
        assert "No server runs" in able("share", folder, code=1).stderr


def test_several_servers_of_a_home_are_known_while_they_live(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    assert running(home) == []
    with announced(home, "http://127.0.0.1:1/"):
        assert running(home) == ["http://127.0.0.1:1"]
        dead = Path(home.servers) / "1"
        dead.write_text("http://127.0.0.1:2")
        assert running(home) == ["http://127.0.0.1:1"] and not dead.exists()
        assert (Path(home.servers) / str(os.getpid())).stat().st_mode & 0o077 == 0
    assert running(home) == [] and os.listdir(home.servers) == []
