"""The check of a store leaves nothing, takes away what a killed one left, and sees what a store cannot do."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from gridkeep.errors import StoreError
from gridkeep.model import new_ulid
from gridkeep.stores.base import ObjectInfo
from gridkeep.stores.local import LocalStore


def test_probes_of_the_killed_go_after_an_hour(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path), create=True)
    old, young = (f"_probe/{new_ulid(time.time() - age)}/object" for age in (3700, 10))
    for key in (old, young, "experiments/x"):
        store.put(key, io.BytesIO(b"x"))
    store.check()
    assert {item.key for item in store.list("")} == {young, "experiments/x"}


def test_a_store_that_replaces_although_it_may_not_is_refused(tmp_path: Path) -> None:
    class Careless(LocalStore):
        def put(
            self, key: str, source: BinaryIO, *, if_absent: bool = False, journal: str | None = None
        ) -> ObjectInfo:
            return super().put(key, source)

    store = Careless(str(tmp_path), create=True)
    with pytest.raises(StoreError, match="told not to"):
        store.check()
    assert list(store.list("")) == []
