"""`grid status`: active runs, the experiments of one, and the JSON of both."""

from __future__ import annotations

import re
import signal

from tests.e2e.support import experiment, in_terminal, ran, save, submitted
from tests.support import Grid, wait_for

RUN_KEYS = [
    *("name", "run_id", "kind", "state", "reason", "cluster", "created_by", "created_at", "started_at"),
    *("finished_at", "duration_s", "experiments", "counts", "artifacts", "bytes", "missing"),
]
EXPERIMENT_KEYS = [
    *("name", "experiment_id", "run", "state", "reason", "exit_code", "params", "command", "created_at"),
    *("started_at", "finished_at", "queued_s", "run_s", "artifacts", "bytes", "missing", "growing"),
    *("waiting_for", "capture"),
]
COUNTS = ["queued", "running", "syncing", "completed", "failed", "stopped"]
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def test_active_runs_and_where_the_others_are(grid: Grid) -> None:
    assert grid("status").stdout.splitlines() == [
        "Run  Status  Created By  Duration  Experiments  Queued  Running  Syncing  Completed  Failed  Stopped",
        "",
        "0 Run(s) are not active. Use `grid history` to view your Run history.",
    ]
    ran(grid, "print(1)", name="old")
    grid("run", "--name", "new", "--parallel", "1", save(grid, SLEEPER), "--x", "[1,2]")
    wait_for(lambda: experiment(grid, "new-exp0")["state"] == "running" or None)
    header, row, _, rest = grid("status").stdout.splitlines()
    assert header.split("  ")[0] == "Run"
    cells = row.split()
    assert cells[:2] == ["new", "running"]
    assert re.fullmatch(r"0d-00:00:\d\d", cells[3])
    assert cells[4:] == ["2", "1", "1", "0", "0", "0", "0"]
    assert rest == "1 Run(s) are not active. Use `grid history` to view your Run history."
    grid("stop", "new")


def test_experiments_of_a_run(grid: Grid) -> None:
    save(grid, "import sys; open('f', 'w').write('x' * 1500); sys.exit(sys.argv[2] == '2')")
    grid("run", "--follow", "--name", "s", "script.py", "--x", "[1,2]", code=1)
    shown = grid("status", "s").stdout.splitlines()
    assert shown[0] == ("Experiment  Status     Queued Duration  Run Duration  Artifacts    Size  Command")
    assert re.fullmatch(
        r"s-exp0      completed  0d-00:00:\d\d      0d-00:00:\d\d           1  1\.5 kB  script\.py --x 1",
        shown[1],
    )
    assert shown[2].startswith("s-exp1      failed")
    assert shown[-1] == "s-exp1 failed: exit code 1"


def test_json_of_runs(grid: Grid) -> None:
    submitted(grid, SLEEPER, name="live")
    wait_for(lambda: experiment(grid, "live-exp0")["state"] == "running" or None)
    (run,) = grid.json("status")
    assert [key for key in run if key in RUN_KEYS] == RUN_KEYS
    assert re.fullmatch(r"wr_[0-9a-z]{26}", run["run_id"])
    assert (run["name"], run["kind"], run["state"], run["cluster"]) == ("live", "script", "running", "local")
    assert run["counts"] == dict.fromkeys(COUNTS, 0) | {"running": 1}
    assert run["experiments"] == 1
    assert (run["reason"], run["finished_at"]) == (None, None)
    assert UTC.fullmatch(run["created_at"])
    assert UTC.fullmatch(run["started_at"])
    assert 0 <= run["duration_s"] < 60
    grid("stop", "live")
    grid.finished("live")
    (run,) = grid.json("history")
    assert [key for key in run if key in RUN_KEYS] == RUN_KEYS
    assert (run["state"], run["counts"]["stopped"]) == ("stopped", 1)
    assert UTC.fullmatch(run["finished_at"])
    assert run["created_at"] < run["started_at"] < run["finished_at"]


def test_json_of_experiments(grid: Grid) -> None:
    one = ran(grid, "open('f', 'w').write('12345')", "--lr", "0.1", name="e")
    assert [key for key in one if key in EXPERIMENT_KEYS] == EXPERIMENT_KEYS
    assert (one["name"], one["run"], one["state"], one["reason"]) == ("e-exp0", "e", "completed", None)
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", one["experiment_id"])
    assert (one["exit_code"], one["command"]) == (0, "script.py --lr 0.1")
    assert (one["artifacts"], one["bytes"], one["missing"], one["growing"]) == (1, 5, 0, 0)
    assert one["waiting_for"] is None
    assert one["capture"]["mode"] in ("c", "python")
    assert all(UTC.fullmatch(one[key]) for key in ("created_at", "started_at", "finished_at"))
    assert one["created_at"] < one["started_at"] < one["finished_at"]
    assert one["queued_s"] >= 0
    assert one["run_s"] >= 0


def test_states_of_a_run_come_from_its_experiments(grid: Grid) -> None:
    """The first of running, syncing, queued, failed, stopped that any experiment has, else completed."""
    save(grid, "import sys, time; n = int(sys.argv[2]); time.sleep(60 if n == 2 else 0); sys.exit(n)")
    grid("run", "--name", "s", "--parallel", "1", "script.py", "--n", "[0,1,2,0]")
    wait_for(lambda: experiment(grid, "s-exp2")["state"] == "running" or None)
    (run,) = grid.json("status")
    assert (run["state"], run["counts"]) == (
        "running",
        dict.fromkeys(COUNTS, 0) | {"completed": 1, "failed": 1, "running": 1, "queued": 1},
    )
    grid("stop", "s-exp2", "s-exp3")
    grid.finished("s")
    (run,) = grid.json("history")
    assert (run["state"], run["counts"]["stopped"]) == ("failed", 2)


def test_an_experiments_name_gets_the_hint_to_use_its_run(grid: Grid) -> None:
    ran(grid, "", name="hint")
    refused = grid("status", "hint-exp0", code=1)
    assert "hint-exp0 is an experiment" in refused.stderr
    assert "grid status hint" in refused.stderr


def test_watch_ends_with_its_run_and_with_ctrl_c(grid: Grid) -> None:
    submitted(grid, "import time; time.sleep(1.5)", name="w")
    shown = in_terminal(grid, "status", "--watch", "w")
    assert shown.returncode == 0
    assert shown.text.rstrip().rpartition("\x1b[H")[2].count("completed") == 1
    process = grid.start("status", "--watch")
    assert process.stdout
    assert process.stdout.readline().startswith(b"Run")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.strip()) == (130, b"")


def test_states_are_coloured_on_a_terminal_only(grid: Grid) -> None:
    ran(grid, "", name="c")
    assert "\x1b[32mcompleted\x1b[0m" in in_terminal(grid, "status", "c").text
    assert "\x1b[" not in in_terminal(grid, "status", "c", env={"NO_COLOR": "1"}).text
    assert "\x1b[" not in in_terminal(grid, "status", "c", env={"TERM": "dumb"}).text
    assert "\x1b[" not in grid("status", "c").stdout


def test_tables_are_cut_to_a_terminal_and_whole_in_a_pipe(grid: Grid) -> None:
    ran(grid, "", "a very long argument " * 10, name="long")
    narrow = in_terminal(grid, "status", "long", columns=100, env={"NO_COLOR": "1"}).text
    assert all(len(line) <= 100 for line in narrow.splitlines())
    assert "…" in narrow
    assert "a very long argument " * 10 in grid("status", "long").stdout
