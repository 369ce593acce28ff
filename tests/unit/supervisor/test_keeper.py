"""The Keeper, with a real ledger, catalog and store, at instants that a whole run meets only by chance."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gridkeep.capture.journal import ABSENT, Op, Record, Writer
from gridkeep.capture.session import Session
from gridkeep.settings import Settings
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor.entry import Phase
from gridkeep.supervisor.keeper import Keeper
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from tests.support import wait_for
from tests.unit.made import make_run, quiet_home

T = TypeVar("T")


def test_a_file_written_by_another_name_after_it_was_read_and_before_the_end(tmp_path: Path) -> None:
    """Only the name that was opened is in the journal, and the sweep passes over what is being sent."""
    with at_work(tmp_path) as (keeper, ledger, store):
        tree = tmp_path / "tree"
        (tree / "one").write_bytes(b"first")
        os.link(tree / "one", tree / "other")
        path, session = os.fsencode(tree / "other"), Session(str(tmp_path / "capture-1"))
        opened(keeper, path)
        keeper.turn(session)
        wait_for(lambda: list(store.list("")))
        wait_for(lambda: keeper._transfers._done.qsize())  # read and sent; not yet noted
        with open(tree / "one", "ab") as file:
            file.write(b", second")
        keeper.finish_up()
        while not keeper.done:
            keeper.turn(session)
        entry = ledger.get(path)
        assert entry is not None
        assert (entry.phase, entry.sha256) == (Phase.STORED, hashlib.sha256(b"first, second").hexdigest())


def test_what_was_sent_when_the_disk_failed_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the note of it nor that of the failure could be written."""
    failures = iter(["the note", "the failure"])

    def failing(action: Callable[[], T]) -> Callable[[], T]:
        def instead() -> T:
            if what := next(failures, None):
                raise sqlite3.OperationalError(what)
            return action()

        return instead

    with at_work(tmp_path) as (keeper, ledger, _):
        (tmp_path / "tree/one").write_bytes(b"content")
        path, session = os.fsencode(tmp_path / "tree/one"), Session(str(tmp_path / "capture-1"))
        opened(keeper, path)
        keeper.turn(session)
        wait_for(lambda: keeper._transfers._done.qsize())
        monkeypatch.setattr(keeper, "_examine", failing(keeper._examine))
        monkeypatch.setattr(ledger, "resume", failing(ledger.resume))
        keeper.turn(session)
        assert keeper.waiting_for == "the home: the note"
        keeper.turn(session)
        finish(keeper, session)
        entry = ledger.get(path)
        assert entry is not None and entry.phase is Phase.STORED
        assert keeper.waiting_for is None


def test_a_long_journal_is_sent_while_it_is_read(tmp_path: Path) -> None:
    session = recorded(tmp_path, files=3000)
    with at_work(tmp_path) as (keeper, ledger, _):
        while not keeper.read_on(session):
            pass
        sent = ledger.count(Phase.STORED)
        assert sent > 0 and sent + ledger.unsettled() == 3000
        finish(keeper, session)
        assert ledger.count(Phase.STORED) == 3000


def test_what_is_gone_is_judged_when_all_is_told(tmp_path: Path) -> None:
    """The run may have removed it, or its machine went down with it: a record may still be to come."""
    session = recorded(tmp_path, files=1000)
    with at_work(tmp_path) as (keeper, ledger, _):
        gone = os.fsencode(tmp_path / "tree/gone")
        keeper.tracker.found(gone, ABSENT, time.monotonic() - 1, proven=True)
        while not keeper.read_on(session):
            pass
        entry = ledger.get(gone)
        assert entry is not None and entry.phase is Phase.TOUCHED
        finish(keeper, session)
        entry = ledger.get(gone)
        assert entry is not None and entry.phase is Phase.REMOVED


def test_after_the_end_nothing_grows_any_more(tmp_path: Path) -> None:
    """Also where no lease can tell: what is there is whole, and is sent so."""
    session = recorded(tmp_path, files=1000)
    path = os.fsencode(tmp_path / "tree/0")
    with at_work(tmp_path) as (keeper, ledger, _):
        record = Record(Op.OPEN, 1, os.O_WRONLY | os.O_NONBLOCK, time.time_ns(), ((path, ABSENT),))
        keeper.tracker.apply(record, time.monotonic() - 100)
        assert not keeper.read_on(session)
        entry = ledger.get(path)
        assert entry is not None and not entry.leasable and entry.phase is not Phase.GROWING


