import os
import subprocess
import sys

import pytest

from tests.unit.made import make_run


def complete(home, *words):
    """What bash offers for the last of `words`."""
    env = {
        **os.environ,
        "GRIDKEEP_HOME": str(home),
        "_GRID_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["grid", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "gridkeep.cli.main"], env=env, capture_output=True, text=True
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_for_each_shell(call, shell):
    answer = call("completion", shell)
    assert answer.code == 0
    assert "_GRID_COMPLETE" in answer.out
    assert "grid" in answer.out


def test_commands_and_options(home):
    assert complete(home, "st") == ["stop", "status"]
    assert complete(home, "status", "--wa") == ["--watch"]


def test_names_of_runs_and_experiments(context, home):
    make_run(context, "first-run", ["completed", "running"])
    make_run(context, "second-run", ["running"])
    assert complete(home, "status", "") == ["second-run", "first-run"]
    assert complete(home, "status", "fi") == ["first-run"]
    assert complete(home, "logs", "first-run-e") == ["first-run-exp0", "first-run-exp1"]
    assert complete(home, "logs", "fi") == ["first-run", "first-run-exp0", "first-run-exp1"]
    assert complete(home, "stop", "r") == ["run"]
    assert complete(home, "stop", "run", "sec") == ["second-run", "second-run-exp0"]


def test_no_home_is_made_and_a_damaged_catalog_offers_nothing(home):
    assert complete(home, "status", "") == []
    assert not home.exists()
    home.mkdir()
    (home / "catalog.db").write_bytes(b"no database at all" * 100)
    assert complete(home, "status", "") == []
