"""`grid cluster`: places by name, where runs keep their files."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.e2e.support import downloaded, explained, in_terminal, ran, save
from tests.support import Grid

SECRET = "AKIAsecret"


def names(grid: Grid) -> list[str]:
    return [each["name"] for each in grid.json("cluster", "list")]


def test_a_run_keeps_its_files_where_its_cluster_says(grid: Grid, tmp_path: Path) -> None:
    disk = tmp_path / "a disk é"
    assert grid("cluster", "add", "disk", "--store", f"file://{disk}/").stdout == (
        f"disk added: file://{disk}/: writes, lists, reads and deletes.\n"
    )
    script = "import os; open('f', 'w').write(os.environ['GRID_CLUSTER_ID'])"
    one = ran(grid, script, options=("--cluster", "disk"), name="r")
    assert (disk / "experiments" / one["experiment_id"] / "artifacts" / "f").read_text() == "disk"
    assert downloaded(grid, "r-exp0") == {b"f": b"disk"}
    assert f"file://{disk}/experiments/{one['experiment_id']}/artifacts/" in (
        grid("artifacts", "--bucket_path", "r").stdout
    )
    assert grid.json("history")[0]["cluster"] == "disk"
    chosen = grid.with_env(GRIDKEEP_CLUSTER="disk")
    ran(chosen, script, name="s")
    assert downloaded(grid, "s-exp0") == {b"f": b"disk"}
    assert chosen.json("cluster", "list") == [
        {
            "name": name,
            "engine": "local",
            "store": f"file://{folder}",
            "endpoint": None,
            "region": None,
            "default": name == "disk",
            "runs": runs,
        }
        for name, folder, runs in (("disk", disk, 2), ("local", grid.home / "store", 0))
    ]
    assert "disk *" in chosen("cluster", "list").stdout


def test_a_name_is_given_once(grid: Grid, tmp_path: Path) -> None:
    first, second = f"file://{tmp_path}/first", f"file://{tmp_path}/second"
    grid("cluster", "add", "disk", "--store", first)
    assert grid("cluster", "add", "disk", "--store", f"{first}//").stdout == (
        f"disk is there already: {first}/.\n"
    )
    refused = grid("cluster", "add", "disk", "--store", second, code=1)
    assert explained(refused) == f"There is a cluster named disk already: its store is {first}/."
    assert not (tmp_path / "second").exists()
    assert "It is always there" in grid("cluster", "add", "local", "--store", second, code=1).stderr
    adders = [grid.start("cluster", "add", "both", "--store", f"file://{tmp_path}/{i}") for i in range(4)]
    assert sorted(each.wait(60) for each in adders) == [0, 1, 1, 1]
    assert names(grid) == ["both", "disk", "local"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Big", ["--store", "s3://b-1"], "'Big' cannot be a cluster's name."),
        ("-a", ["--store", "s3://b-1"], "No such option"),
        ("a_b", ["--store", "s3://b-1"], "'a_b' cannot be a cluster's name."),
        ("a" * 64, ["--store", "s3://b-1"], "cannot be a cluster's name."),
        ("a\nb", ["--store", "s3://b-1"], r"'a\\nb' cannot be a cluster's name."),
        ("", ["--store", "s3://b-1"], "'' cannot be a cluster's name."),
        ("a", [], "Missing option '--store'"),
        ("a", ["--store", ""], " is no store."),
        ("a", ["--store", "ftp://host/x"], "ftp://host/x is no store."),
        ("a", ["--store", "/plain/path"], "/plain/path is no store."),
        ("a", ["--store", "file://relative"], "file://relative is no store: its folder must be a full path."),
        ("a", ["--store", "s3://"], "'' is no name of a bucket: a store is s3://bucket/prefix."),
        ("a", ["--store", "s3:///x"], "'' is no name of a bucket"),
        ("a", ["--store", "s3://bu cket"], "'bu cket' is no name of a bucket"),
        ("a", ["--store", "s3://bucket//x"], "a name in its prefix is not fit."),
        ("a", ["--store", f"s3://bucket/{'x' * 501}"], "The prefix of that store is too long."),
        ("a", ["--store", "gs://bucket/a/../b"], "a name in its prefix is not fit."),
        ("a", ["--store", "az://bucket/a\nb"], "a name in its prefix is not fit."),
        ("a", ["--store", f"s3://me:{SECRET}@bucket/x"], "Credentials are no part of a store's URI"),
        ("a", ["--store", "s3://b-1", "--endpoint", "host:1"], "That is no endpoint."),
        ("a", ["--store", "s3://b-1", "--endpoint", f"http://me:{SECRET}@host"], "That is no endpoint."),
        ("a", ["--store", "s3://b-1", "--endpoint", f"https://host/?sig={SECRET}"], "That is no endpoint."),
        ("a", ["--store", "s3://b-1", "--endpoint", "http://host:99999"], "That is no endpoint."),
        ("a", ["--store", "s3://b-1", "--region", "eu west"], "'eu west' is no region."),
        ("a", ["--store", "file:///x", "--endpoint", "http://h"], "A folder has no endpoint and no region."),
        ("a", ["--store", "file:///x", "--engine", "moon"], "Invalid value for '--engine'"),
    ],
)
def test_what_cannot_be_meant(grid: Grid, name: str, options: list[str], words: str) -> None:
    done = grid("cluster", "add", name, *options, code=2)
    assert words in done.stderr
    assert done.stdout == ""
    assert SECRET not in done.stderr
    assert not grid.home.exists()


def test_a_store_that_cannot_be_used_is_not_added(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for options in ((), ("--no-check",)):
        place = ("--store", f"file://{tmp_path}/file/x", *options)
        explained(grid("cluster", "add", "disk", *place, code=1))
    assert names(grid) == ["local"]
    (tmp_path / "disk").mkdir()
    grid("cluster", "add", "disk", "--store", f"file://{tmp_path}/disk", "--no-check")
    shutil.rmtree(tmp_path / "disk")
    done = grid("cluster", "check", code=1)
    assert f"disk: The store's folder {tmp_path}/disk is not there." in done.stdout
    assert f"local: file://{grid.home}/store/: writes, lists, reads and deletes" in done.stdout
    assert not (tmp_path / "disk").exists(), "a disk that is not mounted was taken for an empty one"
    (found,) = grid.json("cluster", "check", "disk", code=1)
    assert (found["name"], found["ok"]) == ("disk", False)
    assert found["error"] == f"The store's folder {tmp_path}/disk is not there."
    assert found["hint"]
    (one,) = [each for each in grid.json("doctor", code=1) if each["name"] == "store disk"]
    assert one["level"] == "failed"


def test_a_cluster_goes_when_nothing_is_on_it(grid: Grid, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    grid("cluster", "add", "disk", "--store", f"file://{disk}")
    (disk / "mine").write_text("mine")
    ran(grid, "open('f', 'w')", options=("--cluster", "disk"), name="r")
    refused = grid("cluster", "delete", "disk", code=1)
    assert explained(refused) == "The cluster disk has 1 run, whose files would be out of reach."
    assert "`grid delete`" in refused.stderr
    grid("verify", "r")
    grid("delete", "--yes", "r")
    done = grid("cluster", "delete", "disk")
    assert done.stdout == f"disk deleted; nothing in file://{disk}/ was touched.\n"
    assert (disk / "mine").read_text() == "mine"
    assert explained(grid("cluster", "delete", "disk", code=1)) == (
        "There is no cluster named disk; known: local."
    )
    assert "always there" in explained(grid("cluster", "delete", "local", code=1))
    assert names(grid) == ["local"]


def test_an_unknown_cluster_is_refused_with_the_known_ones(grid: Grid, tmp_path: Path) -> None:
    grid("cluster", "add", "disk", "--store", f"file://{tmp_path}/disk")
    sentence = "There is no cluster named nope; known: disk, local."
    script = save(grid, "1")
    assert explained(grid("run", "--cluster", "nope", script, code=1)) == sentence
    assert explained(grid("run", script, env={"GRIDKEEP_CLUSTER": "nope"}, code=1)) == sentence
    assert explained(grid("run", "--dry-run", "--cluster", "nope", script, code=1)) == sentence
    assert explained(grid("cluster", "check", "nope", code=1)) == sentence
    assert [os.listdir(grid.home / part) for part in ("work", "journal")] == [[], []]


def test_words_and_no_bars_in_a_terminal(grid: Grid, tmp_path: Path) -> None:
    shown = in_terminal(grid, "cluster", "add", "disk", "--store", f"file://{tmp_path}/d")
    assert "disk added" in shown.text and shown.returncode == 0
    wide = in_terminal(grid, "cluster", "list", columns=60)
    assert all(len(line) <= 60 for line in wide.text.splitlines())


def test_completion_knows_clusters(grid: Grid, tmp_path: Path) -> None:
    grid("cluster", "add", "disk", "--store", f"file://{tmp_path}/d")
    for words in ("grid run --cluster d", "grid cluster check d", "grid cluster delete d"):
        env = {"_GRID_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        assert grid(env=env).stdout == "plain,disk\n"


@pytest.mark.parametrize("words", [["cluster", "add", "a", "--store"], ["catalog", "rebuild"]])
def test_ctrl_c_while_a_server_is_silent(grid: Grid, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        able = grid.with_env(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_REGION="us-east-1")
        command = able.start(*words, "s3://bucket", "--endpoint", endpoint)
        silent.settimeout(60)
        silent.accept()
        command.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert command.wait(60) == 130
        assert time.monotonic() - began < 15
    assert names(grid) == ["local"]
