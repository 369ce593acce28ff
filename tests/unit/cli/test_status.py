import json
import os
import pty
import select
import subprocess
import sys
import time

from gridkeep.model import Artifact, ArtifactState, new_ulid
from tests.unit.made import START, finish, keep, make_run

SENTENCE = "{} Run(s) are not active. Use `grid history` to view your Run history."


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_active_runs_with_their_counts(context, call):
    make_run(context, "old-run", ["completed"])
    make_run(context, "my-run", ["queued", "running", "syncing", "completed", "failed", "stopped", "queued"])
    header, row, empty, sentence = call("status").out.splitlines()
    assert columns(header) == [
        *("Run", "Status", "Created By", "Duration", "Experiments"),
        *("Queued", "Running", "Syncing", "Completed", "Failed", "Stopped"),
    ]
    name, state, owner, _, *numbers = columns(row)
    assert [name, state, owner] == ["my-run", "running", context.user]
    assert numbers == ["7", "2", "1", "1", "1", "1", "1"]
    assert [empty, sentence] == ["", SENTENCE.format(1)]


def test_only_own_runs_unless_global(context, call):
    make_run(context, "mine", ["running"])
    make_run(context, "theirs", ["running"], created_by="somebody-else")
    make_run(context, "theirs-done", ["completed"], created_by="somebody-else")
    assert [run["name"] for run in json.loads(call("status", "--json").out)] == ["mine"]
    assert SENTENCE.format(0) in call("status").out
    everyone = call("status", "--global")
    assert {columns(line)[0] for line in everyone.out.splitlines()[1:3]} == {"mine", "theirs"}
    assert SENTENCE.format(1) in everyone.out


def test_json_is_the_model_s_and_alone_on_stdout(context, call):
    run, experiments = make_run(context, "my-run", ["running", "completed"])
    [shape] = json.loads(call("status", "--json").out)
    assert shape["run_id"] == run.run_id
    assert shape["counts"] == {
        "queued": 0,
        "running": 1,
        "syncing": 0,
        "completed": 1,
        "failed": 0,
        "stopped": 0,
    }
    first, second = json.loads(call("status", "my-run", "--json").out)
    assert first["experiment_id"] == experiments[0].experiment_id
    assert (second["name"], second["queued_s"], second["run_s"]) == ("my-run-exp1", 5.0, 141.0)
    make_run(context, "empty-handed", ["completed"])
    context.catalog.update_experiment(experiments[0].experiment_id, state="completed", finished_at=START + 9)
    assert call("status", "--json").out == "[]\n"


def test_more_runs_than_a_page(context, call, monkeypatch):
    monkeypatch.setattr("gridkeep.cli.status._PAGE", 3)
    for number in range(10):
        make_run(context, f"run-{number}", ["running"])
    assert [run["name"] for run in json.loads(call("status", "--json").out)] == [
        f"run-{9 - i}" for i in range(10)
    ]
    make_run(context, "sweep", ["queued"] * 10)
    assert len(json.loads(call("status", "sweep", "--json").out)) == 10


def test_experiments_of_a_run(context, call):
    _, [done, failed] = make_run(context, "my-run", ["completed", "running"])
    keep(context, done, b"a.txt", b"x" * 1500)
    finish(context, failed, "failed", reason="exit code 3")
    lost = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=failed.experiment_id,
        path=b"gone",
        state=ArtifactState.MISSING,
        reason="unreadable",
    )
    context.catalog.record_artifacts(failed.experiment_id, [lost])
    header, first, second, _, *notes = call("status", "my-run").out.splitlines()
    assert columns(header) == [
        *("Experiment", "Status", "Queued Duration", "Run Duration", "Artifacts", "Size", "Command")
    ]
    assert columns(first) == [
        *("my-run-exp0", "completed", "0d-00:00:05", "0d-00:02:21", "1", "1.5 kB", "hello.py --lr 0.1")
    ]
    assert columns(second)[:2] == ["my-run-exp1", "failed"]
    assert notes[0] == "my-run-exp1 failed: exit code 3"
    assert "my-run-exp1: 1 file missing" in notes[1]


def test_experiment_and_unknown_names_are_explained(context, call):
    make_run(context, "my-run", ["completed"])
    answer = call("status", "my-run-exp0")
    assert (answer.code, answer.out) == (1, "")
    assert "Hint: Use `grid status my-run`" in answer.err
    answer = call("status", "nobody\x1b[31m")
    assert answer.code == 1
    assert answer.err.startswith("Error: There is no Run named nobody\\x1b[31m.\nHint: ")


def test_piped_tables_are_not_cut(context, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    make_run(context, "a" * 63, ["running"])
    assert "a" * 63 in call("status").out


def test_watch_and_json_exclude_each_other(call):
    assert call("status", "--watch", "--json").code == 2


def test_watch_writes_a_terminal_over_until_the_run_is_over(context, home):
    _, [experiment] = make_run(context, "my-run", ["running"])
    ours, theirs = pty.openpty()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "gridkeep.cli.main", "status", "my-run", "--watch"],
        env={**os.environ, "TERM": "xterm", "GRIDKEEP_HOME": str(home)},
        stdout=theirs,
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 30
    try:
        while b"running" not in seen:
            assert time.monotonic() < deadline
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536)
        finish(context, experiment)
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        assert watcher.wait(30) == 0
    finally:
        watcher.kill()
        os.close(ours)
    assert seen.count(b"\x1b[H\x1b[J") >= 2
    assert b"\x1b[32mcompleted" in seen
