"""`grid run`: what SCRIPT means, what the script sees, what is said, and when it returns."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.support import downloaded, experiment, in_terminal, listed, ran, save, submitted
from tests.support import Grid, wait_for

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


# -------------------------------------------------------------------------------------------------- what SCRIPT means


def test_a_python_script_is_run_by_the_python_of_path(grid: Grid, tmp_path: Path) -> None:
    fake = tmp_path / "bin/python"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "fake python runs $*"\n')
    fake.chmod(0o755)
    grid = grid.with_env(PATH=f"{fake.parent}:{grid.env['PATH']}")
    done = grid("run", "--follow", save(grid, ""), "--flag", "a b")
    assert done.stdout.splitlines()[0] == "fake python runs script.py --flag a b"


def test_a_shell_script_is_run_by_its_first_line_without_a_run_bit(grid: Grid) -> None:
    assert not os.access(grid.cwd / save(grid, "#!/bin/cat\nshown as it is\n", "a.sh"), os.X_OK)
    assert grid("run", "--follow", "a.sh").stdout.startswith("#!/bin/cat\nshown as it is\n")
    save(grid, 'echo "by $0"; exit 4', "b.sh")
    done = grid("run", "--follow", "b.sh", code=1)
    assert done.stdout.startswith("by b.sh\n")
    assert "exit code 4" in done.stderr


def test_a_command_of_path_and_an_executable(grid: Grid) -> None:
    grid("run", "--follow", "--name", "touch", "touch", "made")
    assert downloaded(grid, "touch-exp0") == {b"made": b""}
    save(grid, "#!/bin/sh\necho $* > args\n", "tools/do it")
    (grid.cwd / "tools/do it").chmod(0o755)
    grid("run", "--follow", "--name", "path", "tools/do it", "1", "--two")
    assert downloaded(grid, "path-exp0") == {b"args": b"1 --two\n"}


def test_after_two_hyphens_only_the_parsing_of_options_ends(grid: Grid) -> None:
    save(grid, "import sys; print(sys.argv[1:])")
    done = grid("run", "--follow", "--", "script.py", "--name", "mine")
    assert done.stdout.splitlines()[0] == "['--name', 'mine']"


def test_options_behind_the_script_are_its_own(grid: Grid) -> None:
    done = grid(
        "run", "--follow", save(grid, "import sys; print(sys.argv[1:])"), "--name", "x", "--json", "-m"
    )
    assert done.stdout.splitlines()[0] == "['--name', 'x', '--json', '-m']"


# ------------------------------------------------------------------------------------------------------ what is said


def test_it_returns_at_once_and_says_what_was_submitted(grid: Grid) -> None:
    save(grid, SLEEPER)
    begun = time.monotonic()
    done = grid("run", "--name", "quick", "script.py", "--x", "[1,2]")
    assert time.monotonic() - begun < 10
    assert done.stdout == "quick\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "Run submitted!"
    said = dict(re.findall(r"^(\w+): +(.*)$", done.stderr, re.MULTILINE))
    assert said["Script"] == "script.py --x '[1,2]'"
    assert (said["Name"], said["Experiments"], said["Strategy"]) == ("quick", "2", "grid_search")
    assert (said["Cluster"], said["Store"]) == ("local", f"file://{grid.home}/store/")
    assert said["Linked"] == "nothing"


def test_follow_streams_and_ends_with_the_outcome(grid: Grid) -> None:
    done = grid(
        "run",
        "--follow",
        "--name",
        "f",
        save(grid, "import time\nfor i in range(3): print(i); time.sleep(.2)"),
    )
    assert done.stdout == "0\n1\n2\nf\n"
    assert done.stderr.splitlines()[-1].startswith("f completed: 1 of 1 experiment completed in 0d-00:00:0")


def test_the_name_stands_alone_on_the_last_line(grid: Grid) -> None:
    done = grid("run", "--follow", "--name", "alone", "printf", "no newline")
    assert done.stdout == "no newline\nalone\n"
    assert grid("logs", "alone").stdout == "no newline"


def test_follow_prefixes_the_lines_of_a_sweep(grid: Grid) -> None:
    save(grid, "import sys; print('value', sys.argv[2]); print('no newline', end='')")
    done = grid("run", "--follow", "--name", "s", "script.py", "--x", "[7,8]")
    *lines, name = done.stdout.splitlines()
    assert name == "s"
    assert sorted(lines) == [
        "exp0 │ no newline",
        "exp0 │ value 7",
        "exp1 │ no newline",
        "exp1 │ value 8",
    ]


def test_follow_exits_with_1_when_one_experiment_failed(grid: Grid) -> None:
    save(grid, "import sys; sys.exit(int(sys.argv[2]))")
    done = grid("run", "--follow", "--name", "s", "script.py", "--code", "[0,3]", code=1)
    assert "s-exp1 failed: exit code 3; see `grid logs s-exp1`" in done.stderr
    assert "s failed: 1 of 2 experiments completed" in done.stderr.splitlines()[-1]


def test_ctrl_c_detaches_and_the_run_goes_on(grid: Grid) -> None:
    save(grid, "import time; print('up', flush=True); time.sleep(2); open('end', 'w').write('x')")
    process = grid.start("run", "--follow", "--name", "d", "script.py")
    assert process.stdout
    seen = b""
    while b"up" not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Detached; the run goes on." in err
    assert b"Traceback" not in err
    assert grid.finished("d")[0]["state"] == "completed"
    assert downloaded(grid, "d-exp0") == {b"end": b"x"}


def test_ctrl_c_at_a_terminal_reaches_no_script(grid: Grid) -> None:
    """The whole foreground group of a terminal gets the signal: a script in it would die."""
    save(grid, "import time; print('up', flush=True); time.sleep(2); open('end', 'w').write('x')")
    pressed: list[int] = []

    def press(text: str, keyboard: int) -> None:
        if "up" in text and not pressed:
            pressed.append(os.write(keyboard, b"\x03"))

    shown = in_terminal(grid, "run", "--follow", "--name", "d", "script.py", act=press)
    assert shown.returncode == 130
    assert "Detached; the run goes on." in shown.text
    assert grid.finished("d")[0]["state"] == "completed"


def test_a_terminal_gets_a_live_line_and_a_pipe_none(grid: Grid) -> None:
    save(grid, "import time; print('up', flush=True); time.sleep(1.5)")
    shown = in_terminal(grid, "run", "--follow", "--name", "t", "script.py")
    assert shown.returncode == 0
    assert "t: 1 running │ 0 of 0 files stored" in shown.text
    assert "\x1b[K" in shown.text
    done = grid("run", "--follow", "--name", "p", "script.py")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_the_run_outlives_the_terminal_that_submitted_it(grid: Grid) -> None:
    """The terminal is closed (SIGHUP to its session) while the script runs."""
    save(grid, "import time; time.sleep(1.5); open('end', 'w').write('x')")
    shown = in_terminal(grid, "run", "--name", "t", "script.py")
    assert shown.returncode == 0
    assert grid.finished("t")[0]["state"] == "completed"


def test_dry_run_does_nothing(grid: Grid) -> None:
    done = grid("run", "--dry-run", save(grid, SLEEPER), "--lr", "[0.1,0.01]", "--n", "range(1,4,2)")
    assert done.stdout.splitlines() == [
        f"script.py --lr {lr} --n {n}" for lr in ("0.1", "0.01") for n in (1, 3)
    ]
    assert grid.json("status") == grid.json("history") == []
    assert os.listdir(grid.home / "work") == []


# ---------------------------------------------------------------------------------------------- what the script sees


def test_environment_of_the_script(grid: Grid) -> None:
    one = ran(
        grid.with_env(FROM_SHELL="kept", PYTHONUNBUFFERED="", SAME="old"),
        "import json, os; json.dump(dict(os.environ), open('env', 'w'))",
        options=("--env", "MINE=a=b c", "--env", "SAME=new"),
        name="env",
    )
    seen = json.loads(downloaded(grid, "env-exp0")[b"env"])
    assert seen["GRID_RUN_NAME"] == "env"
    assert seen["GRID_EXPERIMENT_NAME"] == "env-exp0"
    assert seen["GRID_EXPERIMENT_ID"] == one["experiment_id"]
    assert seen["GRID_CLUSTER_ID"] == "local"
    assert seen["GRID_USER_ID"] == grid.json("history")[0]["created_by"]
    assert seen["GRID_ARTIFACTS_SOCKET"]
    assert seen["PYTHONUNBUFFERED"] == "1"
    assert (seen["FROM_SHELL"], seen["MINE"], seen["SAME"]) == ("kept", "a=b c", "new")


def test_the_environment_lies_in_no_store_and_goes_with_the_run(grid: Grid) -> None:
    secret = "hunter2-in-the-environment"

    def holders() -> list[str]:
        found = subprocess.run(["grep", "-rl", secret, str(grid.home)], capture_output=True, text=True)
        return found.stdout.split()

    save(grid, "import time; open('f', 'w'); time.sleep(1.5)")
    grid("run", "--name", "env", "--env", f"OTHER={secret}", "script.py", env={"TOKEN": secret})
    (holder,) = wait_for(holders)
    assert Path(holder).is_relative_to(grid.home / "journal")
    assert os.stat(holder).st_mode & 0o777 == 0o600
    assert os.stat(grid.home).st_mode & 0o777 == 0o700
    grid.finished("env")
    wait_for(lambda: not holders() or None, what="the end of the environment")
    assert secret not in grid("status", "env", "--json").stdout


def test_where_the_script_stands_and_its_output_order(grid: Grid) -> None:
    """stdout and stderr go to one log in the order of writing; /dev/stdout and /dev/stderr lead there as well."""
    save(
        grid,
        """
        pwd > where
        echo one
        echo two >&2
        echo three > /dev/stderr
        echo four > /dev/stdout
        echo five >> /dev/stderr
        printf six
        """,
        "s.sh",
    )
    grid("run", "--follow", "--name", "out", "s.sh")
    assert grid("logs", "out").stdout == "one\ntwo\nthree\nfour\nfive\nsix"
    files = downloaded(grid, "out-exp0")
    assert list(files) == [b"where"]
    assert Path(os.fsdecode(files[b"where"].strip())).is_relative_to(grid.home / "work")


def test_stdin_of_the_script_is_empty(grid: Grid) -> None:
    save(grid, "import sys; print(repr(sys.stdin.read()))")
    assert grid("run", "--follow", "script.py", stdin=b"typed").stdout.startswith("''\n")


def test_umask_is_the_submitters(grid: Grid) -> None:
    command = f"umask 027; exec {grid.command[0]} run --follow --name u script.py"
    save(grid, "import os; open('f', 'w'); print(oct(os.stat('f').st_mode))")
    done = subprocess.run(["sh", "-c", command], cwd=grid.cwd, env=grid.env, capture_output=True, text=True)
    assert done.stdout.startswith("0o100640\n"), done


# ---------------------------------------------------------------------------------------------------------- options


def test_timeout_ends_the_script_and_keeps_its_files(grid: Grid) -> None:
    save(grid, "import time; open('f', 'w').write('kept'); time.sleep(60)")
    done = grid("run", "--follow", "--name", "late", "--timeout", "1s", "script.py", code=1)
    assert "late-exp0 failed: timed out after 1 s" in done.stderr
    assert experiment(grid, "late-exp0")["outcome"] == "timeout"
    assert downloaded(grid, "late-exp0") == {b"f": b"kept"}


def test_in_place_runs_where_you_stand(grid: Grid) -> None:
    save(grid, "before", "input.txt")
    ran(
        grid,
        "import os; print(os.getcwd()); open('input.txt', 'a').write(' after'); open('new', 'w').write('n')",
        options=("--in-place",),
        name="here",
    )
    assert grid("logs", "here").stdout == f"{grid.cwd}\n"
    assert (grid.cwd / "input.txt").read_text() == "before after"
    assert downloaded(grid, "here-exp0") == {b"input.txt": b"before after", b"new": b"n"}


def test_no_capture_finds_the_working_copy_and_says_so(grid: Grid) -> None:
    outside = grid.cwd.parent / "outside.txt"
    one = ran(
        grid,
        f"open('in', 'w').write('i'); open({str(outside)!r}, 'w').write('o')",
        options=("--no-capture",),
        name="blind",
    )
    assert one["capture"]["mode"] == "off"
    assert downloaded(grid, "blind-exp0") == {b"in": b"i"}


def test_exclude(grid: Grid) -> None:
    ran(
        grid,
        "import os; os.mkdir('big'); [open(n, 'w').write(n) for n in ('a.tmp', 'big/b', 'c')]",
        options=("--exclude", "*.tmp", "--exclude", "/big/"),
        name="ex",
    )
    assert downloaded(grid, "ex-exp0") == {b"c": b"c"}
    found = listed(grid, "ex")
    assert {path: (each["state"], each["reason"]) for path, each in found.items() if path != "c"} == {
        "a.tmp": ("ignored", "exclude *.tmp"),
        "big/b": ("ignored", "exclude /big/"),
    }


def test_input_makes_an_earlier_run_readable(grid: Grid) -> None:
    ran(
        grid,
        "import os; os.makedirs('out/sub'); [open(n, 'w').write(n) for n in ('a', 'out/b', 'out/sub/c')]",
        name="first",
    )
    save(
        grid,
        "import os; print(sorted(os.path.join(d, f) for d, _, fs in os.walk('inputs') for f in fs))",
        "list.py",
    )
    grid("run", "--follow", "--name", "all", "--input", "first-exp0", "list.py")
    grid("run", "--follow", "--name", "part", "--input", "first-exp0:out", "list.py")
    grid("run", "--follow", "--name", "file", "--input", "first-exp0:out/sub/c", "list.py")
    assert grid("logs", "all").stdout.strip() == str(
        ["inputs/first-exp0/a", "inputs/first-exp0/out/b", "inputs/first-exp0/out/sub/c"]
    )
    assert grid("logs", "part").stdout.strip() == str(
        ["inputs/first-exp0/out/b", "inputs/first-exp0/out/sub/c"]
    )
    assert grid("logs", "file").stdout.strip() == str(["inputs/first-exp0/out/sub/c"])
    assert grid.json("artifacts", "all", "part", "file") == [], "an input is no artifact"
    assert not (grid.cwd / "inputs").exists()


@pytest.mark.parametrize("parallel", [1, 2])
def test_parallel_bounds_how_many_run_at_once(grid: Grid, parallel: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    save(
        grid,
        f"""
        import os, time
        log = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, b"+"); time.sleep(0.5); os.write(log, b"-")
        """,
    )
    grid("run", "--follow", "--name", "p", "--parallel", str(parallel), "script.py", "--i", "range(4)")
    levels, level = set(), 0
    for mark in log.read_text():
        level += 1 if mark == "+" else -1
        levels.add(level)
    assert max(levels) == parallel


def test_cpus_bound_how_many_run_at_once(grid: Grid, tmp_path: Path) -> None:
    """Two that ask for all there is take turns, without --parallel; one that asks for more than there is runs alone."""
    save(grid, "import time; a = time.time(); time.sleep(0.5); print(a, time.time())")
    grid("run", "--follow", "--name", "c", "--cpus", "1000", "script.py", "--i", "[1,2]")
    first, second = sorted(
        [float(word) for word in grid("logs", f"c-exp{i}").stdout.split()] for i in range(2)
    )
    assert first[1] <= second[0]


# ------------------------------------------------------------------------------------------------------ many at once


@pytest.mark.parametrize("options", [(), ("--parallel", "1")], ids=["plain", "parallel-1"])
def test_a_run_inside_a_run(grid: Grid, options: tuple[str, ...]) -> None:
    """The inner one is executed by the same engine while the outer one waits for it, and is captured by itself only."""
    save(grid, "open('inner.txt', 'w').write('i')", "inner.py")
    words = ["grid", "run", "--follow", "--name", "inner", *options, "inner.py"]
    one = ran(
        grid,
        f"import subprocess; open('outer.txt', 'w').write('o'); subprocess.run({words!r}, check=True)",
        options=options,
        name="outer",
    )
    assert (one["state"], one["reason"]) == ("completed", None)
    assert grid.finished("inner")[0]["state"] == "completed"
    assert downloaded(grid, "inner-exp0") == {b"inner.txt": b"i"}
    assert downloaded(grid, "outer-exp0") == {b"outer.txt": b"o"}
    strays = [path for path, each in listed(grid, "outer").items() if each["state"] != "ignored"]
    assert strays == ["outer.txt"]


# ---------------------------------------------------------------------------------------- odd places to be started in


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(grid: Grid, closed: str) -> None:
    """Nothing of ours takes the place of a stream that is not there, and what was meant for it goes nowhere else."""
    command = f"exec {grid.command[0]} run --follow --name quiet {save(grid, 'print(1)')} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=grid.cwd, env=grid.env, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "1\nquiet\n")
    assert done.stderr.startswith("" if "2>&-" in closed else "Run submitted!")
    assert grid.finished("quiet")[0]["state"] == "completed"


def test_a_reader_that_leaves(grid: Grid) -> None:
    """As with `| head -1`: no complaint, and the run goes on."""
    save(grid, "import time\nfor i in range(200): print('some words', i)\ntime.sleep(1); open('f', 'w')")
    command = f"{grid.command[0]} run --follow --name cut script.py | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=grid.cwd, env=grid.env, capture_output=True, text=True)
    assert done.stdout == "some words 0\n"
    assert "Traceback" not in done.stderr
    assert grid.finished("cut")[0]["state"] == "completed"


def test_words_and_variables_that_are_not_utf8(grid: Grid) -> None:
    text = "import os, sys; print(os.fsencode(sys.argv[1]), os.environb[b'ODD'])"
    script = save(grid, text, os.fsdecode(b"s \xff\n.py"))
    command: list[str | bytes] = [
        *grid.command,
        "run",
        "--follow",
        "--name",
        "odd",
        os.fsencode(script),
        b"a\xfeb",
    ]
    env = {**{os.fsencode(k): os.fsencode(v) for k, v in grid.env.items()}, b"ODD": b"\xff="}
    done = subprocess.run(command, cwd=grid.cwd, env=env, capture_output=True)
    assert done.stdout.startswith(b"b'a\\xfeb' b'\\xff='\n"), done
    assert grid.json("status", "odd")[0]["state"] == "completed"
    assert len(grid("status", "odd").stdout.splitlines()) == 2


def test_a_project_reached_through_a_symlink(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(grid.cwd)
    save(grid, "open('f', 'w').write('x')")
    grid("run", "--follow", "--name", "l", "script.py", cwd=tmp_path / "link")
    assert downloaded(grid, "l-exp0") == {b"f": b"x"}
    assert not (grid.cwd / "f").exists()


def test_a_busy_catalog_is_waited_for(grid: Grid) -> None:
    grid("status")
    other = sqlite3.connect(grid.home / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process = grid.start("run", "--follow", save(grid, "print(1)"))
    time.sleep(3)
    assert process.poll() is None
    other.execute("ROLLBACK")
    other.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


# ---------------------------------------------------------------------------------------------------------- aliases


def test_train_is_run_and_cancel_is_stop(grid: Grid) -> None:
    save(grid, SLEEPER)
    assert grid("train", "--name", "old", "script.py").last_line == "old"
    grid("cancel", "old")
    assert grid.finished("old")[0]["state"] == "stopped"


def test_a_script_of_a_few_milliseconds(grid: Grid) -> None:
    """Over before anybody has looked twice: still everything is there."""
    save(grid, "echo fast; echo x > made; mkdir d; echo y > d/other", "s.sh")
    assert submitted(grid, "", name="unused")  # the engine is awake by now
    names = [grid("run", "s.sh").last_line for _ in range(5)]
    for name in names:
        assert [each["state"] for each in grid.finished(name)] == ["completed"]
        assert downloaded(grid, f"{name}-exp0") == {b"made": b"x\n", b"d/other": b"y\n"}
        assert grid("logs", name).stdout == "fast\n"
