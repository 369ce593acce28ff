"""What every mode of capture must survive: the shim, its guard, or both killed or stopped at any moment, and a full disk.

A script never hangs or fails by it, its exit status is known or said to be unknown, and every file is recorded.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.captures import Bench, Execution, Seen, is_alive, later, signal_each
from tests.support import wait_for

ROUNDS = 10  # for each user
# Writes steadily: `count` files, each made, renamed and made again, and says how far it is.
STEADY = """
import os, sys, time
folder, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
os.mkdir(folder)
for number in range(count):
    name = f"{folder}/{number}"
    with open(name, "w") as file:
        file.write("x" * number)
    if number % 3 == 0:
        os.rename(name, name + "r")
    time.sleep(pause)
open(f"{folder}/last", "w").close()
sys.exit(7)
"""


def steady(bench: Bench, folder: str, count: int = 80, pause: float = 0.002, **how) -> Execution:
    return bench.start_py(STEADY, folder, str(count), str(pause), **how)


def check(seen: Seen, folder: str, count: int = 80) -> None:
    """The script came through, and every one of its files is known; or it never began, and that is said."""
    if not (seen.bench.work / folder).exists():
        assert seen.ending.error == "its shim was killed before it could begin", seen
        return
    names = {os.path.join(folder, name) for name in os.listdir(seen.bench.work / folder)}
    assert len(names) == count + 1, "the script did not write all its files"
    assert names <= seen.files, f"{names - seen.files}\n{seen}"
    known = (seen.ending.exit_code, seen.ending.signal, seen.ending.error)
    assert known in ((7, None, None), (None, None, None)), seen
    assert not [loss for loss in seen.losses if "fault" in loss], seen.losses


def test_the_shim_killed_at_any_moment(bench):
    def one(number: int) -> Seen:
        execution = steady(bench, f"d{number}")
        time.sleep(random.uniform(0, 0.25))
        signal_each([execution.shim], signal.SIGKILL)
        return execution.seen()

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(one, range(ROUNDS)))
    for number, seen in enumerate(ended):
        check(seen, f"d{number}")
        assert not seen.losses
    assert any(seen.counters["guard"] for seen in ended), "no round killed the shim in time"


def test_the_shim_killed_while_it_starts(bench):
    """What has no started.json has not run, and can be started again; what has one has been brought to its end."""

    def one(number: int) -> None:
        execution = steady(bench, f"d{number}", count=10, wait=False)
        time.sleep(random.uniform(0, 0.15))
        signal_each(execution.keepers[:1], signal.SIGKILL)
        wait_for(lambda: execution.session.end() or not execution.session.alive(), what="the end of the shim")
        if execution.session.started() is None:
            assert not (bench.work / f"d{number}").exists()
            assert execution.session.ending() is None
            execution.start()
        check(execution.seen(), f"d{number}", count=10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(ROUNDS)))


def test_the_shim_woken_again_and_again_while_it_starts(bench):
    """As by a guard, or after a stop: no signal makes it begin without its eye."""
    for number in range(ROUNDS):
        execution = steady(bench, f"d{number}", count=10, wait=False)
        shim: list[int] = []
        while execution.session.started() is None:
            shim = shim or execution.keepers[:1]
            signal_each(shim, signal.SIGCONT)
        seen = execution.seen()
        check(seen, f"d{number}", count=10)
        assert seen.mode == bench.mode, seen


def test_the_guard_killed_again_and_again(bench):
    execution = steady(bench, "d")
    killed = set()
    until = later(0.3)
    while time.monotonic() < until:
        guards = execution.guards
        signal_each(guards, signal.SIGKILL)
        killed |= set(guards)
    seen = execution.seen()
    check(seen, "d")
    assert seen.ending.exit_code == 7
    assert len(killed) > 2, "no guard came after the first"


def test_the_shim_killed_after_its_first_guard(bench):
    execution = steady(bench, "d", count=300)
    (first,) = wait_for(lambda: execution.guards)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: [pid for pid in execution.guards if pid != first and is_alive(pid)], what="a new guard")
    os.kill(execution.shim, signal.SIGKILL)
    seen = execution.seen()
    check(seen, "d", count=300)
    assert seen.counters["guard"] > 0


def test_the_shim_stopped_does_not_stop_the_script(bench):
    execution = steady(bench, "d", count=400)
    shim, folder = execution.shim, bench.work / "d"
    wait_for(lambda: folder.exists() and len(os.listdir(folder)) > 10)
    until = later(2)
    os.kill(shim, signal.SIGSTOP)
    before = len(os.listdir(folder))
    wait_for(
        lambda: len(os.listdir(folder)) > before + 20, until - time.monotonic(), what="progress of the script"
    )
    os.kill(shim, signal.SIGCONT)
    seen = execution.seen()
    check(seen, "d", count=400)
    assert seen.ending.exit_code == 7


def test_the_shim_stopped_again_and_again(bench):
    """In the middle of seeing, too: each file is then recorded, if need be as one that was seen late."""
    execution = steady(bench, "d", count=300)
    shim = execution.shim
    while execution.session.ending() is None:
        signal_each([shim], signal.SIGSTOP)
        time.sleep(random.uniform(0, 0.15))
        signal_each([shim], signal.SIGCONT)
        time.sleep(random.uniform(0, 0.01))
    seen = execution.seen()
    check(seen, "d", count=300)
    assert seen.ending.exit_code == 7
    assert seen.losses == []


def test_the_guard_stopped(bench):
    execution = steady(bench, "d")
    signal_each(wait_for(lambda: execution.guards), signal.SIGSTOP)
    seen = execution.seen()
    check(seen, "d")
    assert seen.ending.exit_code == 7


def test_both_killed_is_said(bench):
    """No design can save the calls that follow; but nobody may wait for ever, and nothing may look complete."""
    execution = steady(bench, "d", count=100_000)
    wait_for((bench.work / "d/20").exists)
    script = execution.script
    while execution.session.alive():
        signal_each(execution.keepers, signal.SIGKILL)
    wait_for(lambda: not is_alive(script), what="the script's end: its next open fails")
    assert execution.session.end() is None
    recorded = {path for _, each in execution.session.records(0) for path, _ in each.paths}
    assert os.fsencode(bench.work / "d/20") in recorded


def test_nobody_reads_the_journal(bench):
    """As all through this suite; here with much of it."""
    execution = steady(bench, "d", count=1000, pause=0)
    check(execution.seen(), "d", count=1000)


def test_a_full_disk_under_the_journal(bench):
    """Records are dropped whole and counted; the script goes on; its exit status waits for space."""
    if not bench.is_root:
        pytest.skip("only root may mount")
    small = bench.folder("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this root may not mount: {mounted.stderr.decode()}")
    try:
        execution = steady(bench, "d", count=1500, pause=0, place=small, wait=False)
        wait_for((bench.work / "d/20").exists)
        filler = small / "filler"
        fill(filler)
        wait_for((bench.work / "d/last").exists)
        fill(filler)
        wait_for(
            lambda: not is_alive(execution.script) or execution.session.ending(), what="the script's end"
        )
        filler.unlink()
        seen = execution.seen()
        assert seen.ending.exit_code == 7
        assert seen.counters["lost"] > 0
        assert seen.counters["records"] == len(seen.records) > 0
        assert seen.counters["records"] + seen.counters["lost"] >= 1501
    finally:
        end = later(10)
        while subprocess.run(["umount", small], capture_output=True).returncode and time.monotonic() < end:
            time.sleep(0.05)


def fill(path: Path) -> None:
    with open(path, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
