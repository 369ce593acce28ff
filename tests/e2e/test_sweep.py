"""Sweeps: every form of argument, how they are combined, and that experiments never overwrite each other."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import contents, explained, inside, save
from tests.support import Grid

ARGS = "import json, sys; json.dump(sys.argv[1:], open('args.json', 'w'))"


def swept(grid: Grid, *words: str) -> list[str]:
    """The experiments' commands, without running any."""
    save(grid, ARGS)
    lines = grid("run", "--dry-run", *words).stdout.splitlines()
    return [line.removeprefix("script.py").strip() for line in lines]


def test_two_experiments_write_the_same_paths_at_once(grid: Grid, tmp_path: Path) -> None:
    """The same relative path is each one's own. The same absolute path is one file that both write: whatever each saw
    there is whole."""
    outside = tmp_path / "shared" / "result.bin"
    outside.parent.mkdir()
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    save(
        grid,
        f"""
        import os, sys, time
        mine = sys.argv[2]
        open({str(meeting)!r} + "/" + mine, "w").close()
        while len(os.listdir({str(meeting)!r})) < 2:
            time.sleep(0.01)
        os.makedirs("outputs", exist_ok=True)
        for _ in range(20):
            with open("outputs/result.bin", "w") as file:
                file.write(mine * 100_000)
            with open({str(outside)!r}, "w") as file:
                file.write(mine * 100_000)
            time.sleep(0.01)
        """,
    )
    grid("run", "--follow", "--name", "both", "--parallel", "2", "script.py", "--me", "['a','b']")
    grid("artifacts", "both")
    for i, mine in enumerate((b"a", b"b")):
        files = contents(grid.cwd / f"grid_artifacts/both/both-exp{i}")
        assert set(files) == {b"outputs/result.bin", inside(outside), inside(meeting / mine.decode())}
        assert files[b"outputs/result.bin"] == mine * 100_000
        assert files[inside(outside)] in (b"a" * 100_000, b"b" * 100_000)
    grid("verify", "--deep", "both")
    assert not (grid.cwd / "outputs").exists()


def test_a_grid_is_the_product_of_all_lists(grid: Grid) -> None:
    assert swept(grid, "script.py", "--lr", "[0.1,0.01]", "--opt", "['adam','s g d']", "--fixed", "1") == [
        "--lr 0.1 --opt adam --fixed 1",
        "--lr 0.1 --opt 's g d' --fixed 1",
        "--lr 0.01 --opt adam --fixed 1",
        "--lr 0.01 --opt 's g d' --fixed 1",
    ]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("range(1,10,2)", "1 3 5 7 9"),
        ("range(3)", "0 1 2"),
        ("[True, None, 1e-3]", "True None 0.001"),
        ("['x']", "x"),
        ("plain", "plain"),
        ("[unfinished", "[unfinished"),
    ],
)
def test_forms_of_values(grid: Grid, word: str, values: str) -> None:
    for space in (" ", "="):
        words = ["--x", word] if space == " " else [f"--x={word}"]
        found = swept(grid, "script.py", *words)
        assert [shlex.split(line) for line in found] == [
            shlex.split(f"--x{space}{value}") for value in values.split()
        ]


@pytest.mark.parametrize(
    ("word", "low", "high"),
    [
        ("uniform(1e-5,1e-1,3)", 1e-5, 1e-1),
        ("loguniform(1e-5,1e-1,3)", 1e-5, 1e-1),
        ("normal(0,1,3)", -50, 50),
        ("lognormal(0,1,3)", 0, math.inf),
        ("randint(5,9,3)", 5, 8),
        ("choice([2,4],3)", 2, 4),
    ],
)
def test_six_distributions_repeat_with_a_seed(grid: Grid, word: str, low: float, high: float) -> None:
    first = swept(grid, "--seed", "7", "script.py", "--x", word)
    values = [float(line.split()[1]) for line in first]
    assert len(values) == 3
    assert all(low <= value <= high for value in values)
    assert swept(grid, "--seed", "7", "script.py", "--x", word) == first
    if "choice" not in word and "randint" not in word:
        assert swept(grid, "--seed", "8", "script.py", "--x", word) != first


def test_random_search_draws_some_of_the_grid(grid: Grid) -> None:
    words = ("--strategy", "random_search", "--num_trials", "5", "--seed", "1")
    found = swept(grid, *words, "script.py", "--a", "range(10)", "--b", "range(10)")
    assert len(found) == len(set(found)) == 5
    assert all(re.fullmatch(r"--a \d --b \d", line) for line in found)
    assert swept(grid, *words, "script.py", "--a", "range(10)", "--b", "range(10)") == found


def test_none_passes_the_text_on(grid: Grid) -> None:
    assert swept(grid, "--strategy", "none", "script.py", "--x", "[1,2]") == ["--x '[1,2]'"]


