"""The ledger on disk: what it keeps, and that a killed supervisor's work goes on from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gridkeep.supervisor.entry import Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.trees import walk


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ledger.db")


@pytest.fixture
def ledger(path):
    opened = Ledger(path)
    yield opened
    opened.close()


def entry(name: bytes, phase: Phase = Phase.TOUCHED, **more) -> Entry:
    return Entry(path=b"/t/" + name, artifact_id=new_artifact_id(), listed=name, phase=phase, **more)


def test_an_entry_comes_back_as_it_was(ledger):
    before = entry(b"\xff\n", Phase.STORED, sha256="ab", size=2**40, mtime_ns=-5, reason="why", dirty=True)
    ledger.put(before)
    assert ledger.get(before.path) == before
    assert ledger.get(b"/t/other") is None


def test_only_its_owner_may_read_it(ledger, path):
    assert os.stat(path).st_mode & 0o077 == 0


def test_due_gives_the_longest_due_first(ledger):
    for name, due in ((b"a", 3.0), (b"b", 1.0), (b"c", None), (b"d", 9.0)):
        ledger.put(entry(name, due=due))
    assert [item.listed for item in ledger.due(5.0, 10)] == [b"b", b"a"]
    assert ledger.next_due() == 1.0


def test_a_new_supervisor_looks_at_all_that_was_under_way(ledger, path):
    ledger.put(entry(b"sending", Phase.READY, due=None))
    ledger.put(entry(b"later", Phase.GROWING, due=1e9, unsaved_since=1e9))
    ledger.put(entry(b"done", Phase.STORED))
    ledger.close()
    again = Ledger(path)
    assert {item.listed for item in again.due(0.0, 10)} == {b"sending", b"later"}
    assert again.unsettled() == 2
    again.close()


def test_a_transaction_is_all_or_nothing(ledger):
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.put(entry(b"a"))
        ledger.set_fact("offset", 7)
        raise ZeroDivisionError
    assert ledger.get(b"/t/a") is None and ledger.fact("offset", 0) == 0


def test_what_the_catalog_had_and_is_dropped_must_be_forgotten_there(ledger):
    known, unknown = entry(b"known", published=True), entry(b"unknown")
    for item in (known, unknown):
        ledger.put(item)
        ledger.drop(item)
    assert ledger.forgotten() == [known.artifact_id]
    ledger.published([], 0.0, ledger.forgotten())
    assert ledger.forgotten() == []


def test_below_is_the_folder_and_nothing_beside_it(ledger):
    for name in (b"dir/a", b"dir/deep/b", b"dir2/c", b"dir", b"dir-x"):
        ledger.put(entry(name))
    assert {item.listed for item in ledger.below(b"/t/dir")} == {b"dir/a", b"dir/deep/b"}


def test_totals(ledger):
    ledger.put(entry(b"a", Phase.STORED, sha256="x", size=10))
    ledger.put(entry(b"b", Phase.REMOVED, sha256="x", size=5))
    ledger.put(entry(b"c", Phase.IGNORED))
    ledger.put(entry(b"d", Phase.UNCHANGED))
    ledger.put(entry(b"e", Phase.STORED, sha256="x", size=1, swept=True))
    ledger.add_loss("who knows")
    ledger.add_loss("who knows either")
    assert ledger.totals() == {
        "files": 2,
        "bytes": 11,
        "missing": 2,
        "ignored": 1,
        "removed": 1,
        "swept": 1,
    }


def test_changes_against_the_snapshot(ledger, tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    for name in ("same", "changed", "known", "deep/gone"):
        (tree / name).write_text("1")
    ledger.take_snapshot(walk(os.fsencode(tree)))
    (tree / "changed").write_text("22")
    (tree / "known").write_text("22")
    (tree / "deep/gone").unlink()
    (tree / "deep/new").write_text("3")
    ledger.put(
        Entry(path=os.fsencode(tree / "known"), artifact_id="art_x", listed=b"known", phase=Phase.STORED)
    )
    found = {
        os.path.relpath(path, os.fsencode(tree)): before.exists
        for path, _, before in ledger.unseen_changes(walk(os.fsencode(tree)), captured=True)
    }
    assert found == {b"changed": True, b"deep/new": False}


def test_walk_follows_no_links_and_takes_any_name(tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\n"
    os.mkdir(odd)
    os.symlink(os.fsencode(tmp_path), odd + b"/loop")
    os.mkfifo(odd + b"/pipe")
    os.close(os.open(odd + b"/file", os.O_CREAT))
    assert sorted(path for path, _ in walk(os.fsencode(tmp_path))) == [
        odd + b"/" + name for name in (b"file", b"loop", b"pipe")
    ]


_WRITER = """
import sys
from gridkeep.supervisor.entry import Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger
ledger = Ledger(sys.argv[1])
number = 0
while True:
    with ledger.transaction():
        for _ in range(10):
            name = b"%d" % number
            ledger.put(Entry(path=name, artifact_id=new_artifact_id(), listed=name, phase=Phase.TOUCHED))
            number += 1
        ledger.set_fact("offset", number)
    print(number, flush=True)
"""


def test_a_killed_supervisor_leaves_offset_and_entries_in_step(path):
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    committed = 0
    for _ in range(20):
        committed = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    ledger = Ledger(path)
    offset = ledger.fact("offset")
    assert offset >= committed and offset == ledger.unsettled()
    ledger.close()


def test_what_the_store_does_not_have_as_the_ledger_says(ledger):
    for name, size, etag in ((b"same", 1, "e"), (b"gone", 1, None), (b"short", 5, None), (b"other", 1, "e")):
        ledger.put(entry(name, Phase.STORED, sha256="x", size=size, etag=etag, key=name.decode()))
    ledger.put(entry(b"pending", Phase.READY, key="pending", size=9))
    listing = [
        ("same", 1, "e"),
        ("short", 4, None),
        ("other", 1, "f"),
        ("pending", 1, None),
        ("extra", 1, None),
    ]
    for _ in range(2):
        wrong, strays = ledger.unlike(iter(listing))
        assert {item.listed for item in wrong} == {b"gone", b"short", b"other"}
        assert set(strays) == {"pending", "extra"}
