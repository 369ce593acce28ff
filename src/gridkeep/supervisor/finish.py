"""The end of an experiment: what goes to the store beside its files, and the proof that all of it is there.

In this order, each step safe to repeat: the output log, a check of everything against a listing of the store, the record
of the experiment (`record`), the manifest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from typing import BinaryIO, cast

from gridkeep.errors import ObjectExists, ObjectMissing, StoreError
from gridkeep.files import read_json, write_json
from gridkeep.model import Experiment, Run
from gridkeep.stores.base import Store
from gridkeep.stores.keys import artifacts_prefix, experiment_prefix, manifest_key, output_log_key
from gridkeep.supervisor import manifest
from gridkeep.supervisor.entry import Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.publish import Publisher
from gridkeep.supervisor.settle import Version

_ASKED_AGAIN = "sync.json"


def put_output(store: Store, ulid: str, path: str) -> int:
    """The output log as far as it has come; returns its size. Raises StoreError, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        version = Version(fd, prefix=True)
        store.put(output_log_key(ulid), cast(BinaryIO, version))
        return version.size
    finally:
        os.close(fd)


def differences(store: Store, ulid: str, ledger: Ledger) -> int:
    """Compares what the ledger calls stored with a listing of the store; what is not there as it should be is to be
    sent again. Returns how many. What lies there beside it goes: a supervisor that was killed, or a file that vanished,
    between the sending of an object and the note of it left it unlisted. But nothing goes once there is a manifest: it
    may be what lists it. Raises StoreError."""
    listing = ((item.key, item.size, item.etag) for item in store.list(artifacts_prefix(ulid)))
    wrong, strays = ledger.unlike(listing)
    if strays and not has_manifest(store, ulid):
        store.delete(strays)
    for entry in wrong:
        entry.sha256, entry.dirty = None, True
        if entry.phase is Phase.STORED:
            entry.phase, entry.due = Phase.READY, 0.0
        ledger.put(entry)
    return len(wrong)


def ask_again(folder: str) -> None:
    """Notes in the journal's folder that the files have as long again as after the script's end. Raises OSError."""
    write_json(os.path.join(folder, _ASKED_AGAIN), {"at": time.time()})


def asked_again_at(folder: str) -> float:
    """When that was, in seconds since the epoch; 0 when nobody did."""
    return float((read_json(os.path.join(folder, _ASKED_AGAIN)) or {"at": 0.0})["at"])


def has_manifest(store: Store, ulid: str) -> bool:
    """Whether the experiment has been brought to its end, whatever a catalog says. Raises StoreError."""
    with suppress(ObjectMissing):
        store.head(manifest_key(ulid))
        return True
    return False


def put_manifest(
    store: Store, run: Run, experiment: Experiment, ledger: Ledger, publisher: Publisher, folder: str
) -> str:
    """Writes the manifest, last of all; returns its SHA-256. One that an earlier supervisor of the same attempt put there is
    believed. Raises StoreError."""
    key = manifest_key(experiment.experiment_id)
    store.abandon(experiment_prefix(experiment.experiment_id))
    totals = ledger.totals()
    header = manifest.make_header(
        run,
        experiment,
        files=totals["files"],
        size=totals["bytes"],
        missing=totals["missing"],
        ignored=totals["ignored"],
        removed=totals["removed"],
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        digest = manifest.write(cast(BinaryIO, file), header, publisher.artifacts())
        file.seek(0)
        try:
            store.put(key, cast(BinaryIO, file), if_absent=True)
            return digest
        except ObjectExists:
            return _own_manifest(store, key, experiment)


def _own_manifest(store: Store, key: str, experiment: Experiment) -> str:
    digest, first = hashlib.sha256(), b""
    for chunk in store.get(key):
        digest.update(chunk)
        if b"\n" not in first:
            first += chunk
    header, _ = manifest.read([first])
    if (header["experiment_id"], header["attempt"]) != (experiment.experiment_id, experiment.attempt):
        raise StoreError("Another attempt has written the manifest of this experiment.")
    return digest.hexdigest()
