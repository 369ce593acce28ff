"""The check of a store leaves nothing, and takes away what a killed one left."""

from __future__ import annotations

import io
import time
from pathlib import Path

from gridkeep.model import new_ulid
from gridkeep.stores.local import LocalStore


def test_probes_of_the_killed_go_after_an_hour(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path), create=True)
    old, young = (f"_probe/{new_ulid(time.time() - age)}/object" for age in (3700, 10))
    for key in (old, young, "experiments/x"):
        store.put(key, io.BytesIO(b"x"))
    store.check()
    assert {item.key for item in store.list("")} == {young, "experiments/x"}
