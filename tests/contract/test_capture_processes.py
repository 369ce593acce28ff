"""What every mode of capture must hold of a process tree: its beginning, its ends, its stragglers, its crowds."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.captures import is_alive
from tests.support import wait_for

# ------------------------------------------------------------------------------------------------------- beginning


def test_what_the_record_says(bench):
    seen = bench.sh("echo new > a; exit 3", code=3)
    assert seen.started["script"] != seen.started["shim"]
    assert seen.started["at"] <= seen.ending.ended_at <= seen.end["finished_at"] <= time.time()
    assert (seen.end["mode"], seen.end["why"]) == (seen.started["mode"], seen.started["why"])
    assert seen.end["terminated"] == []
    assert seen.counters["records"] == len(seen.records) == 1
    assert seen.counters["notices"] == seen.counters["answered"]


def test_the_scripts_surroundings(bench):
    seen = bench.start_py(
        """
        import os, signal, sys
        print(sys.argv[1:], os.getcwd(), os.environ["HOME"], os.read(0, 1))
        print(sorted(map(int, os.listdir("/proc/self/fd")))[:-1], os.getsid(0) == os.getpid(), oct(os.umask(0)))
        ignored = {s.name for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN}
        print(sorted(ignored), signal.pthread_sigmask(signal.SIG_BLOCK, []))
        """,
        "one two",
        "",
        b"\xff",
    ).seen()
    assert seen.ending.exit_code == 0, seen
    assert seen.output.splitlines() == [
        f"['one two', '', '\\udcff'] {bench.work} {bench.root} b''",
        "[0, 1, 2] True 0o22",
        "['SIGPIPE', 'SIGXFSZ'] set()",  # Python's own doing
    ]


def test_started_twice_runs_once(bench):
    execution = bench.start("/bin/sh", "-c", "echo ran >> a; sleep 0.3", wait=False)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: execution.start_apart(), range(4)))
    execution.seen()
    execution.start()
    execution.seen()
    assert (bench.work / "a").read_text() == "ran\n"


@pytest.mark.parametrize("reason", ["no program", "not executable", "no folder"])
def test_a_script_that_cannot_be_started(bench, reason):
    program = bench.file("program", "#!/bin/sh\necho ran > a\n")
    program.chmod(0o644 if reason == "not executable" else 0o755)
    execution = bench.start(
        bench.work / "none" if reason == "no program" else program,
        cwd=bench.work / "none" if reason == "no folder" else None,
    )
    seen = execution.seen()
    assert (seen.ending.exit_code, seen.ending.signal) == (None, None)
    assert seen.ending.error is not None
    assert {"not executable": "Permission denied"}.get(
        reason, "No such file or directory"
    ) in seen.ending.error
    assert not (bench.work / "a").exists()


def test_switched_off(bench):
    execution = bench.start(
        "/bin/sh", "-c", "echo new > a; (sleep 0.2; echo late > b) & exit 4", capture="off"
    )
    seen = execution.seen()
    assert (seen.mode, seen.ending.exit_code, seen.records) == ("off", 4, [])
    assert (bench.work / "b").exists(), "the end came before the last descendant's"


def test_a_session_within_a_session(bench):
    """The kernel allows one listener only: the inner says that it cannot see and why, the outer sees its files."""
    seen = bench.py(
        """
        import os, sys, time
        from gridkeep.capture.session import Launch, Session
        inner = Session("inner")
        os.mkdir("w")
        inner.folder = os.path.abspath("inner")
        inner.start(Launch(argv=["/bin/sh", "-c", "echo new > b; exit 5"], env={}, cwd=os.path.abspath("w"),
            output=os.path.abspath("output"), capture="auto", linger=1, kill_grace=1))
        while inner.end() is None or inner.alive():
            time.sleep(0.01)
        print(inner.end()["mode"], inner.ending().exit_code, inner.end()["why"])
        """
    )
    mode, code, *why = seen.output.split()
    assert (mode, code) == ("watch", "5")
    assert "busy" in " ".join(why)
    assert "open w/b" in seen.calls


# ------------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exit_codes(bench, code):
    ending = bench.sh(f"exit {code}", code=code).ending
    assert (ending.signal, ending.error) == (None, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGRTMIN])
def test_signals(bench, number):
    ending = bench.sh(f"echo new > a; kill -{int(number)} $$", code=None).ending
    assert (ending.exit_code, ending.signal, ending.error) == (None, number, None)


def test_killed_in_the_middle_of_writing(bench):
    execution = bench.start_py(
        """
        import itertools
        for number in itertools.count():
            with open(f"f{number}", "w") as file:
                file.write("x" * 100)
        """
    )
    execution.wait_for_file("f50")
    os.kill(execution.script, signal.SIGKILL)
    seen = execution.seen()
    assert seen.ending.signal == signal.SIGKILL
    assert set(os.listdir(bench.work)) <= seen.files


def test_a_thread_that_outlives_its_leader_can_be_stopped(bench, writers):
    """The process looks like a zombie then."""
    execution = bench.start(writers / "writer", "leader-gone", "a", "b", "stay", kill_grace=0.3)
    execution.wait_for_file("b")
    execution.session.stop()
    assert execution.seen(20).ending.signal == signal.SIGTERM


# ------------------------------------------------------------------------------------------------------- descendants


DAEMON = """
import os, signal, sys, time
{before}
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/proc/self/comm", "w").write("straggler")
        {daemon}
    os._exit(0)
