"""What the frame does whatever the command: help without imports, and words for everything that goes wrong."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gridkeep.cli.main import ALIASES, COMMANDS, LazyGroup, _unexpected, cli
from tests.unit.made import make_run

NAMES = [name for commands in COMMANDS.values() for name in commands]


def grid(*words, env=None, **how):
    how = {"capture_output": True, "timeout": 60} | how
    return subprocess.run(
        [sys.executable, "-m", "gridkeep.cli.main", *words], env={**os.environ, **(env or {})}, **how
    )


def test_help_imports_no_command_and_nothing_heavy():
    program = "import sys; from gridkeep.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stderr.split())
    own = {name for name in loaded if name.startswith("gridkeep.cli.")}
    assert own == {"gridkeep.cli.main", "gridkeep.cli.output", "gridkeep.cli.interrupt"}
    assert not loaded & {
        "rich",
        "sqlite3",
        "yaml",
        "pathspec",
        "gridkeep.runs",
        "gridkeep.stores",
        "gridkeep.catalog",
    }
    for name in NAMES:
        assert f"  {name} " in done.stdout


def test_status_imports_nothing_heavy(context, home):
    program = "import sys; from gridkeep.cli.main import main; main(['status']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not set(done.stderr.split()) & {"rich", "yaml", "pathspec", "asyncio", "http.client", "ssl"}


@pytest.mark.parametrize("name", [*NAMES, *ALIASES])
def test_every_name_has_its_command(name):
    command = cli.get_command(click.Context(cli), name)
    assert isinstance(command, click.Command)
    assert isinstance(cli, LazyGroup)


def test_version(call):
    answer = call("--version")
    assert (answer.code, answer.out) == (0, "grid, version 0.1.0\n")


def test_unknown_command_suggests_near_ones(call):
    answer = call("statu")
    assert (answer.code, answer.out) == (2, "")
    assert "There is no command `statu`. Did you mean `grid status`?" in answer.err


def test_wrong_usage_is_2_in_click_s_words(call):
    answer = call("status", "--nope")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Usage: grid status ")
    assert "No such option '--nope'." in answer.err


def test_fault_of_ours_is_two_lines_and_a_log(context, call):
    make_run(context, "my-run", ["completed"])
    with sqlite3.connect(context.home.catalog) as database:
        database.execute("UPDATE runs SET spec = 'no JSON'")
    database.close()
    answer = call("history")
    assert answer.code == 1
    assert answer.err.startswith(
        "Error: An unexpected JSONDecodeError ended this command.\nHint: Its details are in "
    )
    [log] = Path(context.home.log).glob("error-*.log")
    assert str(log) in answer.err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Traceback" in log.read_text()


def test_fault_of_ours_where_no_log_can_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDKEEP_HOME", str(tmp_path / "file" / "home"))
    assert _unexpected(ValueError("oh")) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Error: An unexpected ValueError ended this command."
    assert second.startswith("Hint: Its details could not be kept (Not a directory: ")


def test_home_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    done = grid("status", env={"GRIDKEEP_HOME": str(tmp_path / "file")})
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: The home ")
    assert b"\nHint: " in done.stderr


def test_full_disk_is_explained():
    with open("/dev/full", "w") as full:
        done = grid("--help", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, b"Error: There is no space left.")


def test_reader_that_leaves_early_ends_it_quietly(context, home):
    make_run(context, "my-run", ["completed"] * 3000)
    writer = subprocess.Popen(
        [sys.executable, "-m", "gridkeep.cli.main", "status", "my-run", "--json"],
        env={**os.environ, "GRIDKEEP_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout and writer.stderr
    writer.stdout.read(1)
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(30) == 1


def test_no_locale_and_no_utf8_are_no_crash(context, home):
    make_run(context, "my-run", ["running"], waiting_for="größe │ \udcff")
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "GRIDKEEP_HOME": str(home)}
    done = grid("status", "my-run", env=plain)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\\xf6\\xdfe" in done.stdout
    done = grid("status", b"\xff\xfe", env=plain)
    assert done.returncode == 1
    assert b"There is no Run named \\xff\\xfe." in done.stderr
    done = grid("status", "my-run", "--json", env=plain)
    assert "größe".encode() in done.stdout
