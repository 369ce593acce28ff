"""Names where a filesystem cannot hold them all: every path gets a place that is its own alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.runs.fitting import Habits, Names, Place, habits_of

FOLDING = Habits(folds=True)
WINDOWS = Habits(
    folds=True,
    refused=frozenset('<>:"|?*\\\n'),
    only_utf8=True,
    not_last=frozenset(". "),
    devices=True,
)
ASCII = Habits(only_ascii=True)

NAMES = st.sampled_from(
    [b"a", b"A", b"b", b"a~2", b"A~2", b"a~3", b"a.", b"a%2E", b"a:", b"a%3A", b"aux", b"Aux.c", b"\xc3\xa9"]
    + [b"e\xcc\x81", b"\xff", b"%FF", b".x", b".X", b".x~2", b"n" * 255, b"N" * 255]
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)


def places(habits: Habits, *paths: bytes) -> dict[bytes, bytes]:
    names = Names(habits).find(sorted(paths))
    return {path: names.place(path).path for path in paths}


@given(st.sets(PATHS, max_size=25), st.sampled_from([FOLDING, WINDOWS, ASCII]))
def test_every_path_has_a_place_of_its_own(paths: set[bytes], habits: Habits) -> None:
    # No file is at once a folder, as on the disk that they come from.
    files = {path for path in paths if not any(other.startswith(path + b"/") for other in paths)}
    found = places(habits, *files)
    taken = [habits.folded(place) for place in found.values()]
    assert len(set(taken)) == len(files)
    folders = {taken[:at] for taken in taken for at in range(len(taken)) if taken[at : at + 1] == b"/"}
    assert folders.isdisjoint(taken), "a file where a folder must be"
    assert all(len(name) <= 255 for place in found.values() for name in place.split(b"/"))
    assert all(habits.fitted(place) == place for place in found.values()), "refused"
    assert places(habits, *found) == found, "another time, other places"


def test_the_first_keeps_its_name_and_no_other_name_is_taken() -> None:
    assert places(FOLDING, b"a.txt", b"A.txt", b"a~2.txt", b"d/x", b"D/X", b"D/y") == {
        b"A.txt": b"A.txt",
        b"a.txt": b"a~3.txt",
        b"a~2.txt": b"a~2.txt",
        b"D/X": b"D/X",
        b"d/x": b"d/x~2",
        b"D/y": b"D/y",
    }


def test_a_folder_keeps_its_name_before_a_file() -> None:
    names = Names(FOLDING).find([b"DATA", b"data/x"])
    assert names.place(b"DATA") == Place(b"DATA~2", b"data/")
    assert names.place(b"data/x") == Place(b"data/x")
    assert names.changed


def test_what_is_refused_is_written_out() -> None:
    assert places(WINDOWS, b"a:b", b"a%3Ab", b"end.", b"nul.log", b"bad\xff", b"x/..y") == {
        b"a%3Ab": b"a%3Ab",
        b"a:b": b"a%3Ab~2",
        b"end.": b"end%2E",
        b"nul.log": b"%6Eul.log",
        b"bad\xff": b"bad%FF",
        b"x/..y": b"x/..y",
    }
    assert places(ASCII, "né".encode()) == {"né".encode(): b"n%C3%A9"}


def test_nothing_changes_where_nothing_collides() -> None:
    names = Names(WINDOWS).find([b"a", b"b/c"])
    assert not names.changed
    assert names.place(b"b/c") == Place(b"b/c")


def test_an_ordinary_folder_takes_every_name(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert habits_of(folder).ordinary
        assert os.listdir(folder) == []
        os.close(folder)
        folder = os.open("/proc/self", os.O_RDONLY)
        with pytest.raises(OSError):
            habits_of(folder)
    finally:
        os.close(folder)
