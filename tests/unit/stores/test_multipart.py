"""Large objects to S3 in parts: what is sent again after a death, what is kept of it, what is refused."""

from __future__ import annotations

import hashlib
import io
import os
import random
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from gridkeep.errors import StoreUnavailable
from gridkeep.stores.bucket import BucketStore
from gridkeep.stores.multipart import MOST_PARTS, PART, part_size
from gridkeep.stores.upload_journal import UploadJournal
from gridkeep.supervisor.settle import Changed
from gridkeep.supervisor.settle import Version as FileVersion
from tests.contract.places import Place
from tests.services import Service
from tests.support import wait_for

MIB = 2**20
PARTS = 6
pytestmark = pytest.mark.xdist_group("cloud")


@pytest.fixture
def place(s3: Service, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return Place("s3", f"s3://lab/{random.randrange(10**9)}", s3.endpoint, s3.environ)


class Watched:
    """A store in S3, and the requests of parts that it makes."""

    def __init__(self, place: Place, server: Service) -> None:
        opened = place.open()
        assert isinstance(opened, BucketStore)
        self.store, self._server, self._prefix = opened, server, opened.prefix
        self.parts: list[int] = []
        s3 = opened._bucket.s3
        assert s3 is not None
        s3().meta.events.register("provide-client-params.s3.UploadPart", self._note)

    def _note(self, params: dict[str, Any], **_: Any) -> None:
        self.parts.append(params["PartNumber"])

    def put(self, path: Path, journal: Path | None) -> str:
        """Puts the file as `k`, as a supervisor does; its SHA-256."""
        fd = os.open(path, os.O_RDONLY)
        try:
            version = FileVersion(fd)
            self.store.put("k", cast(BinaryIO, version), journal=str(journal) if journal else None)
            return version.sha256
        finally:
            os.close(fd)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.store.get("k"):
            digest.update(chunk)
        return digest.hexdigest()

    def ghosts(self) -> list[str]:
        listed = self._server.client().list_multipart_uploads(Bucket="lab", Prefix=self._prefix)
        return [upload["UploadId"] for upload in listed.get("Uploads", [])]


@pytest.fixture
def watched(place: Place, s3: Service) -> Watched:
    return Watched(place, s3)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Five parts and a bit."""
    path = tmp_path / "large"
    path.write_bytes(random.Random(7).randbytes((PARTS - 1) * PART + 5))
    return path


def noted(journal: Path) -> int:
    """Parts that the journal has, -1 before there is one."""
    begun = UploadJournal(str(journal)).read()
    return -1 if begun is None else len(begun.parts)


def kill_in_the_middle(place: Place, large: Path, journal: Path, parts: int) -> None:
    """Another process sends the file, and is killed when the journal has so many parts or a few more."""
    with place.worker("put", "k", str(large), str(journal)) as worker:
        wait_for(lambda: noted(journal) >= parts or worker.poll() is not None, every=0.001)
        worker.kill()
    assert worker.returncode == -9, "it was faster than the kill"


@pytest.mark.parametrize("parts", [0, 2])
def test_after_a_kill_only_what_is_missing_is_sent(
    place: Place, watched: Watched, large: Path, tmp_path: Path, parts: int
) -> None:
    journal = tmp_path / "journal"
    kill_in_the_middle(place, large, journal, parts)
    begun = UploadJournal(str(journal)).read()
    assert begun is not None and len(begun.parts) >= parts
    assert watched.put(large, journal) == hashlib.sha256(large.read_bytes()).hexdigest() == watched.digest()
    assert not set(watched.parts) & set(begun.parts)
    assert len(watched.parts) <= PARTS - len(begun.parts)
    assert not journal.exists()
    assert watched.ghosts() == []


def test_killed_again_and_again_it_comes_to_its_end(
    place: Place, watched: Watched, large: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    for parts in (1, 3):
        kill_in_the_middle(place, large, journal, parts)
        with journal.open("ab") as file:
            file.write(b'{"part": 6, "et')  # and the last line was not whole
    watched.put(large, journal)
    assert watched.digest() == hashlib.sha256(large.read_bytes()).hexdigest()
    assert len(watched.parts) <= PARTS - 3


def test_another_version_is_sent_whole_and_the_old_upload_goes(
    place: Place, watched: Watched, large: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    kill_in_the_middle(place, large, journal, 2)
    assert len(watched.ghosts()) == 1
    with large.open("r+b") as file:
        file.write(b"changed")
    watched.put(large, journal)
    assert watched.digest() == hashlib.sha256(large.read_bytes()).hexdigest()
    assert len(watched.parts) == PARTS
    assert watched.ghosts() == []


def test_a_part_that_is_not_of_these_bytes_is_sent_again(
    place: Place, watched: Watched, large: Path, tmp_path: Path
) -> None:
    """The same size, time and inode, and yet another content."""
    journal = tmp_path / "journal"
    kill_in_the_middle(place, large, journal, 3)
    begun = UploadJournal(str(journal)).read()
    assert begun is not None
    changed, times = min(begun.parts), large.stat()
    with large.open("r+b") as file:
        file.seek((changed - 1) * PART)
        file.write(b"changed")
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    watched.put(large, journal)
    assert watched.digest() == hashlib.sha256(large.read_bytes()).hexdigest()
    assert changed in watched.parts
    assert not set(watched.parts) & set(begun.parts) - {changed}


def test_an_upload_that_somebody_ended_begins_anew(
    place: Place, watched: Watched, large: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    kill_in_the_middle(place, large, journal, 2)
    watched.store.abandon("")
    assert watched.ghosts() == []
    watched.put(large, journal)
    assert watched.digest() == hashlib.sha256(large.read_bytes()).hexdigest()
    assert len(watched.parts) == PARTS


def test_an_upload_whose_last_answer_was_lost_is_known_again(
    watched: Watched, large: Path, tmp_path: Path
) -> None:
    journal, kept = tmp_path / "journal", tmp_path / "kept"
    s3 = watched.store._bucket.s3
    assert s3 is not None

    def keep(**_: Any) -> None:
        kept.write_bytes(journal.read_bytes())

    s3().meta.events.register("provide-client-params.s3.CompleteMultipartUpload", keep)
    watched.put(large, journal)
    assert len(watched.parts) == PARTS
    kept.rename(journal)  # as if the process had died after it
    assert watched.put(large, journal) == watched.digest()
    assert len(watched.parts) == PARTS
    assert not journal.exists()


def test_a_file_that_changes_while_it_is_sent_is_not_stored(
    watched: Watched, large: Path, tmp_path: Path
) -> None:
    """After its bytes were hashed, and before they are sent: the store refuses them."""
    watched.store.put("k", io.BytesIO(b"old"))
    s3 = watched.store._bucket.s3
    assert s3 is not None

    def change(params: dict[str, Any], **_: Any) -> None:
        if params["PartNumber"] == 2:
            with large.open("r+b") as file:
                file.seek(PART + 1000)
                file.write(os.urandom(10))

    s3().meta.events.register("provide-client-params.s3.UploadPart", change)
    with pytest.raises(Changed):
        watched.put(large, tmp_path / "journal")
    assert b"".join(watched.store.get("k")) == b"old"
    assert watched.ghosts() == []
    assert not (tmp_path / "journal").exists()


def test_a_file_that_is_cut_short_while_it_is_sent_is_not_stored(watched: Watched, large: Path) -> None:
    s3 = watched.store._bucket.s3
    assert s3 is not None
    s3().meta.events.register("provide-client-params.s3.UploadPart", lambda **_: os.truncate(large, 5))
    began = time.monotonic()
    with pytest.raises((Changed, StoreUnavailable)):
        watched.put(large, None)
    assert time.monotonic() - began < 20  # the server does not wait for what does not come
    assert watched.ghosts() == []


def test_a_source_that_is_no_file_leaves_no_ghost(watched: Watched) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20 * MIB:
                raise ValueError("mine")
            return super().read(size)

    with pytest.raises(ValueError, match="mine"):
        watched.store.put("k", Broken(bytes(40 * MIB)))
    assert watched.ghosts() == []


@pytest.mark.parametrize("size", [0, 1, PART, PART * MOST_PARTS, PART * MOST_PARTS + 1, 5 << 40])
def test_there_are_never_more_parts_than_may_be(size: int) -> None:
    assert PART <= part_size(size) <= 5 << 30
    assert part_size(size) * MOST_PARTS >= size
