"""Events of real folders: what is told, by which name, and what becomes of a source that fails."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridkeep.capture import watch as module
from gridkeep.capture.watch import Watch


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    """Watches folders; comes back when their changes are told."""
    begun = []

    def starter(*folders: Path, sees: bool = True) -> Watch:
        watch = Watch([os.fsencode(folder) for folder in folders], os.fsencode(tmp_path / "own"))
        begun.append(watch)
        assert watch.catch_up(20) is sees
        return watch

    yield starter
    for watch in begun:
        watch.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/deep").mkdir(parents=True)
    return tmp_path / "tree"


def told(watch: Watch, tree: Path) -> set[str]:
    assert watch.catch_up(20)
    return {os.fsdecode(os.path.relpath(path, os.fsencode(tree))) for path in watch.changes()}


def test_whatever_happens_is_told_once(start, tree):
    (tree / "there").write_text("x")
    watch = start(tree)
    watch.changes()
    (tree / "made").write_text("x")
    (tree / "gone").write_text("x")
    (tree / "gone").unlink()
    with open(tree / "there", "a") as file:
        file.write("more")
    (tree / "deep/new").write_text("x")
    assert told(watch, tree) == {"made", "gone", "there", "deep/new"}
    assert watch.changes() == set()
    (tree / "made").rename(tree / "deep/moved")
    assert told(watch, tree) == {"made", "deep/moved"}
    assert watch.trouble is None


def test_a_new_folder_is_watched(start, tree):
    watch = start(tree)
    (tree / "new").mkdir()
    assert told(watch, tree) >= {"new"}
    (tree / "new/file").write_text("x")
    assert told(watch, tree) == {"new/file"}


def test_to_catch_up_is_to_have_all_that_was_before(start, tree):
    watch = start(tree)
    for number in range(20):
        name = f"deep/{number}"
        (tree / name).write_text("x")
        (tree / name).unlink()
        assert name in told(watch, tree)


def test_what_is_reached_through_a_link_has_its_own_name(start, tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "link").symlink_to(outside)
    watch = start(tree, outside)
    (tree / "link/file").write_text("x")
    assert watch.catch_up(20)
    assert watch.changes() == {os.fsencode(outside / "file")}


def test_a_name_that_cannot_be_told_stops_it_for_a_moment(start, tree):
    watch = start(tree)
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_text("x")
    deadline = time.monotonic() + 20
    while watch.trouble is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "not UTF-8" in watch.trouble
    assert watch.catch_up(20)
    (tree / "after").write_text("x")
    assert told(watch, tree) == {"after"}


def test_without_watchfiles_it_sees_nothing_and_says_so(start, tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    watch = start(tree, sees=False)
    assert watch.trouble == "watchfiles is not installed"
    (tree / "file").write_text("x")
    assert watch.changes() == set()


def test_a_limit_of_the_system_ends_it_and_is_no_error(start, tree, monkeypatch):
    """Its limits hold for everybody on the machine: not to be lowered here. This is what watchfiles raises then."""

    def refuse(*folders, **options):
        raise OSError("OS file watch limit reached. about [...]")
        yield

    monkeypatch.setattr("watchfiles.watch", refuse)
    watch = start(tree, sees=False)
    assert watch.trouble == "events came to an end: OS file watch limit reached. about [...]"


def test_so_many_folders_that_others_would_have_none_left(start, tree, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FOLDERS", 5)
    for number in range(3):
        (tree / f"{number}").mkdir()
    (tree / "loop").symlink_to(tree)
    start(tree).close()
    (tree / "one more").mkdir()
    watch = start(tree, sees=False)
    assert watch.trouble == "there are more than 5 folders to watch"


def test_more_than_it_keeps_is_said(start, tree, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PATHS", 10)
    watch = start(tree)
    for number in range(30):
        (tree / f"{number}").write_text("x")
    assert watch.catch_up(20)
    assert len(watch.changes()) <= 10
    assert watch.trouble == "more changed at once than could be told"


def test_a_watched_folder_that_goes_is_no_error(start, tree):
    watch = start(tree)
    shutil.rmtree(tree)
    assert watch.catch_up(20)
    assert os.fsencode(tree / "deep") in watch.changes()
