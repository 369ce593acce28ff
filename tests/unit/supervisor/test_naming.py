"""Under which name a file is listed, or by which rule it is not kept."""

from __future__ import annotations

import pytest

from gridkeep.supervisor.naming import Naming, Place

HOME = b"/home/u/.gridkeep"
TREE = HOME + b"/work/01"


def naming(tree: bytes = TREE, exclude: tuple[str, ...] = ()) -> Naming:
    return Naming(tree, {b"/home/u/project/data": b"data"}, HOME, b"/home/u", exclude)


@pytest.mark.parametrize(
    ("path", "listed", "rule"),
    [
        (TREE + b"/a.txt", b"a.txt", None),
        (TREE + b"/out/deep/b", b"out/deep/b", None),
        (TREE + b"/_abs/x", b"_abs_work/x", None),
        (TREE + b"/pkg/__pycache__/m.pyc", b"pkg/__pycache__/m.pyc", "__pycache__"),
        (TREE + b"/.git/index", b".git/index", ".git"),
        (b"/tmp/x", b"_abs/tmp/x", None),
        (b"/dev/shm/x", b"_abs/dev/shm/x", None),
        (b"/dev/tty9", b"_abs/dev/tty9", "system"),
        (b"/sys/x", b"_abs/sys/x", "system"),
        (b"/home/u/.ssh/id", b"_abs/home/u/.ssh/id", "private"),
        (b"/home/u/.netrc", b"_abs/home/u/.netrc", "private"),
        (b"/home/u/.netrc-notes", b"_abs/home/u/.netrc-notes", None),
        (b"/home/u/.config/gcloud/creds", b"_abs/home/u/.config/gcloud/creds", "private"),
        (b"/home/u/.cache/pip/x", b"_abs/home/u/.cache/pip/x", "cache"),
        (b"/home/u/.cached", b"_abs/home/u/.cached", None),
        (HOME + b"/catalog.db", b"_abs/home/u/.gridkeep/catalog.db", "home"),
        (HOME + b"/work/02/other", b"_abs/home/u/.gridkeep/work/02/other", "home"),
        (HOME + b"-not", b"_abs/home/u/.gridkeep-not", None),
        (b"/tmp/\xff\n", b"_abs/tmp/\xff\n", None),
    ],
)
def test_places(path, listed, rule):
    assert naming().place(path) == Place(listed, rule)


@pytest.mark.parametrize(
    "path",
    [TREE + b"/a", TREE + b"/out/b", b"/tmp/x/y", b"/home/u/project/data/c/d", b"/home/u/project/data"],
)
def test_the_way_back(path):
    assert naming().path_of(naming().place(path).listed) == path


def test_what_lies_behind_a_linked_entry_has_its_name_in_the_tree_and_a_note():
    place = naming().place(b"/home/u/project/data/set/x.bin")
    assert (place.listed, place.rule) == (b"data/set/x.bin", None)
    assert place.note and "share" in place.note


def test_a_run_in_place_does_not_keep_a_home_that_lies_in_its_tree():
    place = naming(tree=b"/home/u").place(HOME + b"/store/x")
    assert place.rule == "home"
    assert naming(tree=b"/home/u").place(b"/home/u/y") == Place(b"y")


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (TREE + b"/x.tmp", "exclude *.tmp"),
        (TREE + b"/keep.tmp", None),
        (TREE + b"/logs/deep/x", "exclude logs/"),
        (b"/var/x.tmp", "exclude *.tmp"),
        (TREE + b"/x.txt", None),
    ],
)
def test_exclude_has_git_s_syntax(path, rule):
    assert naming(exclude=("*.tmp", "logs/", "!keep.tmp")).place(path).rule == rule
