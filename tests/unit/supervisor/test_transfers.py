"""Sending files: what a thread asks of a file before it reads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.model import new_ulid
from gridkeep.stores.keys import artifact_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor.transfers import Result, Sent, ToSend, Transfers, Trouble
from tests.support import wait_for

ULID = new_ulid()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "store"), create=True)


@pytest.fixture
def transfers(store: LocalStore, tmp_path: Path) -> Iterator[Transfers]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    opened = Transfers(store, ULID, 4, lambda: None, str(tmp_path / "uploads"))
    yield opened
    opened.close()
    signal.signal(signal.SIGIO, before)


def result(transfers: Transfers, *files: ToSend) -> list[Result]:
    transfers.start(files)
    found: list[Result] = []

    def all_done() -> bool | None:
        found.extend(transfers.finished())
        return len(found) == len(files) or None

    wait_for(all_done)
    return found


def to_send(path: Path, *, asked: bool) -> ToSend:
    listed = os.fsencode(path.name)
    return ToSend(os.fsencode(path), listed, path.stat().st_size, False, True, replaces=False, asked=asked)


def test_a_file_that_somebody_has_open_is_not_read(
    transfers: Transfers, store: LocalStore, tmp_path: Path
) -> None:
    """A mapping that was made before we look, and is gone when we have read, leaves no trace in the file's times."""
    closed, held = tmp_path / "closed", tmp_path / "held"
    closed.write_text("whole")
    with held.open("w") as writer:
        writer.write("half")
        writer.flush()
        found = {
            each.path: each.outcome
            for each in result(transfers, to_send(closed, asked=False), to_send(held, asked=False))
        }
        assert isinstance(found[os.fsencode(closed)], Sent)
        assert found[os.fsencode(held)] == Trouble("open for writing", again=True)
    assert [item.key for item in store.list("")] == [artifact_key(ULID, b"closed", prefix="")]
    [again] = result(transfers, to_send(held, asked=False))
    assert isinstance(again.outcome, Sent) and again.outcome.size == 4


def test_a_file_that_is_gone_is_to_be_looked_at_again(transfers: Transfers, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    there = to_send(tmp_path / "f", asked=True)
    (tmp_path / "f").unlink()
    [gone] = result(transfers, there)
    assert isinstance(gone.outcome, Trouble) and gone.outcome.again and not gone.outcome.store