def test_nothing_is_evaluated(grid: Grid, tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    evil = f"[__import__('os').system('touch {mark}')]"
    swept(grid, "script.py", "--x", evil)
    assert not mark.exists()


def test_too_many_experiments_are_refused_with_their_count(grid: Grid) -> None:
    refused = grid("run", save(grid, ARGS), "--a", "range(200)", "--b", "range(100)", code=1)
    assert "20,000 experiments" in explained(refused)
    assert grid.json("status") == []


def test_params_are_in_the_record_and_arguments_reach_the_script(grid: Grid) -> None:
    grid("run", "--follow", "--name", "s", save(grid, ARGS), "--lr", "[0.1, 1]", "--tag", "['a b']", "pos")
    grid("artifacts", "s")
    for i, (lr, text) in enumerate([(0.1, "0.1"), (1, "1")]):
        one = grid.json("status", "s")[i]
        assert (one["params"]["lr"], one["params"]["tag"]) == (lr, "a b")
        assert one["command"] == f"script.py --lr {text} --tag 'a b' pos"
        args = json.loads((grid.cwd / f"grid_artifacts/s/s-exp{i}/args.json").read_text())
        assert args == ["--lr", text, "--tag", "a b", "pos"]


# ------------------------------------------------------------------------------------------------------------- YAML


def yaml(grid: Grid, **config: Any) -> str:
    return save(grid, json.dumps(config), "config.yml")  # JSON is YAML


def test_sweep_and_actions_from_yaml(grid: Grid) -> None:
    config = yaml(
        grid,
        compute={
            "train": {
                "cpus": 1,
                "environment": {"FROM_FILE": "yes"},
                "actions": {
                    "on_build": ["echo built >> built.txt"],
                    "on_experiment_start": ["echo started; echo $FROM_FILE > start.txt"],
                    "on_experiment_end": ["cat done.txt > end.txt", "echo ended"],
                },
            }
        },
        hyper_params={
            "settings": {"strategy": "random_search", "strategy_options": {"num_trials": 2, "seed": 3}},
            "params": {"lr": [0.1, 0.01, 0.001], "epochs": 5},
        },
    )
    save(grid, "import sys; print(*sys.argv[1:]); print(*sys.argv[1:], file=open('done.txt', 'w'))")
    grid("run", "--follow", "--name", "y", "--config", config, "script.py")
    grid("artifacts", "y")
    experiments = grid.json("status", "y")
    assert len(experiments) == 2
    for one in experiments:
        command = f"--lr {one['params']['lr']} --epochs 5"
        assert one["command"] == f"script.py {command}"
        assert grid("logs", one["name"]).stdout == f"started\n{command}\nended\n"
        files = contents(grid.cwd / f"grid_artifacts/y/{one['name']}")
        assert files == {
            b"start.txt": b"yes\n",
            b"done.txt": f"{command}\n".encode(),
            b"end.txt": f"{command}\n".encode(),
        }


def test_on_build_runs_once_and_every_experiment_has_its_result(grid: Grid, tmp_path: Path) -> None:
    log = tmp_path / "built"
    config = yaml(
        grid,
        compute={"train": {"actions": {"on_build": [f"echo once >> {log}; echo tool > tool.txt"]}}},
        hyper_params={"params": {"x": [1, 2, 3]}},
    )
    grid("run", "--follow", "--name", "b", "--config", config, save(grid, "print(open('tool.txt').read())"))
    assert log.read_text() == "once\n"
    for i in range(3):
        assert "tool\n" in grid("logs", f"b-exp{i}").stdout


def test_a_failed_action_before_the_script_fails_the_experiment(grid: Grid) -> None:
    config = yaml(grid, compute={"train": {"actions": {"on_experiment_start": ["exit 7"]}}})
    save(grid, "print('never')")
    grid("run", "--follow", "--name", "a", "--config", config, "script.py", code=1)
    assert grid.json("status", "a")[0]["exit_code"] == 7
    assert grid("logs", "a").stdout == ""
    config = yaml(grid, compute={"train": {"actions": {"on_build": ["echo no compiler; exit 8"]}}})
    done = grid("run", "--follow", "--name", "b", "--config", config, "script.py", code=1)
    assert "exit code 8" in done.stderr
    assert grid("logs", "b").stdout == "no compiler\n"


def test_the_exit_status_is_the_scripts_not_that_of_the_last_action(grid: Grid) -> None:
    config = yaml(grid, compute={"train": {"actions": {"on_experiment_end": ["echo after"]}}})
    grid("run", "--follow", "--name", "e", "--config", config, save(grid, "import sys; sys.exit(3)"), code=1)
    assert grid.json("status", "e")[0]["exit_code"] == 3
    assert grid("logs", "e").stdout == "after\n"


def test_the_command_line_wins_over_yaml(grid: Grid) -> None:
    config = yaml(grid, hyper_params={"params": {"x": [1, 2], "y": [5]}})
    assert sorted(swept(grid, "--config", config, "script.py", "--x", "9")) == ["--x 9 --y 5"]
