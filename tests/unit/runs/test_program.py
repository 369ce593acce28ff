import os
import sys
from pathlib import Path

import pytest

from gridkeep.errors import GridError, NotFound
from gridkeep.runs.program import Program, resolve


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    return folder


def make(path: Path, text: str = "", mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def found(project: Path, script: str, *, cwd: str = "", path: str | None = None) -> Program:
    environ = {"PATH": str(project.parent / "bin") if path is None else path}
    return resolve(script, cwd=os.path.join(project, cwd), root=str(project), environ=environ)


def test_python_of_the_submitters_path(project):
    make(project / "train.py")
    assert found(project, "train.py").argv == [sys.executable, "train.py"]
    python3 = make(project.parent / "bin" / "python3", mode=0o755)
    assert found(project, "train.py").argv == [str(python3), "train.py"]
    python = make(project.parent / "bin" / "python", mode=0o755)
    assert found(project, "train.py") == Program([str(python), "train.py"], inside="train.py")


def test_relative_entries_of_path_count_from_where_the_submitter_stands(project):
    python = make(project.parent / "bin" / "python", mode=0o755)
    make(project / "train.py")
    assert found(project, "train.py", path="../bin").argv[0] == f"{project}/../bin/python"
    assert os.path.samefile(found(project, "train.py", path="../bin").argv[0], python)


@pytest.mark.parametrize(
    ("first", "runner"),
    [
        ("#!/bin/sh", ["/bin/sh"]),
        ("#! /bin/sh -e -u ", ["/bin/sh", "-e -u"]),
        ("#!/usr/bin/env bash", ["/usr/bin/env", "bash"]),
    ],
)
def test_a_shell_script_by_its_first_line(project, first, runner):
    make(project / "go.sh", f"{first}\necho hi\n")
    assert found(project, "go.sh").argv == [*runner, "go.sh"]


def test_a_shell_script_without_one_is_run_by_sh(project):
    make(project / "go.sh", "echo hi\n")
    assert found(project, "go.sh").argv == ["/bin/sh", "go.sh"]
    shell = make(project.parent / "bin" / "sh", mode=0o755)
    assert found(project, "go.sh").argv == [str(shell), "go.sh"]


def test_a_shell_script_that_asks_for_what_is_not_there(project):
    make(project / "go.sh", "#!/no/such/shell\n")
    with pytest.raises(NotFound, match="/no/such/shell does not exist"):
        found(project, "go.sh")


def test_a_command_of_path_wins_over_a_file_here(project):
    tool = make(project.parent / "bin" / "tool", mode=0o755)
    make(project / "tool", mode=0o755)
    assert found(project, "tool") == Program([str(tool)])
    assert found(project, "./tool") == Program(["./tool"], inside="tool")


def test_an_executable_by_its_path(project):
    make(project / "tool", mode=0o755)
    assert found(project, "tool").argv == ["./tool"]
    assert found(project, f"{project}/tool").argv == ["./tool"]
    assert found(project, "../tool", cwd="sub") == Program(["../tool"], inside="tool")


def test_a_script_inside_the_root_is_named_from_where_it_starts(project):
    make(project / "sub" / "train.py")
    assert found(project, f"{project}/sub/train.py", cwd="sub").argv[1:] == ["train.py"]
    assert found(project, "sub/../sub/train.py").argv[1:] == ["sub/train.py"]
    assert found(project, "../sub/train.py", cwd="sub").inside == "sub/train.py"


def test_a_script_outside_the_root_is_named_absolutely(project):
    outside = make(project.parent / "other.py")
    assert found(project, "../other.py") == Program([sys.executable, str(outside)])
    (project / "link").symlink_to(project.parent)
    assert found(project, "link/other.py").argv[1:] == [str(outside)]


def test_a_link_in_the_root_is_run_from_the_copy(project):
    outside = make(project.parent / "other.py")
    (project / "link.py").symlink_to(outside)
    assert found(project, "link.py") == Program([sys.executable, "link.py"], inside="link.py")


@pytest.mark.parametrize("name", ["a b.py", "new\nline.py", "\udcff\udc80.py", "'\"$x.py", "é.py"])
def test_any_name(project, name):
    make(project / name)
    assert found(project, name).argv[1:] == [name]


def test_a_name_like_an_option_stays_a_name(project):
    make(project / "-c.py")
    assert found(project, "-c.py").argv[1:] == ["./-c.py"]


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        ("trian.py", "Did you mean train.py?"),
        ("sub/modle.py", "Did you mean sub/model.py?"),
        ("toll", "Did you mean tool?"),
        ("zzz.py", "Name a .py"),
        ("", "Name a .py"),
        ("no/such/place", "Name a .py"),
    ],
)
def test_what_is_missing_is_said_with_what_may_be_meant(project, script, hint):
    make(project / "train.py")
    make(project / "sub" / "model.py")
    make(project.parent / "bin" / "tool", mode=0o755)
    with pytest.raises(NotFound) as caught:
        found(project, script)
    assert caught.value.message == f"{script} does not exist"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_a_folder_and_a_file_that_cannot_be_run(project):
    make(project / "notes.txt")
    with pytest.raises(GridError, match="is a folder"):
        found(project, "sub")
    with pytest.raises(GridError, match="not executable"):
        found(project, "./notes.txt")
    with pytest.raises(GridError, match="not executable"):
        found(project, "notes.txt")
