"""What the environment says of encryption holds for all that is put, however it goes there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridkeep.errors import StoreDenied, StoreError
from gridkeep.model import Cluster
from gridkeep.stores import open_store
from tests.clouds import proxy as faults
from tests.clouds.judge import Place
from tests.clouds.proxy import Exchange

MIB = 1 << 20
HEADER = "x-amz-server-side-encryption"


def test_every_object_is_encrypted_as_it_is_asked_for(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from memory, put if absent or not; one of a single part; one of several. The server of these tests has no keys, so
    that it is only looked what it is asked for."""
    asked: list[str | None] = []

    def note(exchange: Exchange) -> None:
        asked.append(exchange._handler.headers.get(HEADER))
        faults.DENIED(exchange)

    for name, value in place.environ(AWS_SERVER_SIDE_ENCRYPTION="AES256").items():
        monkeypatch.setenv(name, value)
    store = open_store(Cluster(name="c", engine="local", store=place.uri))
    place.proxy.strike(note)
    for size, if_absent in ((1, False), (1, True), (3 * MIB, False), (20 * MIB, False)):
        (tmp_path / "file").write_bytes(os.urandom(size))
        with (tmp_path / "file").open("rb") as file, pytest.raises(StoreDenied):
            store.put("key", file, if_absent=if_absent)
        assert asked.pop() == "AES256"


def test_a_key_of_ones_own_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the libraries would not use alike."""
    for name, value in place.environ(AWS_SERVER_SIDE_ENCRYPTION="sse-c").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="sse-c"):
        open_store(Cluster(name="c", engine="local", store=place.uri))
