import os
import socket
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridkeep.errors import ConfigError, GridError, HomeError
from gridkeep.settings import Settings
from gridkeep.supervisor.copying import remove_tree
from gridkeep.supervisor.workcopy import WorkingCopy, clone, locate, survey, take


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "work").mkdir(parents=True)
    return folder


def write(path: Path, size: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def git(folder: Path, *args: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True)


def checkout(folder: Path, ignore: str = "") -> Path:
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text(ignore)
    return folder


def copied(cwd: Path, home: Path, **changes: Any) -> tuple[Path, WorkingCopy]:
    dest = home / "work" / "copy"
    root, workdir = locate(str(cwd), str(home))
    taken = take(survey(root, workdir, replace(Settings(), **changes), str(home)), str(dest))
    return dest, taken


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -------------------------------------------------------------------------------------------------------- where


def test_the_root_is_the_checkout_around(project, home):
    checkout(project)
    (project / "a" / "b").mkdir(parents=True)
    assert locate(str(project / "a" / "b"), str(home)) == (str(project), "a/b")
    assert locate(str(project), str(home)) == (str(project), "")


def test_without_a_checkout_it_is_the_current_folder(project, home):
    (project / "a").mkdir()
    assert locate(str(project / "a"), str(home)) == (str(project / "a"), "")


def test_a_worktree_is_a_checkout(project, home, tmp_path):
    checkout(project)
    git(project, "commit", "-q", "--allow-empty", "-m", "x")
    git(project, "worktree", "add", "-q", str(tmp_path / "tree"))
    (tmp_path / "tree" / "sub").mkdir()
    assert locate(str(tmp_path / "tree" / "sub"), str(home)) == (str(tmp_path / "tree"), "sub")


def test_a_folder_that_its_checkout_ignores_is_its_own_root(project, home):
    checkout(project, "scratch/\n")
    (project / "scratch" / "x").mkdir(parents=True)
    assert locate(str(project / "scratch" / "x"), str(home)) == (str(project / "scratch" / "x"), "")


def test_a_checkout_around_the_home_does_not_count_inside_it(project):
    checkout(project)
    inner = project / ".gridkeep" / "work" / "ulid"
    inner.mkdir(parents=True)
    assert locate(str(inner), str(project / ".gridkeep")) == (str(inner), "")


def test_a_repository_that_the_environment_names_is_not_meant(project, home, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    checkout(tmp_path / "other", "*\n")
    checkout(project, "*.big\n")
    write(project / "a.big", 100)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    _, taken = copied(project, home, link_file=10)
    assert taken.linked == ["a.big"]


# ------------------------------------------------------------------------------------------------- what is taken


def test_all_is_copied_with_modes_and_times(project, home):
    write(project / "run.sh").chmod(0o750)
    write(project / "sub" / "locked" / "data").chmod(0o400)
    (project / "empty").mkdir()
    (project / "sub" / "locked").chmod(0o555)
    for path in ("run.sh", "sub/locked", "sub"):
        os.utime(project / path, ns=(10**18, 10**18 + 123456789))
    dest, taken = copied(project / ".", home)
    assert tree(dest) == tree(project)
    for path in tree(project):
        before, after = (project / path).stat(), (dest / path).stat()
        assert stat.S_IMODE(after.st_mode) == stat.S_IMODE(before.st_mode)
        assert after.st_mtime_ns == before.st_mtime_ns
        assert after.st_ino != before.st_ino
    assert (taken.files, taken.bytes, taken.linked, taken.warnings) == (2, 10, [], [])
    remove_tree(str(dest))
    assert not dest.exists()


def test_a_copy_does_not_follow_its_source(project, home):
    os.link(write(project / "a"), project / "b")
    dest, _ = copied(project, home)
    (project / "a").write_text("changed")
    assert (dest / "a").read_text() == (dest / "b").read_text() == "xxxxx"
    assert (dest / "a").stat().st_nlink == 1


@pytest.mark.parametrize(
    "name", ["a b", "new\nline", "\udcff\udc80", "-rf", "é", "*", "n" * 255, "back\\slash"]
)
def test_any_name_tracked_or_ignored(project, home, name):
    checkout(project, "ignored/*\n")
    write(project / name)
    write(project / "ignored" / name, 100)
    write(project / "ignored" / "small")
    dest, taken = copied(project, home, link_file=10)
    assert (dest / name).read_bytes() == b"xxxxx"
    assert taken.linked == [f"ignored/{name}"]
    assert (dest / "ignored" / name).readlink() == project / "ignored" / name


def test_symlinks_stay_symlinks(project, home, tmp_path):
    write(tmp_path / "outside" / "data")
    write(project / "sub" / "file")
    (project / "sub" / "inner").symlink_to("../sub/file")
    (project / "sub" / "leaves").symlink_to("../../outside/data")
    (project / "absolute").symlink_to(tmp_path / "outside")
    (project / "dangling").symlink_to("nowhere")
    (project / "loop").symlink_to("loop")
    dest, _ = copied(project, home)
    assert os.readlink(dest / "sub" / "inner") == "../sub/file"
    assert (dest / "sub" / "inner").resolve() == dest / "sub" / "file"
    assert (dest / "sub" / "leaves").resolve() == tmp_path / "outside" / "data"
    assert os.readlink(dest / "absolute") == str(tmp_path / "outside")
    assert os.readlink(dest / "dangling") == "nowhere"
    assert os.readlink(dest / "loop") == "loop"


def test_special_files_are_nothing_to_copy(project, home):
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(project / "socket"))
        write(project / "file")
        dest, _ = copied(project, home)
    assert tree(dest) == {"file"}


def test_sparse_files_stay_sparse(project, home):
    with open(project / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(500_000_000)
        file.write(b"end")
        file.truncate(800_000_000)
    dest, _ = copied(project, home)
    info = (dest / "sparse").stat()
    assert info.st_size == 800_000_000
    assert info.st_blocks * 512 < 1_000_000
    with open(dest / "sparse", "rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(500_000_000)
        assert file.read(4) == b"end\0"


def test_git_itself_is_left_out_everywhere(project, home):
    checkout(project)
    checkout(write(project / "vendor" / "code").parent)
    (write(project / "module" / "code").parent / ".git").write_text("gitdir: ../elsewhere\n")
    dest, _ = copied(project, home)
    assert not [path for path in tree(dest) if ".git" in path.split("/")]
    assert {"vendor/code", "module/code"} <= tree(dest)


def test_the_home_inside_the_project_is_left_out(project):
    home = project / "state" / "home"
    (home / "work").mkdir(parents=True)
    write(project / "script.py")
    dest, _ = copied(project, home)
    assert tree(dest) == {"script.py", "state"}


def test_the_home_itself_is_no_project(home):
    with pytest.raises(GridError, match="own home"):
        survey(str(home), "", Settings(), str(home))


def test_unreadable_files_are_named_and_not_fatal():
    """Root reads everything, so it becomes someone else, in a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "home" / "work").mkdir(parents=True)
        write(folder / "project" / "secret").chmod(0)
        write(folder / "project" / "closed" / "in").parent.chmod(0)
        write(folder / "project" / "open")
        folder.chmod(0o755)
        (folder / "home" / "work").chmod(0o777)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            dest, taken = copied(folder / "project", folder / "home")
            assert tree(dest) == {"open", "closed"}
            assert [warning.split(" ")[0] for warning in taken.warnings] == ["closed/", "secret"]
            remove_tree(str(dest))
        finally:
            os.seteuid(was)
            (folder / "project" / "closed").chmod(0o700)


# ------------------------------------------------------------------------------------------------- what git ignores


def test_small_things_that_git_ignores_are_copied(project, home):
    checkout(project, "outputs/\n*.log\n")
    write(project / "outputs" / "model.bin", 5000)
    write(project / "a.log")
    dest, taken = copied(project, home)
    assert taken.linked == []
    assert (dest / "outputs" / "model.bin").stat().st_size == 5000
    assert not (dest / "outputs").is_symlink()


def test_large_files_that_git_ignores_are_linked(project, home):
    checkout(project, "*.bin\n")
    for name in ("big.bin", "data/big.bin", "code/big.bin"):
        with open(write(project / name), "ab") as file:
            file.truncate(11_000_000)
    write(project / "code" / "main.py")
    write(project / "small.bin")
    with open(write(project / "tracked.dat"), "ab") as file:
        file.truncate(11_000_000)
    dest, taken = copied(project, home)
    assert taken.linked == ["big.bin", "code/big.bin", "data/big.bin"]
    assert (dest / "big.bin").readlink() == project / "big.bin"
    assert not (dest / "tracked.dat").is_symlink()
    assert not (dest / "small.bin").is_symlink()


def test_a_tracked_file_is_not_ignored_whatever_the_rules_say(project, home):
    checkout(project, "*.bin\n")
    write(project / "kept.bin", 100)
    git(project, "add", "-f", "kept.bin")
    _, taken = copied(project, home, link_file=10)
    assert taken.linked == []


@pytest.mark.parametrize("name", ["venv", "node_modules", "deps/node_modules", ".venv"])
def test_environments_are_linked_whole(project, home, name):
    checkout(project, f"{name}\n")
    write(project / name / "pyvenv.cfg" if "venv" in name else project / name / "left-pad" / "index.js")
    write(project / "deps" / "keep")
    dest, taken = copied(project, home)
    assert taken.linked == [name]
    assert (dest / name).readlink() == project / name


def test_a_folder_of_many_files_is_linked_whole(project, home):
    checkout(project, "data/\nfew/\n")
    for number in range(3000):
        write(project / "data" / f"{number % 7}" / f"{number}")
    for number in range(1000):
        write(project / "few" / str(number))
    dest, taken = copied(project, home)
    assert taken.linked == ["data"]
    assert len(list((dest / "data").rglob("*"))) == 3007
    assert not (dest / "few").is_symlink()


def test_a_folder_of_many_bytes_is_linked_whole(project, home):
    checkout(project, "data/\nless/\n")
    with open(write(project / "data" / "deep" / "sparse"), "ab") as file:
        file.truncate(10**12)
    with open(write(project / "less" / "sparse"), "ab") as file:
        file.truncate(90_000_000)
    dest, taken = copied(project, home, copy_warn=10**9)
    assert taken.linked == ["data"]
    assert not (dest / "less" / "sparse").is_symlink()


def test_a_file_beside_ignored_ones_is_not_ignored_with_them(project, home):
    checkout(project, "*.pyc\n")
    write(project / "new" / "code.py", 100)
    write(project / "new" / "code.pyc", 100)
    _, taken = copied(project, home, link_file=10, link_folder=10)
    assert taken.linked == ["new/code.pyc"]


def test_an_environment_inside_an_ignored_folder_is_linked(project, home):
    checkout(project, "build/\n")
    write(project / "build" / "env" / "pyvenv.cfg")
    write(project / "build" / "out")
    _, taken = copied(project, home)
    assert taken.linked == ["build/env"]


def test_a_repository_inside_has_its_own_rules(project, home):
    checkout(project)
    checkout(write(project / "vendor" / "code").parent, "big\n")
    write(project / "vendor" / "big", 100)
    _, taken = copied(project, home, link_file=10)
    assert taken.linked == ["vendor/big"]


def test_the_script_never_starts_in_a_link(project, home):
    checkout(project, "*.bin\n")
    for number in range(5):
        write(project / "data" / f"{number}.bin")
    dest, taken = copied(project / "data", home, link_folder_files=2)
    assert taken.workdir == "data"
    assert taken.linked == []
    assert not (dest / "data").is_symlink()


def test_without_the_program_git_nothing_is_ignored(project, home, monkeypatch):
    checkout(project, "*.bin\n")
    write(project / "a.bin", 100)
    monkeypatch.setenv("PATH", "")
    dest, taken = copied(project, home, link_file=10)
    assert taken.linked == []
    assert "What git ignores is not known" in taken.warnings[0]
    assert (dest / "a.bin").exists()


# ---------------------------------------------------------------------------------------------------- .gridignore


def test_gridignore_leaves_out_in_gits_syntax(project, home):
    (project / ".gridignore").write_text(
        "# a comment\n/top\n*.tmp\n!keep.tmp\ndata/*\n!data/needed\nbuild/\n"
    )
    kept = ["sub/top", "keep.tmp", "data/needed", "notbuild", ".gridignore"]
    for name in [*kept[:-1], "top", "a.tmp", "sub/b.tmp", "data/other", "build/x", "sub/build/y"]:
        write(project / name)
    dest, _ = copied(project, home)
    assert {path for path in tree(dest) if (dest / path).is_file()} == set(kept)


def test_a_gridignore_further_down_has_the_last_word_there(project, home):
    (project / ".gridignore").write_text("*.tmp\n")
    write(project / "sub" / "a.tmp")
    write(project / "sub" / "b")
    (project / "sub" / ".gridignore").write_text("!a.tmp\n/b\n")
    write(project / "c.tmp")
    dest, _ = copied(project, home)
    assert tree(dest) == {".gridignore", "sub", "sub/.gridignore", "sub/a.tmp"}


def test_a_gridignore_that_cannot_be_read(project, home):
    (project / ".gridignore").write_text("a\n!\n")
    with pytest.raises(ConfigError, match="gridignore"):
        copied(project, home)


def test_the_current_folder_must_not_be_left_out(project, home):
    checkout(project)
    (project / "sub").mkdir()
    (project / ".gridignore").write_text("sub\n")
    with pytest.raises(GridError, match="The current folder, sub, is left out"):
        copied(project / "sub", home)


# --------------------------------------------------------------------------------------------------------- limits


def test_over_the_warning_it_says_what_is_large(project, home):
    write(project / "a" / "b" / "large", 700)
    write(project / "small", 10)
    _, taken = copied(project, home, copy_warn=500)
    assert "710 B" in taken.warnings[0]
    assert "a/b/large (700 B), small (10 B)" in taken.warnings[0]


def test_over_the_limit_it_refuses_before_it_copies(project, home):
    with open(write(project / "data" / "huge"), "ab") as file:
        file.truncate(3 * 10**9)
    write(project / "other" / "x", 700)
    with pytest.raises(
        GridError, match=r"3\.0 GB, and 2\.0 GB is the limit; .* data/huge \(3\.0 GB\)"
    ) as caught:
        copied(project, home)
    assert ".gridignore" in str(caught.value.hint)
    assert tree(home) == {"work"}


def test_what_is_linked_or_left_out_does_not_count(project, home):
    checkout(project, "*.bin\n")
    write(project / "a.bin", 1000)
    write(project / "b.dat", 1000)
    (project / ".gridignore").write_text("*.dat\n")
    _, taken = copied(project, home, copy_limit=100, link_file=500)
    assert taken.bytes < 100


# ----------------------------------------------------------------------------------------------- whole or not at all


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    """In a mount namespace of its own, where the home is a disk of 1 MB."""
    home, project = str(tmp_path / "home"), str(tmp_path / "project")
    code = f"""
import os, subprocess
from gridkeep.errors import HomeError
from gridkeep.settings import Settings
from gridkeep.supervisor.workcopy import survey, take
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", {home!r}], check=True)
os.mkdir({home + "/work"!r})
try:
    take(survey({project!r}, "", Settings(), {home!r}), {home + "/work/ulid"!r})
except HomeError as error:
    print(error.message, os.listdir({home + "/work"!r}))
"""
    (tmp_path / "home").mkdir()
    write(tmp_path / "project" / "small")
    write(tmp_path / "project" / "z", 3_000_000)
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run([*namespace, sys.executable, "-c", code], capture_output=True, text=True)
    assert "A working copy of 3.0 MB cannot be made" in done.stdout, done.stderr
    assert "No space left on device. []" in done.stdout


def test_what_a_crash_left_behind_is_replaced(project, home):
    write(project / "a")
    write(home / "work" / "copy.partial" / "old" / "rest").parent.chmod(0o500)
    dest, _ = copied(project, home)
    assert tree(home / "work") == {"copy", "copy/a"}
    assert tree(dest) == {"a"}


def test_a_clone_is_the_same_and_its_own(project, home):
    checkout(project, "big\nvenv\n")
    write(project / "venv" / "pyvenv.cfg")
    write(project / "sub" / "a").chmod(0o555)
    write(project / ".gridignore.example")
    (project / "sub" / "link").symlink_to("a")
    (project / "sub").chmod(0o555)
    source, _ = copied(project, home)
    (source / ".gridignore").write_text("*\n")  # rules were for taking; a clone has everything
    dest = home / "work" / "exp"
    clone(str(source), str(dest))
    assert tree(dest) == tree(source)
    assert (dest / "venv").readlink() == project / "venv"
    assert (dest / "sub" / "link").resolve() == dest / "sub" / "a"
    assert stat.S_IMODE((dest / "sub").stat().st_mode) == 0o555
    assert (dest / "sub" / "a").stat().st_ino != (source / "sub" / "a").stat().st_ino
    (dest / "new").write_text("of this experiment")
    clone(str(source), str(dest))  # a supervisor that is started again
    assert (dest / "new").exists()
    with pytest.raises(HomeError, match="cannot be read"):
        clone(str(home / "work" / "gone"), str(home / "work" / "other"))
