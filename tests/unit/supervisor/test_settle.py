"""Is a file at rest, and one version of it read whole."""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.supervisor.settle import Changed, Rest, Version, open_for_reading, rest


@pytest.fixture(autouse=True)
def _no_sigio() -> Iterator[None]:
    """A broken lease sends SIGIO, which ends a process that does not ignore it; the supervisor does."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


def resting(path: Path) -> Rest:
    fd = open_for_reading(os.fsencode(path))
    try:
        return rest(fd)
    finally:
        os.close(fd)


def test_a_closed_file_rests(file):
    assert resting(file) is Rest.CLOSED


def test_a_reader_does_not_disturb(file):
    with file.open("rb"):
        assert resting(file) is Rest.CLOSED


def test_a_writer_is_seen(file):
    with file.open("ab"):
        assert resting(file) is Rest.WRITER
    assert resting(file) is Rest.CLOSED


def test_a_shared_mapping_whose_descriptor_is_closed_is_a_writer(file):
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 0)
    assert resting(file) is Rest.WRITER
    mapped.close()
    assert resting(file) is Rest.CLOSED


def test_the_lease_is_given_back(file):
    assert resting(file) is Rest.CLOSED
    fd = os.open(file, os.O_WRONLY | os.O_NONBLOCK)  # would fail with EAGAIN while a lease is held
    os.close(fd)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("file", path)])
def test_only_regular_files_are_opened(tmp_path, file, make):
    make(tmp_path / "odd")
    with pytest.raises(OSError):
        open_for_reading(os.fsencode(tmp_path / "odd"))


def test_a_version_is_hashed_as_it_is_read(file):
    fd = open_for_reading(os.fsencode(file))
    version = Version(fd)
    data = b"".join(iter(lambda: version.read(777), b""))
    assert data == file.read_bytes()
    assert version.sha256 == hashlib.sha256(data).hexdigest()
    os.close(fd)


def test_an_empty_file_is_a_version(tmp_path):
    (tmp_path / "empty").touch()
    fd = open_for_reading(os.fsencode(tmp_path / "empty"))
    version = Version(fd)
    assert version.read(10) == b""
    assert version.sha256 == hashlib.sha256().hexdigest()
    os.close(fd)


def _append(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"more")


def _rewrite(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.write(b"XXXX")


def _cut(path: Path) -> None:
    os.truncate(path, 100)


@pytest.mark.parametrize("change", [_append, _rewrite, _cut])
def test_a_change_while_it_is_read_is_seen_before_the_last_byte_is_given(file, change):
    fd = open_for_reading(os.fsencode(file))
    version = Version(fd)
    version.read(5000)
    change(file)
    with pytest.raises(Changed):
        while version.read(1000):
            pass
    os.close(fd)


def test_a_writer_at_the_end_is_seen_even_if_no_stamp_changed(file):
    fd = open_for_reading(os.fsencode(file))
    version = Version(fd)
    with file.open("ab"), pytest.raises(Changed):
        while version.read(4096):
            pass
    os.close(fd)


def test_an_appended_file_gives_a_true_prefix(file):
    fd = open_for_reading(os.fsencode(file))
    version = Version(fd, prefix=True)
    before = file.read_bytes()
    version.read(5000)
    _append(file)
    data = before[:5000] + b"".join(iter(lambda: version.read(1000), b""))
    assert data == before and version.sha256 == hashlib.sha256(before).hexdigest()
    os.close(fd)


def test_a_file_rewritten_meanwhile_gives_no_prefix(file):
    fd = open_for_reading(os.fsencode(file))
    version = Version(fd, prefix=True)
    version.read(5000)
    _rewrite(file)
    with pytest.raises(Changed):
        while version.read(1000):
            pass
    os.close(fd)


def test_holes_are_zeros(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as opened:
        for offset in (0, 5 << 20, (9 << 20) + 17):
            opened.seek(offset)
            opened.write(b"data")
        opened.truncate(12 << 20)
    fd = open_for_reading(os.fsencode(path))
    version = Version(fd)
    data = b"".join(iter(lambda: version.read(1 << 20), b""))
    assert data == path.read_bytes() and version.sha256 == hashlib.sha256(data).hexdigest()
    os.close(fd)
