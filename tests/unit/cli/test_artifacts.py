"""`grid artifacts`, `grid ls` and `grid cat`, as they are called."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridkeep.model import Artifact, ArtifactState, Experiment, new_ulid
from gridkeep.runs.context import Context
from tests.unit.cli.conftest import Call
from tests.unit.made import keep, make_run


@pytest.fixture
def run(context: Context) -> list[Experiment]:
    """`my-run` with two completed experiments."""
    _, experiments = make_run(context, "my-run", ["completed", "completed"])
    keep(context, experiments[0], b"out/a.txt", b"alpha")
    keep(context, experiments[0], b"out-b.txt", b"beta")
    keep(context, experiments[1], b"\xff\x1b[31m", b"gamma")
    return experiments


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def note(
    context: Context, experiment: Experiment, path: bytes | None, state: str, reason: str | None = None
) -> None:
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path,
        state=ArtifactState(state),
        reason=reason,
    )
    context.catalog.record_artifacts(experiment.experiment_id, [artifact])


def test_download(call: Call, run: list[Experiment], cwd: Path) -> None:
    answer = call("artifacts", "my-run")
    assert answer.code == 0
    assert answer.out == ""
    assert answer.err.splitlines() == ["Done downloading artifacts!", "3 files, 14 B, in ./grid_artifacts"]
    assert (cwd / "grid_artifacts/my-run/my-run-exp0/out/a.txt").read_text() == "alpha"
    again = call("artifacts", "my-run-exp0", "my-run")
    assert (
        again.err.splitlines()[1] == "5 files, 23 B (2 downloaded, 3 were there already), in ./grid_artifacts"
    )
    assert (cwd / "grid_artifacts/my-run-exp0/out-b.txt").read_text() == "beta"
    assert sorted(os.listdir("grid_artifacts")) == ["my-run", "my-run-exp0"]


def test_filters_and_folder(call: Call, run: list[Experiment], cwd: Path) -> None:
    assert call("artifacts", "my-run-exp0", "--download_dir", "x", "-m", "^out/").code == 0
    assert os.listdir("x/my-run-exp0") == ["out"]
    assert call("artifacts", "my-run-exp0", "--download_dir", "y", "--type", "recording").code == 0
    assert os.listdir("y") == []
    bad = call("artifacts", "my-run", "-m", "[")
    assert bad.code == 1
    assert bad.err.startswith("Error: '[' is not a regular expression: ")
    bad = call("artifacts", "my-run", "--type", "screenshots")
    assert (bad.code, bad.err.splitlines()[0]) == (2, "Error: There is no artifact type screenshots.")
    assert bad.err.splitlines()[1].startswith("Hint: Did you mean screenshot")


def test_unknown_name(call: Call, run: list[Experiment], cwd: Path) -> None:
    for words in ([], ["--json"], ["--bucket_path"]):
        answer = call("artifacts", "my-run", "nobody", *words)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.splitlines()[0] == "Error: nobody does not exist - can not get artifacts"
    assert os.listdir(cwd) in ([], ["home"])


def test_what_could_not_be_had_is_named(call: Call, context: Context, run: list[Experiment]) -> None:
    note(context, run[0], None, "missing", "unknown path, pid 7")
    assert call("artifacts", "my-run").err.splitlines()[-2:] == [
        "1 file is missing:",
        "  my-run-exp0: (path unknown): unknown path, pid 7",
    ]
    gone = keep(context, run[0], b"gone", b"x")
    os.unlink(os.path.join(context.home.store, gone.key or ""))
    answer = call("artifacts", "my-run")
    assert answer.code == 1
    assert answer.err.startswith("my-run-exp0: gone: The store ")
    assert "1 file could not be had, as said above." in answer.err


def test_a_run_that_goes_on(call: Call, context: Context) -> None:
    _, [one] = make_run(context, "going", ["running"])
    note(context, one, b"log.txt", "growing")
    answer = call("artifacts", "going")
    assert answer.code == 0
    assert answer.err.splitlines()[2:] == [
        "1 file is not finished yet:",
        "  going-exp0: log.txt: still growing",
        "going-exp0 goes on: run the same command again later, or with --follow.",
    ]


def test_json_lists_every_state_and_downloads_nothing(
    call: Call, context: Context, run: list[Experiment], cwd: Path
) -> None:
    for state in ("missing", "ignored", "growing", "pending"):
        note(context, run[0], state.encode(), state, "because")
    answer = call("artifacts", "my-run", "--json")
    assert answer.err == ""
    listed = json.loads(answer.out)
    assert {(each["experiment"], each["path"], each["state"]) for each in listed} == {
        ("my-run-exp0", "out/a.txt", "stored"),
        ("my-run-exp0", "out-b.txt", "stored"),
        ("my-run-exp0", "missing", "missing"),
        ("my-run-exp0", "ignored", "ignored"),
        ("my-run-exp0", "growing", "growing"),
        ("my-run-exp0", "pending", "pending"),
        ("my-run-exp1", "\ufffd\x1b[31m", "stored"),
    }
    assert listed[-1]["path_b64"] == "/xtbMzFt"
    assert json.loads(call("artifacts", "my-run-exp1", "--json", "-m", "nothing").out) == []
    assert not (cwd / "grid_artifacts").exists()


@pytest.mark.parametrize("columns", ["20", "400"])
def test_bucket_paths_are_whole_at_any_width(
    call: Call, context: Context, run: list[Experiment], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ids = [one.experiment_id for one in run]
    paths = [f"file://{context.home.store}/experiments/{ulid}/artifacts/" for ulid in ids]
    wide = "━" * (len(paths[0]) + 2)
    thin = "─" * (len(paths[0]) + 2)
    answer = call("artifacts", "my-run", "--bucket_path")
    assert answer.out.splitlines() == [
        f"┏━━━━━━━━━━━━━━━━━┳{wide}┓",
        f"┃ experiment name ┃ {'bucket path to artifacts':>{len(paths[0])}} ┃",
        f"┡━━━━━━━━━━━━━━━━━╇{wide}┩",
        f"│ my-run-exp0     │ {paths[0]} │",
        f"│ my-run-exp1     │ {paths[1]} │",
        f"└─────────────────┴{thin}┘",
    ]
    assert os.path.isfile(paths[0].removeprefix("file://") + "out/a.txt")


def test_bucket_path_of_a_store_with_a_strange_name(
    call: Call, context: Context, run: list[Experiment], tmp_path: Path
) -> None:
    place = f"file://{tmp_path}/my [bold]store[/bold] :smile: %20é"
    local = context.catalog.cluster("local")
    assert local is not None
    context.catalog.put_cluster(dataclasses.replace(local, store=place))
    assert (
        f" {place}/experiments/{run[0].experiment_id}/artifacts/ │"
        in call("artifacts", "my-run", "--bucket_path").out
    )


def test_ls(call: Call, context: Context, run: list[Experiment]) -> None:
    note(context, run[0], b"out/deep/er/lost", "missing", "disk full")
    assert call("ls", "my-run-exp0").out.splitlines() == [
        "                     my-run-exp0",
        "      4 B  stored      out-b.txt",
        "                       out/",
        "      5 B  stored        a.txt",
        "                         deep/",
        "                           er/",
        "           missing           lost (disk full)",
    ]
    assert [each["path"] for each in json.loads(call("ls", "my-run-exp0:out", "--json").out)] == [
        "out/a.txt",
        "out/deep/er/lost",
    ]
    assert "a.txt" in call("ls", "my-run-exp0:out/a.txt").out
    assert call("ls", "my-run-exp1").out.splitlines()[1].endswith(r"\xff\x1b[31m")
    assert call("ls", "my-run-exp0:nope").code == 1
    assert call("ls", "nobody").err.startswith("Error: nobody does not exist")
    several = call("ls", "my-run")
    assert (several.code, "my-run-exp0" in several.err) == (2, True)


def test_cat(
    call: Call, context: Context, run: list[Experiment], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert call("cat", "my-run-exp0:out/a.txt").out == "alpha"
    assert call("cat", "my-run-exp1:" + os.fsdecode(b"\xff\x1b[31m")).out == "gamma"
    _, [one] = make_run(context, "single", ["completed"])
    lost = keep(context, one, b"x", b"whole")
    assert call("cat", "single:x").out == "whole"
    note(context, one, b"lost", "missing", "disk full")
    for place, words in {
        "single:nope": "single-exp0 has no file nope.",
        "my-run-exp0:out": "out is a folder of my-run-exp0.",
        "single:lost": "lost of single-exp0 has no bytes in the store: it is missing (disk full).",
    }.items():
        answer = call("cat", place)
        assert (answer.code, answer.out, answer.err.splitlines()[0]) == (1, "", f"Error: {words}")
    assert call("cat", "single").code == 2
    Path(context.home.store, lost.key or "").write_bytes(b"whale")
    assert "are not those that were recorded" in call("cat", "single:x").err


def test_cat_into_a_reader_that_has_enough(context: Context, run: list[Experiment]) -> None:
    keep(context, run[0], b"big", b"x" * 2**23)
    command = [sys.executable, "-m", "gridkeep.cli.main", "cat", "my-run-exp0:big"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def test_verify(call: Call, context: Context, run: list[Experiment]) -> None:
    """Neither experiment has a manifest, as nobody wrote one; what is found is in tests/unit/runs/test_verify.py."""
    answer = call("verify", "my-run-exp0")
    assert answer.code == 1
    assert answer.out.splitlines()[0] == "my-run-exp0: 0 of 0 verified"
    assert answer.out.splitlines()[1].endswith("the manifest is not in the store")
    [one] = json.loads(call("verify", "my-run-exp0", "--json").out)
    assert (one["experiment"], one["ok"], one["differences"][0]["problem"]) == (
        "my-run-exp0",
        False,
        "manifest",
    )
    make_run(context, "going", ["running"])
    going = call("verify", "going")
    assert (going.code, going.out) == (
        1,
        "going-exp0: not finished (running): its manifest is written last of all\n",
    )
    assert call("verify", "nobody").err.startswith("Error: nobody does not exist - can not verify")
