"""`grid logs`: what an experiment printed, to the last byte, however it ended."""

from __future__ import annotations

from tests.e2e.support import ran, save, submitted
from tests.support import Grid, wait_for


def test_the_last_line_is_there_after_a_crash(grid: Grid) -> None:
    save(grid, "import os\nfor i in range(5000): print('line', i)\nprint('last', end='')\nos.abort()")
    grid("run", "--follow", "--name", "crash", "script.py", code=1)
    expected = "".join(f"line {i}\n" for i in range(5000)) + "last"
    assert grid("logs", "crash-exp0").stdout == expected


def test_bytes_come_back_as_they_were(grid: Grid) -> None:
    ran(grid, r"import sys; sys.stdout.buffer.write(b'\xff\x00\x1b[31m\r\n\xe2\x82')", name="raw")
    assert grid("logs", "raw").stdout_bytes == b"\xff\x00\x1b[31m\r\n\xe2\x82"


def test_a_run_means_its_first_experiment(grid: Grid) -> None:
    save(grid, "import sys; print(sys.argv[2])")
    grid("run", "--follow", "--name", "s", "script.py", "--x", "['first','second']")
    assert grid("logs", "s").stdout == "first\n"
    assert grid("logs", "s-exp1").stdout == "second\n"


def test_last_lines(grid: Grid) -> None:
    ran(grid, "for i in range(10): print(i)", name="ten")
    assert grid("logs", "ten", "-l", "3").stdout == "7\n8\n9\n"
    assert grid("logs", "-l", "0", "ten").stdout == ""
    assert grid("logs", "ten", "-l", "99").stdout == "".join(f"{i}\n" for i in range(10))


def test_while_it_runs_and_following_it(grid: Grid, tmp_path: object) -> None:
    gate = f"{tmp_path}/gate"
    submitted(
        grid,
        f"""
        import os, time
        print("before", flush=True)
        while not os.path.exists({gate!r}):
            time.sleep(0.02)
        print("after")
        """,
        name="live",
    )
    wait_for(lambda: grid("logs", "live").stdout == "before\n" or None)
    follower = grid.start("logs", "-f", "live-exp0")
    last = grid.start("logs", "-f", "-l", "0", "live-exp0")
    assert follower.stdout
    assert follower.stdout.readline() == b"before\n"
    with open(gate, "w"):
        pass
    assert follower.communicate(timeout=30)[0] == b"after\n"
    assert last.communicate(timeout=30)[0] in (b"after\n", b"")
    assert (follower.returncode, last.returncode) == (0, 0)


def test_nothing_printed_and_not_begun(grid: Grid) -> None:
    ran(grid, "", name="silent")
    assert grid("logs", "silent").stdout == ""
    save(grid, "import time; time.sleep(60)")
    grid("run", "--name", "q", "--parallel", "1", "script.py", "--x", "[1,2]")
    done = grid("logs", "q-exp1")
    assert done.stdout == ""
    assert "q-exp1 is queued and has printed nothing yet." in done.stderr


def test_a_reader_that_leaves_is_no_error(grid: Grid) -> None:
    ran(grid, "for i in range(100_000): print('some words of a line', i)", name="long")
    process = grid.start("logs", "long")
    assert process.stdout and process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(20)
