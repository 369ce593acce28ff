import json
import os
import pty
import subprocess
import sys

import pytest

from tests.unit.made import keep, make_run


def test_says_what_will_go_and_what_went(context, call):
    _, [first, _] = make_run(context, "my-run", ["completed", "failed"])
    keep(context, first, b"a", b"x" * 1500)
    answer = call("delete", "run", "my-run", "--yes")
    assert answer.code == 0
    assert answer.err == "This deletes 2 experiments of my-run: 1 file, 1.5 kB, with logs and records.\n"
    assert answer.out == "Deleted 2 experiments, 1 object, 1.5 kB freed.\n"
    assert call("status", "my-run").code == 1


def test_json(context, call):
    _, [one] = make_run(context, "my-run", ["completed"])
    keep(context, one, b"a", b"x" * 1500)
    answer = call("delete", "experiment", "my-run-exp0", "--yes", "--json")
    assert json.loads(answer.out) == {"experiments": ["my-run-exp0"], "objects": 1, "bytes": 1500}


def test_active_ones_are_refused_before_anything_is_asked(context, call):
    make_run(context, "my-run", ["queued", "completed"])
    answer = call("delete", "my-run", "--yes")
    assert answer.code == 1
    assert answer.err.startswith("Error: my-run-exp0 is still queued: what is active is not deleted.\nHint: ")
    assert call("delete", "my-run", "--yes", "--force").code == 0
    assert context.catalog.run("my-run") is None


def test_nobody_there_to_be_asked(context, home):
    make_run(context, "my-run", ["completed"])
    done = subprocess.run(
        [sys.executable, "-m", "gridkeep.cli.main", "delete", "run", "my-run"],
        env={**os.environ, "GRIDKEEP_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Hint: Say `--yes`" in done.stderr
    assert context.catalog.run("my-run") is not None


@pytest.mark.parametrize(
    ("typed", "code", "gone"), [(b"y\n", 0, True), (b"n\n", 1, False), (b"\n", 1, False)]
)
def test_asks_on_a_terminal(context, home, typed, code, gone):
    make_run(context, "my-run", ["completed"])
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-m", "gridkeep.cli.main", "delete", "run", "my-run"],
            env={**os.environ, "GRIDKEEP_HOME": str(home)},
            stdin=theirs,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code
    assert "Delete them for good? [y/N]" in done.stderr
    assert (context.catalog.run("my-run") is None) == gone