os.wait()
"""


def daemon(daemon: str, before: str = "") -> str:
    """A script that ends at once and leaves a process behind, which has forked itself away."""
    return DAEMON.format(daemon=daemon, before=before)


def test_the_end_waits_for_a_daemon(bench):
    execution = bench.start_py(daemon("time.sleep(0.5); open('late', 'w').close()"))
    seen = execution.seen()
    assert seen.calls == ["open late"]
    assert seen.end["finished_at"] - seen.ending.ended_at > 0.2
    assert seen.end["terminated"] == []


def test_a_daemon_gets_the_linger_time_then_a_signal(bench):
    seen = bench.py(daemon("time.sleep(60)"), linger=0.3)
    assert seen.end["terminated"] == ["straggler"]
    assert 0.3 <= seen.end["finished_at"] - seen.ending.ended_at < 10


def test_a_daemon_that_writes_all_the_time_is_seen_and_ended(bench):
    endless = "n = 0\n        while True:\n            n += 1; open(f'f{n % 50}', 'w').close()"
    seen = bench.py(daemon(endless), linger=1)
    assert seen.end["terminated"] == ["straggler"]
    assert len(seen.records) > 100, "capture was slow while a descendant lingered"


def test_a_daemon_that_does_not_listen_is_killed(bench):
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    seen = bench.py(daemon("time.sleep(60)", before), linger=0.1, kill_grace=0.2)
    assert seen.end["terminated"] == ["straggler"]
    assert seen.end["finished_at"] - seen.ending.ended_at < 10


def test_a_daemon_may_write_when_it_gets_the_signal(bench):
    before = """
def leave(*_):
    open("last words", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
"""
    seen = bench.py(daemon("time.sleep(60)", before), linger=0.1)
    assert seen.calls == ["open last words"]


def test_pools_and_crowds(bench):
    seen = bench.py(
        """
        import multiprocessing, os, threading
        def write(number):
            with open(f"f{number}", "w") as file:
                file.write(str(number))
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(4) as pool:
                pool.map(write, range(200))
            threads = [threading.Thread(target=write, args=(number,)) for number in range(200, 264)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        """
    )
    assert {f"f{number}" for number in range(264)} <= seen.files


def test_a_thousand_processes(bench):
    seen = bench.sh(
        """
        i=0
        while [ $i -lt 1000 ]; do
            (echo $i > f$i) &
            i=$((i+1))
            [ $((i % 50)) -ne 0 ] || wait
        done
        wait
        """
    )
    # On a busy machine the guard may let one go on that its shim is about to answer, and notes it (`late`) beside the shim.
    by_shim = [call for call in seen.calls if not call.endswith(" late")]
    assert Counter(by_shim) == {f"open f{number}": 1 for number in range(1000)}


def test_a_storm_of_signals_repeats_no_call(bench):
    seen = bench.py(
        """
        import os, signal
        caught = 0
        def count(*_):
            global caught
            caught += 1
        signal.signal(signal.SIGALRM, count)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        for number in range(400):
            os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(caught)
        """
    )
    assert int(seen.output) > 50
    assert Counter(seen.calls) == {f"open f{number}": 1 for number in range(400)}
    assert seen.counters["notices"] == 400


# --------------------------------------------------------------------------------------------------------------- stop


def test_stop_asks_first(bench):
    execution = bench.start_py(
        """
        import os, signal, sys, time
        def leave(*_):
            open("last words", "w").close()
            sys.exit(3)
        signal.signal(signal.SIGTERM, leave)
        open("ready", "w").close()
        while True: time.sleep(60)
        """
    )
    execution.wait_for_file("ready")
    execution.session.stop()
    seen = execution.seen(20)
    assert seen.ending.exit_code == 3
    assert seen.calls == ["open ready", "open last words"]


def test_stop_kills_what_does_not_listen_and_all_its_descendants(bench):
    execution = bench.start_py(
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for number in range(4):
            if os.fork() == 0:
                os.setsid()
                break
        else:
            number = 4
        open(f"ready{number}", "w").write(str(os.getpid()))
        while True: time.sleep(60)
        """,
        kill_grace=0.5,
    )
    for number in range(5):
        execution.wait_for_file(f"ready{number}")
    pids = [int(wait_for((bench.work / f"ready{number}").read_text)) for number in range(5)]
    begun = time.monotonic()
    execution.session.stop()
    seen = execution.seen(20)
    assert seen.ending.signal == signal.SIGKILL
    assert 0.5 <= time.monotonic() - begun < 10
    assert not any(map(is_alive, pids))


def test_stop_does_not_wait_for_stragglers(bench):
    execution = bench.start_py(daemon("time.sleep(60)"), linger=60)
    wait_for(execution.session.ending)
    execution.session.stop()
    assert execution.seen(20).end["terminated"] == ["straggler"]


def test_stop_after_the_end_is_harmless(bench):
    execution = bench.start("/bin/true")
    execution.seen()
    execution.session.stop()


def test_the_shim_is_deaf_to_what_ends_terminals(bench):
    execution = bench.start("/bin/sh", "-c", "echo 1 > a; until [ -e go ]; do sleep 0.02; done; echo 2 > b")
    execution.wait_for_file("a")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        for pid in execution.keepers:
            os.kill(pid, number)
    bench.file("go")
    seen = execution.seen()
    assert seen.ending.exit_code == 0
    assert seen.calls == ["open a", "open b"]
