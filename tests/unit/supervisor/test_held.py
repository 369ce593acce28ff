"""What a transaction of the ledger holds in memory: seen by whoever asks for single entries and by whoever asks for many."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from gridkeep.supervisor import ledger as module
from gridkeep.supervisor.entry import Entry, Phase, new_artifact_id
from gridkeep.supervisor.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


def entry(number: int, phase: Phase = Phase.TOUCHED) -> Entry:
    name = b"%04d" % number
    return Entry(path=b"/t/" + name, artifact_id=new_artifact_id(), listed=name, phase=phase, due=1.0)


def test_what_is_put_is_seen_at_once(ledger: Ledger) -> None:
    with ledger.transaction():
        for number in range(120):
            ledger.put(entry(number))
        found = ledger.get(b"/t/0007")
        assert found is not None and found.phase is Phase.TOUCHED
        found.phase = Phase.READY
        ledger.put(found)
        assert ledger.unsettled() == 120
        assert len(list(ledger.below(b"/t"))) == 120
        assert ledger.count(Phase.READY) == 1


def test_what_is_held_after_a_transaction_is_what_was_written(ledger: Ledger) -> None:
    with ledger.transaction():
        for number in range(3):
            ledger.put(entry(number))
            found = ledger.get(b"/t/%04d" % number)
            assert found is not None
            found.dirty = number < 2
            ledger.put(found)
    told = ledger.dirty(1)
    assert [item.listed for item in told] == [b"0000"] and told[0].published
    with ledger.transaction():
        ledger.published(told, inf, [])
    with ledger.transaction():
        for number in range(3):
            found = ledger.get(b"/t/%04d" % number)
            assert found is not None and found.dirty == (number == 1) and found.published == (number < 2)
            found.due = None
            ledger.put(found)
    assert [item.listed for item in ledger.dirty(9)] == [b"0001"]
    ledger.all_due()
    with ledger.transaction():
        for number in range(3):
            found = ledger.get(b"/t/%04d" % number)
            assert found is not None and found.due == 0


def test_what_is_new_and_on_its_way_is_told_later(ledger: Ledger) -> None:
    new, old, large = entry(1), entry(2), entry(3)
    new.touched_at, old.touched_at, large.touched_at = 5.0, 1.0, 5.0
    for each in (new, old, large):
        each.phase, each.dirty, each.size = Phase.READY, True, 2**30 if each is large else 1
        ledger.put(each)
    told = ledger.dirty(9, touched_by=3.0)
    assert [item.listed for item in told] == [b"0002", b"0003"]
    ledger.published(told, 3.0, [])
    assert [item.listed for item in ledger.dirty(9)] == [b"0001"]


def test_more_than_is_held(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD", 10)
    with ledger.transaction():
        for number in range(99):
            ledger.put(entry(number))
            assert ledger.get(b"/t/%04d" % (number // 2)) is not None
    assert [item.listed for item in ledger.listed()] == [b"%04d" % number for number in range(99)]


def test_many_are_fetched_and_those_that_are_not_there_too(ledger: Ledger) -> None:
    for number in range(70):
        ledger.put(entry(number))
    with ledger.transaction():
        ledger.fetch(b"/t/%04d" % number for number in [*range(60, 140), 60])
        assert ledger.get(b"/t/0069") is not None
        assert ledger.get(b"/t/0100") is None
        ledger.put(entry(100))
        assert ledger.get(b"/t/0100") is not None
        ledger.drop(entry(100))
        assert ledger.get(b"/t/0100") is None
    assert ledger.unsettled() == 70


def test_what_is_fetched_does_not_outlive_a_change_of_all(ledger: Ledger) -> None:
    ledger.put(entry(1))
    with ledger.transaction():
        ledger.fetch([b"/t/0001"])
        ledger.all_due()
        found = ledger.get(b"/t/0001")
        assert found is not None and found.due == 0


def test_nothing_of_a_transaction_that_failed_is_held(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.put(entry(1))
        raise ZeroDivisionError
    assert ledger.get(b"/t/0001") is None
    with ledger.transaction():
        assert ledger.get(b"/t/0001") is None
