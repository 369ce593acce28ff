"""The document "Accessing Artifacts" of Grid, walked from top to bottom on a clean home, sentence by sentence."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

from tests.e2e.support import contents, ran, save
from tests.support import Grid, wait_for

ULID = "[0-9a-hjkmnp-tv-z]{26}"
HELLO = (Path(__file__).parents[2] / "examples/hello.py").read_bytes()
POINTS = (Path(__file__).parents[2] / "examples/hello_input.txt").read_bytes()


def test_the_document_from_top_to_bottom(grid: Grid) -> None:
    """One story on a machine that has never seen Gridkeep: nothing but HOME says where things go."""
    user_home = Path(grid.env["HOME"])
    env = {name: value for name, value in grid.env.items() if name != "GRIDKEEP_HOME"}
    # The path is in the environment so that what is left running can be found and ended.
    grid = dataclasses.replace(grid, home=user_home / ".gridkeep", env={**env, "MARK": str(grid.home)})
    save(grid, HELLO, "hello.py")
    save(grid, POINTS, "hello_input.txt")

    # "Anytime your script saves artifacts, Grid captures those for you."
    submitted = grid("run", "hello.py", "--epochs", "6")
    run = submitted.last_line
    assert submitted.stdout == f"{run}\n"
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{4}", run)
    assert "Run submitted!" in submitted.stderr
    for hint in (f"grid status {run}", f"grid artifacts {run}", f"grid logs {run}-exp0"):
        assert hint in submitted.stderr

    # "find the run name ... if it's still running: grid status"
    assert run in grid("status").stdout
    # "... if it's completed: grid history"
    (experiment,) = grid.finished(run)
    assert experiment["state"] == "completed"
    assert run not in grid("status").stdout
    assert "1 Run(s) are not active. Use `grid history` to view your Run history." in grid("status").stdout
    assert run in grid("history").stdout

    # "Get the artifacts for a run: grid artifacts run-name", "downloads by default to /grid_artifacts"
    done = grid("artifacts", run)
    assert "Done downloading artifacts!" in done.stderr
    files = contents(grid.cwd / "grid_artifacts" / run / f"{run}-exp0")
    # "It does not matter which folder you save artifacts to... Grid will automatically detect them."
    scratch = [name for name in files if name.startswith(b"_abs/tmp/hello-")]
    assert len(scratch) == 1, list(files)
    assert set(files) - set(scratch) == {
        b"outputs/train.log",
        b"outputs/predictions.csv",
        b"outputs/plots/100% of it & more.svg",
        *(b"outputs/plots/by epoch/%03d.svg" % epoch for epoch in range(1, 7)),
        b"checkpoints/last.json",
        b"checkpoints/best.json",
        b"hello_input.txt",
    }
    assert files[scratch[0]].startswith(b"6 (")
    assert len(files[b"outputs/train.log"].splitlines()) == 6
    assert files[b"hello_input.txt"].startswith(POINTS)
    assert len(files[b"hello_input.txt"]) > len(POINTS)
    assert (grid.cwd / "hello_input.txt").read_bytes() == POINTS, "the project's own copy was touched"

    # "view the experiments in the run: grid status run-name"
    assert f"{run}-exp0" in grid("status", run).stdout
    # "grid artifacts runname-expN"
    grid("artifacts", f"{run}-exp0")
    assert contents(grid.cwd / "grid_artifacts" / f"{run}-exp0") == files

    # "If you delete runs and experiments, then artifacts are deleted"
    bucket = Path(re.search(r"file://(\S+)", grid("artifacts", "--bucket_path", run).stdout)[1])  # type: ignore[index]
    assert bucket.is_dir()
    grid("delete", "--yes", "run", run)
    assert not bucket.exists()
    assert run not in grid("history").stdout

    wait_for(lambda: not list((grid.home / "work").iterdir()) or None, what="an empty work folder")


def test_special_characters_need_not_be_avoided(grid: Grid) -> None:
    """ "Grid may not be able to sync artifacts to long-term storage if the name contains percent signs, ampersands, or
    other special characters." """
    ran(grid, "open('50% of a&b = ?.txt', 'w').write('kept')", name="special")
    grid("artifacts", "special-exp0")
    assert contents(grid.cwd / "grid_artifacts/special-exp0") == {b"50% of a&b = ?.txt": b"kept"}


def test_a_crash_keeps_what_was_written(grid: Grid) -> None:
    """ "This is to ensure that even if your experiment crashes, your artifacts will be saved." """
    experiment = ran(
        grid,
        """
        import os
        open("before.txt", "w").write("kept")
        log = open("open.log", "w")
        log.write("also kept")
        log.flush()
        os.abort()
        """,
        name="crash",
    )
    assert (experiment["state"], experiment["reason"]) == ("failed", "killed by SIGABRT")
    grid("artifacts", "crash-exp0")
    found = contents(grid.cwd / "grid_artifacts/crash-exp0")
    assert found == {b"before.txt": b"kept", b"open.log": b"also kept"}


def test_bucket_path_is_the_table_of_the_document(grid: Grid) -> None:
    """The heavy-head table, character for character, and `ls` takes what it shows."""
    grid("run", "--name", "my-run-000", save(grid, "open('file.txt', 'w').write('x')"), "--lr", "[1,2,3]")
    experiments = grid.finished("my-run-000")
    shown = grid("artifacts", "--bucket_path", "my-run-000", env={"COLUMNS": "40"}).stdout
    paths = [
        f"file://{grid.home}/store/experiments/{each['experiment_id']}/artifacts/" for each in experiments
    ]
    assert all(re.fullmatch(ULID, each["experiment_id"]) for each in experiments)
    wide = len(paths[0])
    assert shown.splitlines() == [
        f"┏{'━' * 17}┳{'━' * (wide + 2)}┓",
        f"┃ experiment name ┃ {'bucket path to artifacts':>{wide}} ┃",
        f"┡{'━' * 17}╇{'━' * (wide + 2)}┩",
        *(f"│ my-run-000-exp{i} │ {path} │" for i, path in enumerate(paths)),
        f"└{'─' * 17}┴{'─' * (wide + 2)}┘",
    ]
    for path in paths:
        ls = subprocess.run(["ls", path.removeprefix("file://")], capture_output=True, text=True, check=True)
        assert ls.stdout == "file.txt\n"
    only = grid("artifacts", "--bucket_path", "my-run-000-exp1").stdout
    assert paths[1] in only
    assert paths[0] not in only


def test_done_only_when_everything_is_stored(grid: Grid) -> None:
    """ "Your experiment will not be marked `done` until Grid has finished syncing your artifacts to long-term storage." """
    submitted = grid(
        "run",
        "--name",
        "sync",
        save(grid, "for i in range(40): open(f'{i}.bin', 'wb').write(bytes(1_000_000))"),
    )
    assert submitted.last_line == "sync"
    seen = []
    while True:
        (experiment,) = grid.json("status", "sync")
        artifacts = grid.json("artifacts", "sync")
        seen.append(experiment["state"])
        if experiment["state"] == "completed":
            break
    assert [each["state"] for each in artifacts] == ["stored"] * 40
    assert set(seen) <= {"queued", "running", "syncing", "completed"}
    assert (experiment["artifacts"], experiment["bytes"]) == (40, 40_000_000)
    store = grid.home / "store/experiments" / experiment["experiment_id"]
    assert sorted(os.listdir(store)) == ["artifacts", "experiment.json", "manifest.jsonl", "output.log"]
