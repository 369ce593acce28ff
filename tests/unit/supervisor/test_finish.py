"""The check before the manifest: what the ledger calls stored is there, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

from gridkeep.model import new_ulid
from gridkeep.stores.keys import artifact_key, output_log_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor import finish
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger


def stored(ulid: str, path: bytes, content: bytes) -> Entry:
    key = artifact_key(ulid, path)
    return Entry(
        path=b"/w/" + path, artifact_id="art_" + path.decode(), listed=path, phase=Phase.STORED,
        size=len(content), sha256="…", key=key,
    )  # fmt: skip


def test_objects_that_no_entry_stands_for_go_and_those_that_are_gone_are_sent_again(tmp_path: Path) -> None:
    store, ulid, other = LocalStore(str(tmp_path / "store"), create=True), new_ulid(), new_ulid()
    ledger = Ledger(str(tmp_path / "ledger.db"))
    for path in (b"kept", b"lost", b"short"):
        ledger.put(stored(ulid, path, b"12345"))
    for key, content in (
        (artifact_key(ulid, b"kept"), b"12345"),
        (artifact_key(ulid, b"short"), b"123"),
        (artifact_key(ulid, b"stray"), b"sent by one that was killed"),
        (artifact_key(other, b"another's"), b"1"),
        (output_log_key(ulid), b"printed"),
    ):
        store.put(key, io.BytesIO(content))
    assert finish.differences(store, ulid, ledger) == 2
    assert {ledger.get(b"/w/" + path).phase for path in (b"lost", b"short")} == {Phase.READY}  # type: ignore[union-attr]
    assert sorted(item.key for item in store.list("")) == sorted(
        [
            artifact_key(ulid, b"kept"),
            artifact_key(ulid, b"short"),
            artifact_key(other, b"another's"),
            output_log_key(ulid),
        ]
    )
    ledger.close()
