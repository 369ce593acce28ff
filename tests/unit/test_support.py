"""The tests' own ground: a home's processes are found and ended, those of another are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Grid, end_processes_of, processes_of, wait_for


def sleeper(*args: str, **env: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; time.sleep(60)", *args]
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **env}, start_new_session=True)
    wait_for(lambda: b"time.sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
    return process


def test_processes_of_a_home_are_ended_and_no_others(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "home2"
    by_environment = sleeper(GRIDKEEP_HOME=str(home))
    by_command = sleeper(f"{home}/work/one")
    of_another = sleeper(f"{other}/work/one", GRIDKEEP_HOME=str(other))
    try:
        assert sorted(processes_of(home)) == sorted([by_environment.pid, by_command.pid])
        end_processes_of(home)
        assert by_environment.wait(5) == by_command.wait(5) == -9
        assert of_another.poll() is None
    finally:
        end_processes_of(other)
        of_another.wait(5)


def test_waiting_for_what_never_comes_fails() -> None:
    with pytest.raises(AssertionError, match=r"the moon did not come within 0\.05 s"):
        wait_for(lambda: None, 0.05, what="the moon")


def test_an_ordinary_user_can_run_the_command(as_user: Grid) -> None:
    assert as_user("--version").stdout.startswith("grid")
    if as_user.uid is not None:
        as_user("status")
        assert os.stat(as_user.home).st_uid == as_user.uid
