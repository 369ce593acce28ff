"""Processes seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from gridkeep.capture.processes import age, descendants, exit_status, with_variable


def test_the_status_of_an_ended_process_is_told_once_it_is_reaped():
    for code in (0, 7):
        child = subprocess.Popen(
            [sys.executable, "-c", f"import time; time.sleep(0.2); raise SystemExit({code})"]
        )
        pidfd = os.pidfd_open(child.pid)
        threading.Thread(target=child.wait).start()  # reaps it the moment it ends
        status = exit_status(pidfd, patience=10)
        os.close(pidfd)
        assert status is None or os.waitstatus_to_exitcode(status) == code  # None: Linux before 6.15


def test_one_that_lives_has_no_status():
    pidfd = os.pidfd_open(os.getpid())
    assert exit_status(pidfd, patience=0.05) is None
    os.close(pidfd)


def test_descendants_however_deep():
    child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert {child.pid, grandchild} <= set(descendants(os.getpid()))
    os.kill(grandchild, 9)
    child.wait()
    child.stdout.close()


def test_processes_are_found_by_a_variable_of_their_surroundings():
    name, value = "GRIDKEEP_TEST_MARK", f"{os.getpid()}-{time.time()}"
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, name: value})
    deadline = time.monotonic() + 5
    while with_variable(name, value) != [child.pid] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert with_variable(name, value) == [child.pid] and with_variable(name, value + "x") == []
    child.kill()
    child.wait()
    assert with_variable(name, value) == []


def test_age():
    child = subprocess.Popen(["sleep", "60"])
    time.sleep(0.2)
    assert 0.1 < age(child.pid) < 60
    child.kill()
    child.wait()
    assert age(child.pid) == 0
