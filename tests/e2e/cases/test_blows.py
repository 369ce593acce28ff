"""Our own processes stopped or killed while a script writes: it does not hang for good, and nothing is missed in silence.

The shim and the supervisor killed alone are the matter of `test_outcomes`; random blows, of `tests/faults`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.support import downloaded, inside, listed, submitted, supervisors
from tests.faults.killer import Blow, cast, strike
from tests.support import Grid, wait_for

COUNT = 60
STEADY = """
import os, sys, time
outside = os.environ["HOME"]
for number in range({count}):
    for folder in (".", outside):
        with open(f"{{folder}}/{{number}}", "w") as file:
            file.write(f"{{number}}\\n" * number)
    time.sleep(0.02)
"""


def start(grid: Grid, count: int = COUNT) -> None:
    """Returns when it is in the middle."""
    submitted(grid, STEADY.format(count=count), name="b")
    wait_for(lambda: next(grid.home.glob("work/*/10"), None), every=0.005)


def content(number: int) -> bytes:
    return f"{number}\n".encode() * number


def user_home(grid: Grid) -> Path:
    return Path(grid.env["HOME"])


def check(grid: Grid) -> None:
    (one,) = grid.finished("b")
    assert (one["state"], one["missing"], one["capture"]["lost"]) == ("completed", 0, 0), one
    here = {b"%d" % number: content(number) for number in range(COUNT)}
    there = {inside(user_home(grid) / str(number)): content(number) for number in range(COUNT)}
    assert downloaded(grid, "b-exp0") == here | there
    grid("verify", "--deep", "b")


def test_a_stopped_supervisor_holds_up_no_script(any_user: Grid) -> None:
    start(any_user)
    stopped = supervisors(any_user)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(
            lambda: next(any_user.home.glob("journal/*/capture-1/end.json"), None), what="the script's end"
        )
        assert any_user.json("status", "b")[0]["state"] == "running"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    check(any_user)


@pytest.mark.parametrize(
    "roles", [("guard",), ("shim", "guard"), ("supervisor", "shim", "guard")], ids="+".join
)
def test_whoever_is_stopped_for_a_while_nothing_is_missed(any_user: Grid, roles: tuple[str, ...]) -> None:
    start(any_user)
    wait_for(lambda: all(cast(any_user.home)[role] for role in roles))
    assert strike(any_user.home, Blow(roles, None, 0, hold=1)) >= len(roles)
    check(any_user)


def test_shim_and_guard_killed_is_said_and_what_was_written_is_kept(any_user: Grid) -> None:
    """No design can save the calls that follow; but nobody waits for ever, and nothing looks complete."""
    start(any_user, count=100_000)
    while cast(any_user.home)["shim"]:
        strike(any_user.home, Blow(("shim", "guard"), None, 0))
        time.sleep(0.01)
    (one,) = any_user.finished("b")
    assert (one["state"], one["outcome"]) == ("failed", "lost"), one
    found = downloaded(any_user, "b-exp0")
    last = max(int(name) for name in os.listdir(user_home(any_user)) if name.isdigit())
    assert last >= 10
    for number in range(last):
        assert found[b"%d" % number] == found[inside(user_home(any_user) / str(number))] == content(number)
    assert {each["state"] for each in listed(any_user, "b").values()} == {"stored"}