def test_of_two_versions_only_the_newer_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older could arrive after it. It had to wait, for the catalog did not hear of it."""
    path, session = os.fsencode(tmp_path / "tree/one"), Session(str(tmp_path / "capture-1"))
    with at_work(tmp_path) as (keeper, ledger, _):
        (tmp_path / "tree/one").write_bytes(b"first")
        opened(keeper, path)
        while not ledger.count(Phase.STORED):
            keeper.turn(session)
        monkeypatch.setattr(keeper, "_publish", lambda: None)
        for content in (b"second", b"third, longer"):
            (tmp_path / "tree/one").write_bytes(content)
            opened(keeper, path)
            ledger.all_due()
            keeper.turn(session)
            assert [send.size for send in keeper._outbox.values()] == [len(content)]
        monkeypatch.undo()
        finish(keeper, session)
        entry = ledger.get(path)
        assert entry is not None and entry.size == len(b"third, longer")


def test_what_was_read_when_the_disk_failed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = recorded(tmp_path, files=3)
    with at_work(tmp_path) as (keeper, ledger, _):
        whole = keeper._examine

        def failing() -> int:
            monkeypatch.setattr(keeper, "_examine", whole)
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(keeper, "_examine", failing)
        assert not keeper.read_on(session)
        assert ledger.unsettled() == 0
        assert keeper.read_on(session)
        finish(keeper, session)
        assert ledger.count(Phase.STORED) == 3


def test_a_journal_is_read_on_when_the_store_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is listed as pending a moment later, whatever is still to be sent."""
    session = recorded(tmp_path, files=1000)
    with at_work(tmp_path) as (keeper, ledger, _):
        monkeypatch.setattr(keeper, "_has_room", lambda: False)
        began = time.monotonic()
        while ledger.unsettled() < 1000:
            assert time.monotonic() < began + 20
            keeper.turn(session)
        monkeypatch.undo()
        finish(keeper, session)
        assert ledger.count(Phase.STORED) == 1000


def recorded(root: Path, *, files: int) -> Session:
    """So many files in the working copy, and a journal that tells of them: written some time ago."""
    (root / "tree").mkdir()
    (root / "capture-1").mkdir()
    journal = Writer(str(root / "capture-1/journal"))
    for number in range(files):
        path = root / f"tree/{number}"
        path.write_text(str(number))
        long_ago = time.time_ns() - 10**9
        assert journal.append(Record(Op.OPEN, 1, os.O_WRONLY, long_ago, ((os.fsencode(path), ABSENT),)))
    return Session(str(root / "capture-1"))


def finish(keeper: Keeper, session: Session) -> None:
    keeper.finish_up()
    deadline = time.monotonic() + 30
    while not keeper.done:
        assert time.monotonic() < deadline
        keeper.turn(session)


@contextmanager
def at_work(root: Path) -> Iterator[tuple[Keeper, Ledger, LocalStore]]:
    """A keeper whose working copy is `tree`."""
    (root / "tree").mkdir(exist_ok=True)
    with quiet_home(root / "home") as context:
        _, (experiment,) = make_run(context, "r", ["running"])
        ledger = Ledger(str(root / "ledger.db"))
        naming = Naming(os.fsencode(root / "tree"), {}, b"/nowhere", b"/nobody", [])
        store = LocalStore(str(root / "store"), create=True)
        ulid, output = experiment.experiment_id, str(root / "output.log")
        keeper = Keeper(ulid, Settings(), context.catalog, store, ledger, naming, output)
        try:
            yield keeper, ledger, store
        finally:
            keeper.close()
            ledger.close()


def opened(keeper: Keeper, path: bytes) -> None:
    record = Record(Op.OPEN, 1, os.O_WRONLY, time.time_ns(), ((path, ABSENT),))
    keeper.tracker.apply(record, time.monotonic() - 1)
