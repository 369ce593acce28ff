"""Many commands at one moment: nothing is done twice, nothing waits for ever, and nobody sees half of anything."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from gridkeep.runs.context import open_context
from gridkeep.runs.dispatch import engine_alive
from gridkeep.runs.submit import Request, submit
from tests.e2e.support import contents, downloaded, engines, experiment, explained, ran, save, submitted
from tests.support import Finished, Grid, wait_for

MANY = 50


def at_once(grid: Grid, commands: list[tuple[str, ...]], timeout: float = 120) -> list[Finished]:
    """Starts them all and then waits for each; none may show a traceback."""
    started = [grid.start(*words) for words in commands]
    done = []
    for words, process in zip(commands, started, strict=True):
        out, err = process.communicate(timeout=timeout)
        assert b"Traceback" not in err and b"unexpected" not in err, err.decode()
        done.append(Finished(["grid", *words], process.returncode, out, err))
    return done


def all_over(grid: Grid, timeout: float = 120) -> None:
    wait_for(lambda: not grid.json("status") or None, timeout, every=0.3, what="the end of all runs")


# ------------------------------------------------------------------------------------------------------- submissions


@pytest.mark.xdist_group("heavy")
def test_fifty_runs_submitted_at_once_all_complete(grid: Grid) -> None:
    """Into a home that none of them finds made."""
    save(grid, "import sys; open('out', 'w').write(sys.argv[1])")
    done = at_once(grid, [("run", "script.py", str(i)) for i in range(MANY)])
    assert {each.returncode for each in done} == {0}, str(next(each for each in done if each.returncode))
    names = [each.last_line for each in done]
    assert len(set(names)) == MANY
    all_over(grid)
    history = grid.json("history")
    assert Counter(run["state"] for run in history) == {"completed": MANY}
    grid("artifacts", *names)
    for i, name in enumerate(names):
        folder = grid.cwd / "grid_artifacts" / name / f"{name}-exp0"
        assert contents(folder) == {b"out": str(i).encode()}
    wait_for(lambda: [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []] or None)


@pytest.mark.xdist_group("heavy")
def test_fifty_of_one_name_and_one_gets_it(grid: Grid) -> None:
    save(grid, "print('one of us')")
    done = at_once(grid, [("run", "--name", "twin", "script.py")] * MANY)
    assert Counter(each.returncode for each in done) == {0: 1, 1: MANY - 1}
    for loser in (each for each in done if each.returncode):
        assert explained(loser) == "A Run with the name twin already exists"
        assert re.search(r"Hint: Try .*twin-\d+", loser.stderr), str(loser)
    assert [each["state"] for each in grid.finished("twin")] == ["completed"]
    assert len(grid.json("history")) == 1
    wait_for(lambda: [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []] or None)


def test_twice_in_place_in_one_folder(grid: Grid) -> None:
    """Each keeps what it wrote; what they share is kept by both, whole."""
    script = """
        import os, sys, time
        me = sys.argv[1]
        open("ready-" + me, "w").close()
        while not (os.path.exists("ready-a") and os.path.exists("ready-b")): time.sleep(0.01)
        os.makedirs("outputs", exist_ok=True)
        for i in range(20):
            open(f"outputs/{me}{i}", "w").write(me * 1000)
            with open("shared", "a") as log: log.write(me)
            time.sleep(0.01)
    """
    save(grid, script)
    at_once(
        grid, [("run", "--in-place", "--parallel", "2", "--name", f"r{me}", "script.py", me) for me in "ab"]
    )
    for me in "ab":
        (one,) = grid.finished(f"r{me}")
        assert (one["state"], one["missing"], one["reason"]) == ("completed", 0, None)
        got = downloaded(grid, f"r{me}-exp0")
        mine = {f"outputs/{me}{i}".encode(): me.encode() * 1000 for i in range(20)}
        assert mine.items() <= got.items()
        assert got[b"shared"].count(me.encode()) == 20
    grid("verify", "--deep", "ra", "rb")
    assert (grid.cwd / "shared").read_text().count("b") == 20, "what is in place stays"


# ------------------------------------------------------------------------------------------------------------ engines


def test_two_engines_at_one_moment_execute_nothing_twice(grid: Grid, tmp_path: Path) -> None:
    """Five of them, again and again, while twelve experiments are queued, running and syncing."""
    log = tmp_path / "log"
    save(grid, f"import os, sys; os.write(os.open({str(log)!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY), "
               "sys.argv[2].encode() + b'\\n'); open('f', 'w').write(sys.argv[2])")  # fmt: skip
    grid("run", "--name", "s", "script.py", "--x", "range(12)")
    command = [sys.executable, "-m", "gridkeep.runs.dispatcher", str(grid.home)]
    for _ in range(4):
        for _ in range(5):
            subprocess.Popen(command, env=grid.env, cwd="/", start_new_session=True)
        wait_for(lambda: len(engines(grid)) <= 1 or None, what="one engine")
    ended = grid.finished("s")
    assert {each["state"] for each in ended} == {"completed"}
    assert sorted(map(int, log.read_text().split())) == list(range(12)), "each once"
    assert {each["attempt"] for each in ended} == {1}


@pytest.mark.parametrize("rounds", [6, pytest.param(30, marks=pytest.mark.long)])
def test_submitted_while_the_engine_leaves(grid: Grid, rounds: int) -> None:
    """At many instants around its last look at the queue; nobody else comes to wake another."""
    grid("status")
    chance, told = random.Random(5), 0
    context = open_context(grid.env, start_engine=False)
    with context:
        for i in range(rounds):
            request = Request(script="true", cwd=str(grid.cwd), environ=grid.env, name=f"r{i}", in_place=True)
            submit(context, request)
            wait_for(
                lambda: not context.catalog.has_unfinished() or None, 30, every=0.005, what=f"the end of r{i}"
            )
            if i % 2:  # the lock is about to be given up …
                time.sleep(0.9 + 0.7 * i / rounds)
                told += engine_alive(context.home)
            else:  # … or was in this very moment
                wait_for(lambda: not engine_alive(context.home) or None, 30, every=0.0005)
                time.sleep(chance.random() * 0.02)
        assert all(run.state == "completed" for run in context.catalog.runs())
        assert len(context.catalog.runs()) == rounds
    assert told < rounds / 2, "not around its end"


# ---------------------------------------------------------------------------------- stopping, deleting, getting at once


def test_stopped_while_it_syncs(grid: Grid) -> None:
    """Its script has ended: a stop changes nothing of that, and says so; it goes on to the end that it had."""
    grid("status")
    (grid.home / "store").rename(grid.home / "away")
    quick = grid.with_env(GRIDKEEP_RETRY_MAX="200ms")
    submitted(quick, "open('f', 'w').write('x')")
    wait_for(lambda: experiment(grid, "run-exp0")["state"] == "syncing" or None)
    for done in at_once(
        grid, [("stop", "run", "run"), ("stop", "experiment", "run-exp0"), ("stop", "run", "run")]
    ):
        assert done.returncode == 0, str(done)
        assert done.stdout == "run-exp0 had already ended (its files are being synced).\n", str(done)
    assert experiment(grid, "run-exp0")["state"] == "syncing"
    (grid.home / "away").rename(grid.home / "store")
    (one,) = grid.finished("run")
    assert (one["state"], one["reason"], one["missing"]) == ("completed", None, 0)
    assert downloaded(grid, "run-exp0") == {b"f": b"x"}


def test_deleted_while_it_is_downloaded(grid: Grid) -> None:
    """The download ends with words; under a final name there is only what is whole; the deletion is complete."""
    text = "import os\nfor i in range(60): open(f'{i}', 'wb').write(b'%d ' % i * 1_000_000)"
    ran(grid, text, name="big")
    download = grid.start("artifacts", "big", "--jobs", "2")
    got = grid.cwd / "grid_artifacts/big/big-exp0"
    wait_for(lambda: any(path.suffix != ".partial" for path in got.glob("*")) or None, every=0.001)
    download.send_signal(signal.SIGSTOP)  # in the midst of it, whatever else the machine does
    grid("delete", "--yes", "big")
    download.send_signal(signal.SIGCONT)
    assert [path for path in (grid.home / "store").rglob("*") if path.name != ".tmp"] == []
    out, err = download.communicate(timeout=60)
    assert download.returncode == 1, (out, err)
    assert b"Traceback" not in err and b"deleted meanwhile" in err, err
    whole = {name: content for name, content in contents(got).items() if not name.endswith(b".partial")}
    assert 0 < len(whole) < 60
    assert all(content == name + b" " + (name + b" ") * 999_999 for name, content in whole.items())
    grid("artifacts", "big", code=1)


def test_two_deletions_at_once(grid: Grid) -> None:
    """One does it; both end well, and say of each thing once that it went."""
    save(grid, "import sys\nfor i in range(150): open(f'{i}', 'w').write('x' * 100)")
    grid("run", "--follow", "--name", "d", "script.py", "--x", "[1,2,3]")
    ran(grid, "open('f', 'w').write('y')", name="other")
    done = at_once(grid, [("delete", "--yes", "--json", "run", "d")] * 3)
    worked = [each.json() for each in done if each.returncode == 0]
    assert worked, [str(each) for each in done]
    for late in (each for each in done if each.returncode):
        assert explained(late) == "There is no run named d."
    assert sum(each["objects"] for each in worked) == 3 * (150 + 3)
    assert sum(each["bytes"] for each in worked) > 3 * 150 * 100
    assert [run["name"] for run in grid.json("history")] == ["other"]
    grid("verify", "--deep", "other")
    assert len(os.listdir(grid.home / "store/experiments")) == 1


def test_two_rebuilds_at_once(grid: Grid) -> None:
    save(grid, "import sys\nfor i in range(100): open(f'{i}', 'w').write('x')")
    grid("run", "--follow", "--name", "r", "script.py", "--x", "[1,2,3]")
    wait_for(lambda: not engines(grid) or None)
    listed = grid.json("artifacts", "r")
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (grid.home / name).unlink(missing_ok=True)
    words = ("catalog", "rebuild", f"file://{grid.home}/store")
    done = at_once(grid, [words] * 3)
    assert any(each.returncode == 0 for each in done), [str(each) for each in done]
    for late in (each for each in done if each.returncode):
        assert explained(late) == "Another `grid catalog rebuild` is at work in this home."
    assert grid.json("artifacts", "r") == listed
    grid("verify", "--deep", "r")
    grid(*words)
    assert json.dumps(grid.json("artifacts", "r")) == json.dumps(listed)


def test_deleted_and_listed_and_verified_at_once(grid: Grid) -> None:
    """Whoever looks finds all of it or nothing, and ends with words."""
    chance = random.Random(3)
    for i in range(2):
        ran(grid, "for i in range(200): open(f'{i}', 'w').write('x')", name="d")
        looks = [
            ("artifacts", "--json", "d"),
            ("ls", "d"),
            ("status", "d", "--json"),
            ("verify", "d"),
            ("logs", "d"),
        ]
        started = [grid.start(*words) for words in looks]
        time.sleep(chance.random() * 0.3)
        grid("delete", "--yes", "d")
        for words, process in zip(looks, started, strict=True):
            out, err = process.communicate(timeout=60)
            assert b"Traceback" not in err and b"unexpected" not in err, (words, err)
            if process.returncode == 0 and "--json" in words:
                assert len(json.loads(out)) in ((0, 200) if words[0] == "artifacts" else (1,)), (i, words)
        assert grid.json("history") == []


# -------------------------------------------------------------------------------------------------------- a slow disk


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("slow") / "slow.so"
    source = Path(__file__).with_name("slow.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def test_a_catalog_on_a_slow_disk(grid: Grid, slow_disk: Path) -> None:
    """Each write to it takes 20 ms: everybody waits for everybody, and all ends as ever."""
    slow = grid.with_env(LD_PRELOAD=str(slow_disk), SLOW_FILE="/home/catalog.db", SLOW_MS="20")
    began = time.monotonic()
    slow("status")
    assert time.monotonic() - began > 0.5, "it was not slow, so this proved nothing"
    save(grid, "for i in range(30): open(f'{i}', 'w').write('x')")
    words = ["run", "--parallel", "2", "script.py", "--x", "[1,2]"]
    looks = [("status", "--json"), ("history", "--json")] * 2
    done = at_once(slow, [*(("run", "--name", f"r{i}", *words[1:]) for i in range(3)), *looks])
    assert {each.returncode for each in done} == {0}, [str(each) for each in done]
    for i in range(3):
        ended = slow.finished(f"r{i}")
        assert [(each["state"], each["artifacts"], each["missing"]) for each in ended] == [
            ("completed", 30, 0)
        ] * 2
    at_once(slow, [("delete", "--yes", f"r{i}") for i in range(2)])
    assert [run["name"] for run in grid.json("history")] == ["r2"]
    assert downloaded(grid, "r2-exp1") == {b"%d" % i: b"x" for i in range(30)}
    grid("verify", "--deep", "r2")
