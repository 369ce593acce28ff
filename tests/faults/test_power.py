"""The plug is pulled: whatever a store has taken, and whatever a run called `completed` has, is there afterwards."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.stores import durable
from gridkeep.stores.local import LocalStore
from tests.faults import disks

SIZES = (0, 1, 100, 4096, 10_000, 300_000)


@pytest.fixture(params=[True, False], ids=["journal", "no_journal"])
def plug(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[disks.Plug]:
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    with disks.plugged_in(tmp_path, journal=request.param) as plug:
        yield plug


def test_files_are_made_durable_together_where_there_is_a_journal(
    plug: disks.Plug, request: pytest.FixtureRequest
) -> None:
    folder = os.open(plug.at, os.O_RDONLY)
    try:
        assert durable.commits_together(folder) == ("[journal]" in request.node.name)
    finally:
        os.close(folder)


def test_what_a_store_has_taken_is_there_after_a_power_cut(plug: disks.Plug) -> None:
    """And what nobody made durable is not, or this would prove nothing."""
    store = LocalStore(str(plug.at / "store"), create=True)
    objects = {
        f"experiments/u/{number % 3}/{number}": random.Random(number).randbytes(SIZES[number % len(SIZES)])
        for number in range(120)
    }
    items = list(objects.items())
    for at in range(0, 100, 50):
        taken = store.put_many([(key, io.BytesIO(content)) for key, content in items[at : at + 50]])
        assert not [each for each in taken if isinstance(each, Exception)]
    for key, content in items[100:]:
        store.put(key, io.BytesIO(content))
    lost = plug.at / "not durable"
    lost.write_bytes(bytes(5000))
    plug.pull()
    assert not lost.exists() or not lost.read_bytes()  # the name alone, where there is no journal
    assert {item.key: item.size for item in store.list("")} == {key: len(objects[key]) for key in objects}
    for key, content in items:
        assert b"".join(store.get(key)) == content, key
