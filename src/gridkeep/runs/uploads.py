"""Files that clients of a server sent for runs to come: kept in the home for a week, then dropped.

An upload is a folder of its own: `content`, and `upload.json` once it is whole. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from gridkeep.errors import GridError, NotFound
from gridkeep.files import read_json, write_json
from gridkeep.model import new_ulid
from gridkeep.runs.signing import LONGEST
from gridkeep.settings import Home

PREFIX = "gridkeep://uploads/"  # before the id, where a client of ours expects an address
_ID = re.compile(r"[0-9a-z]{26}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that is there."""

    upload_id: str
    owner: str
    filename: str
    size: int
    sha256: str
    folder: str

    @property
    def content(self) -> str:
        return os.path.join(self.folder, "content")


class Incoming:
    """One that is being sent. As a context manager it leaves nothing behind unless `finish` was called."""

    def __init__(self, home: Home, limit: int) -> None:
        self._limit = limit
        self._id = new_ulid()
        self._folder = os.path.join(home.uploads, self._id)
        self._size = 0
        self._digest = hashlib.sha256()
        self._done = False
        os.makedirs(self._folder, mode=0o700)
        self._file = open(
            os.path.join(self._folder, "content"),
            "xb",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )

    def write(self, chunk: bytes) -> None:
        """Raises GridError when it is more than the limit."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise GridError(
                f"A file of more than {self._limit} bytes is not taken.", "`upload_limit` is the setting."
            )
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self, *, owner: str, filename: str) -> Upload:
        """Makes it whole."""
        self._file.close()
        upload = Upload(
            upload_id=self._id,
            owner=owner,
            filename=os.path.basename(filename)[:255],
            size=self._size,
            sha256=self._digest.hexdigest(),
            folder=self._folder,
        )
        write_json(os.path.join(self._folder, "upload.json"), asdict(upload))
        self._done = True
        return upload

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._done:
            shutil.rmtree(self._folder, ignore_errors=True)


def find_upload(home: Home, name: str) -> Upload:
    """By its id, or its address. Raises NotFound."""
    upload_id = name.removeprefix(PREFIX)
    if _ID.fullmatch(upload_id):
        folder = os.path.join(home.uploads, upload_id)
        if shape := read_json(os.path.join(folder, "upload.json")):
            return Upload(**shape | {"folder": folder})
    raise NotFound(f"There is no upload {name[:100]}.", "Send the file to POST /v1/upload_file first.")


def drop_old(home: Home) -> None:
    """Removes uploads of more than a week ago."""
    try:
        names = os.listdir(home.uploads)
    except FileNotFoundError:
        return
    for name in names:
        folder = os.path.join(home.uploads, name)
        try:
            old = time.time() - os.stat(folder).st_mtime > LONGEST
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)
