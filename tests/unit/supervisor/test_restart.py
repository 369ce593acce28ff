"""What a machine that was started again makes of an experiment: what the store has is known, and not given up for less."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from gridkeep.settings import Home
from gridkeep.stores.keys import artifact_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor import restart
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming

ULID = "01m8333m7d0vy3v3tsqctyfqrt"
TREE = b"/w/tree"
SECOND = 10**9


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


def take_stock(store: LocalStore, ledger: Ledger, *touched: bytes) -> None:
    naming = Naming(TREE, {}, b"/home/u/.gridkeep", b"/home/u", ())
    with ledger.transaction():
        restart.take_stock(store, ULID, ledger, naming, touched, 1000.0)


def test_what_the_ledger_lost_is_stored(store: LocalStore, ledger: Ledger) -> None:
    keys = [put(store, name, name) for name in (b"a/b", b"_abs/tmp/c", b"new\nline")]
    take_stock(store, ledger, TREE + b"/new\nline", TREE + b"/other")
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
    assert restart.since(ledger) == 1000.0


def test_another_version_than_the_ledger_has_is_told_by_its_bytes(store: LocalStore, ledger: Ledger) -> None:
    """Of one size, as may be when it was replaced just before the machine went down."""
    key = put(store, b"a", b"new")
    ledger.put(entry(b"a", sha256="0" * 64, size=3, key=key, mtime_ns=5, partial=False))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert (found.phase, found.mtime_ns) == (Phase.READY, None)  # still to be looked at
    assert found.sha256 != "0" * 64


def test_what_is_known_as_it_is_keeps_its_stamps(store: LocalStore, ledger: Ledger) -> None:
    key = put(store, b"a", b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ledger.put(entry(b"a", sha256=empty, size=0, key=key, mtime_ns=5))
    take_stock(store, ledger)
    found = ledger.get(TREE + b"/a")
    assert found is not None
    assert found.mtime_ns == 5


@pytest.mark.parametrize(
    ("size", "mtime", "known", "lost"),
    [
        (10, 7, 7, False),  # the very version
        (4, 7, 7, True),  # cut
        (0, 9, 7, True),  # emptied, whenever
        (20, 6, 7, True),  # as it was before
        (20, 8, 7, False),  # written since
        (4, 8, 7, False),  # rewritten since, and shorter now
        (9, 8, None, True),  # nobody knows when that was read
        (10, 8, None, False),
    ],
)
def test_whether_a_file_has_lost_something(
    tmp_path: Path, size: int, mtime: int, known: int | None, lost: bool
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    os.utime(file, ns=(0, mtime * SECOND))
    version = entry(b"file", sha256="0" * 64, size=10, mtime_ns=known and known * SECOND)
    assert restart.has_lost(version, file.stat()) == lost
    version.sha256 = None
    assert not restart.has_lost(version, file.stat())


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
