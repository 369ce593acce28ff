"""Which files are looked through, and which are not the run's to begin with."""

from __future__ import annotations

import os
from pathlib import Path

from gridkeep.supervisor.trees import Trees, walk


def paths(trees: Trees, tmp_path: Path) -> set[str]:
    root = os.fsencode(tmp_path)
    return {os.fsdecode(os.path.relpath(path, root)) for path, _ in trees.walk()}


def make(tmp_path: Path, *names: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")


def test_a_copy_in_the_home_is_looked_through_and_a_home_in_the_project_is_not(tmp_path):
    make(tmp_path, "home/work/copy/file", "home/ledger", "project/file", "project/home/ledger")
    inside = Trees(os.fsencode(tmp_path / "home/work/copy"), os.fsencode(tmp_path / "home"))
    assert paths(inside, tmp_path) == {"home/work/copy/file"}
    assert inside.holds(os.fsencode(tmp_path / "home/work/copy/file"))
    assert not inside.holds(os.fsencode(tmp_path / "home/ledger"))
    around = Trees(os.fsencode(tmp_path / "project"), os.fsencode(tmp_path / "project/home"))
    assert paths(around, tmp_path) == {"project/file"}
    assert around.holds(os.fsencode(tmp_path / "project/home too"))
    assert not around.holds(os.fsencode(tmp_path / "project/home/ledger"))


def test_linked_folders_and_files_once_each(tmp_path):
    make(
        tmp_path,
        "copy/file",
        "project/outputs/a",
        "project/outputs/deep/b",
        "project/model.bin",
        "project/other",
    )
    trees = Trees(os.fsencode(tmp_path / "copy"), os.fsencode(tmp_path / "home"))
    linked = ["outputs/deep", "outputs", "model.bin", "gone"]
    trees.include([os.fsencode(tmp_path / "project" / name) for name in linked])
    found = [os.fsdecode(path) for path, _ in trees.walk()]
    assert len(found) == len(set(found))
    names = {"copy/file", "project/outputs/a", "project/outputs/deep/b", "project/model.bin"}
    assert paths(trees, tmp_path) == names
    assert all(trees.holds(os.fsencode(tmp_path / name)) for name in names)
    assert not trees.holds(os.fsencode(tmp_path / "project/other"))


def test_folders_if_they_are_asked_for(tmp_path):
    make(tmp_path, "a/b/c")
    found = {
        os.path.relpath(path, os.fsencode(tmp_path)) for path, _ in walk(os.fsencode(tmp_path), folders=True)
    }
    assert found == {b"a", b"a/b", b"a/b/c"}
