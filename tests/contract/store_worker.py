"""A process that uses a store, to be killed or measured: `python -m tests.contract.store_worker URI ENDPOINT WORD ...`."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import BinaryIO, cast

from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.base import Store

MIB = 2**20


class Endless(io.RawIOBase):
    """Bytes without end, slowly; tells when it is first read."""

    def read(self, size: int = -1) -> bytes:
        print("begun", flush=True)
        time.sleep(0.001)
        return b"n" * MIB


class Hashed(io.RawIOBase):
    """A file as the supervisor gives it: hashed as it is read, with a descriptor."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def fileno(self) -> int:
        return self.file.fileno()

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.sha256.update(data)
        return data


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


def put(store: Store, key: str, path: str, journal: str) -> dict[str, object]:
    with open(path, "rb", buffering=0) as file:
        source = Hashed(cast(BinaryIO, file))
        info = store.put(key, cast(BinaryIO, source), journal=journal or None)
    return {"size": info.size, "etag": info.etag, "sha256": source.sha256.hexdigest()}


def get(store: Store, key: str) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    for chunk in store.get(key):
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def main(uri: str, endpoint: str, word: str, *words: str) -> None:
    store = open_store(
        Cluster(name="test", engine="local", store=uri, endpoint=endpoint or None), create=True
    )
    if word == "endless":
        store.put(words[0], cast(BinaryIO, Endless()))
    store.put("warm", io.BytesIO(b"w" * 2 * MIB))  # imports and connections are not what is measured
    b"".join(store.get("warm"))
    before, began = peak(), time.monotonic()
    said = put(store, *words) if word == "put" else get(store, *words)
    print(json.dumps({**said, "extra": peak() - before, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
