"""The time that files have to reach the store is that in which somebody tried."""

from __future__ import annotations

import time

import pytest

from gridkeep.supervisor.finish import ask_again
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.patience import Patience


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(str(tmp_path / "ledger.db"))
    yield ledger
    ledger.close()


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the boot, moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_only_the_time_of_trying_counts(tmp_path, ledger, clock, monkeypatch):
    first = Patience(ledger, str(tmp_path), 60)
    clock[0] += 40
    monkeypatch.setattr(time, "time", lambda: 9e9)  # the wall clock is set
    assert not first.is_over(waiting=True)
    clock[0] = 5.0  # the machine went down and came up again
    second = Patience(ledger, str(tmp_path), 60)
    assert not second.is_over(waiting=True)
    clock[0] += 19
    assert not second.is_over(waiting=True)
    clock[0] += 2
    assert second.is_over(waiting=True)
    assert not Patience(ledger, str(tmp_path), 100).is_over(waiting=True)


def test_who_asks_again_gets_it_anew(tmp_path, ledger, clock):
    first = Patience(ledger, str(tmp_path), 60)
    clock[0] += 61
    assert first.is_over(waiting=True)
    ask_again(str(tmp_path))
    again = Patience(ledger, str(tmp_path), 60)
    clock[0] += 59
    assert not again.is_over(waiting=True)
    clock[0] += 2
    assert again.is_over(waiting=True)


def test_what_goes_on_is_waited_for_however_long_it_takes(tmp_path, ledger, clock):
    patience = Patience(ledger, str(tmp_path), 60)
    clock[0] += 50
    assert not patience.is_over(waiting=True)
    clock[0] += 9e5
    assert not patience.is_over(waiting=False)
    clock[0] += 9
    assert not patience.is_over(waiting=True)
    clock[0] += 2
    assert not patience.is_over(waiting=False)
    clock[0] += 2
    assert patience.is_over(waiting=True)
