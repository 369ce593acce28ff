"""What a machine that was started again makes of an experiment: what the store has is known, and not given up for less."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gridkeep.capture.journal import ABSENT, Op, Record, Stamp, Writer
from gridkeep.capture.session import Session
from gridkeep.settings import Home
from gridkeep.stores.keys import artifact_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor import restart, stock
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming

ULID = "01m8333m7d0vy3v3tsqctyfqrt"
TREE = b"/w/tree"
NAMING = Naming(TREE, {}, b"/home/u/.gridkeep", b"/home/u", ())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "ledger.db"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "store"), create=True)


def entry(name: bytes, **more: object) -> Entry:
    return Entry(TREE + b"/" + name, f"art_{name.decode()}", name, Phase.READY, **more)  # type: ignore[arg-type]


def put(store: LocalStore, listed: bytes, content: bytes) -> str:
    return store.put(artifact_key(ULID, listed), io.BytesIO(content)).key


def take_stock(store: LocalStore, ledger: Ledger, *sessions: Session) -> None:
    with ledger.transaction():
        ledger.all_unsure()
        stock.take(store, ULID, ledger, NAMING, sessions)


def test_what_the_ledger_lost_is_stored(store: LocalStore, ledger: Ledger, tmp_path: Path) -> None:
    keys = [put(store, name, name) for name in (b"a/b", b"_abs/tmp/c", b"new\nline")]
    session = Session(str(tmp_path / "session"))
    os.mkdir(session.folder)
    journal = Writer(os.path.join(session.folder, "journal"))
    for name in (b"/new\nline", b"/other"):
        journal.append(Record(Op.OPEN, 1, 0, 0, ((TREE + name, ABSENT),)))
    take_stock(store, ledger, session)
    for path, listed, key in zip(
        (TREE + b"/a/b", b"/tmp/c", TREE + b"/new\nline"),
        (b"a/b", b"_abs/tmp/c", b"new\nline"),
        keys,
        strict=True,
    ):
        found = ledger.get(path)
        assert found is not None
        assert (found.listed, found.phase, found.size, found.key) == (listed, Phase.STORED, len(listed), key)
        assert found.sha256 is not None
        assert found.dirty
        assert found.unsure


def test_another_version_than_the_ledger_has_is_told_by_its_bytes(store: LocalStore, ledger: Ledger) -> None:
    """Of one size, as may be when it was replaced just before the machine went down. It is later than the ledger's."""
    key = put(store, b"a", b"new")
    ledger.put(entry(b"a", sha256="0" * 64, size=3, key=key, mtime_ns=5, ctime_ns=6))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert found.phase is Phase.READY  # still to be looked at
    assert found.sha256 != "0" * 64
    assert restart.has_lost(found, Stamp(1, 2, 3, 5, 6, 0)), "the disk has what the ledger had"
    assert not restart.has_lost(found, Stamp(1, 2, 1, 5, 9, 0)), "it was written since"


@pytest.mark.parametrize("phase", [Phase.UNCHANGED, Phase.MISSING])
def test_what_was_stored_is_listed_whatever_the_ledger_thinks(
    store: LocalStore, ledger: Ledger, phase: Phase
) -> None:
    key = put(store, b"a", b"new")
    ledger.put(replace(entry(b"a"), phase=phase))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert (found.phase, found.key) == (Phase.STORED, key)


def test_what_is_known_as_it_is_keeps_its_stamps(store: LocalStore, ledger: Ledger) -> None:
    key = put(store, b"a", b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ledger.put(entry(b"a", sha256=empty, size=0, key=key, mtime_ns=5))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert found.mtime_ns == 5


@pytest.mark.parametrize(
    ("size", "mtime", "ctime", "known", "lost"),
    [
        (10, 7, 8, (7, 8), False),  # the very version
        (4, 7, 8, (7, 8), True),  # cut
        (0, 9, 9, (7, 8), True),  # emptied, whenever
        (20, 6, 6, (7, 8), True),  # as it was before
        (20, 8, 9, (7, 8), False),  # written since
        (4, 3, 9, (7, 8), False),  # put there since, and older
        (10, 7, 9, (7, None), False),
        (20, 6, 9, (7, None), True),  # nothing better is known than when it was written
        (9, 8, 9, (None, None), True),
        (10, 8, 9, (None, None), False),
    ],
)
def test_whether_a_file_has_lost_something(
    size: int, mtime: int, ctime: int, known: tuple[int | None, int | None], lost: bool
) -> None:
    version = entry(b"file", sha256="0" * 64, size=10, mtime_ns=known[0], ctime_ns=known[1])
    now = Stamp(1, 2, size, mtime, ctime, 0o100644)
    assert restart.has_lost(version, now) == lost
    version.sha256 = None
    assert not restart.has_lost(version, now)


def test_a_version_that_was_to_be_replaced_gives_way_to_what_came_after(
    store: LocalStore, ledger: Ledger
) -> None:
    """After a restart in good order: it had been sent again, and was shorter."""
    key = put(store, b"a", b"0123456789")
    ledger.put(entry(b"a", sha256=None, size=2, key=key, mtime_ns=5, ctime_ns=6))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert not restart.has_lost(found, Stamp(1, 2, 2, 7, 8, 0))
    assert restart.has_lost(found, Stamp(1, 2, 10, 5, 6, 0)), "the disk went back to it"


def test_attempts_before_and_after(ledger: Ledger) -> None:
    assert not restart.is_before(ledger, 1)
    restart.went_down(ledger, 1)
    assert [restart.is_before(ledger, attempt) for attempt in (1, 2)] == [True, False]


def test_a_restart_is_noticed_until_it_is_noted(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    os.makedirs(home.journal(ULID))
    assert not restart.noticed(home, ULID)  # nothing was noted: an earlier version's
    restart.note(home, ULID)
    assert not restart.noticed(home, ULID)
    Path(home.journal(ULID), "boot").write_text("another")
    assert restart.noticed(home, ULID)
    restart.note(home, ULID)
    assert not restart.noticed(home, ULID)


def test_the_longer_output_log_stays(store: LocalStore, tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    restart.mend_output(store, ULID, str(log))
    assert not log.exists()
    store.put(f"experiments/{ULID}/output.log", io.BytesIO(b"one\ntwo\n"))
    restart.mend_output(store, ULID, str(log))
    assert log.read_bytes() == b"one\ntwo\n"
    log.write_bytes(b"one\ntwo\nthree\n")
    restart.mend_output(store, ULID, str(log))
    assert log.read_bytes() == b"one\ntwo\nthree\n"
