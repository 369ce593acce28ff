"""What only a store in a folder has: modes, links, disks that go away, files left by the killed."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridkeep.errors import KeyConflict, ObjectMissing, StoreDenied, StoreError, StoreUnavailable
from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(str(root), create=True)


def test_objects_are_plain_files_for_their_owner_only(store: LocalStore, root: Path) -> None:
    store.put("experiments/u/artifacts/a b.txt", io.BytesIO(b"hello"))
    file = root / "experiments/u/artifacts/a b.txt"
    assert file.read_bytes() == b"hello"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (root, root / "experiments", root / "experiments/u/artifacts", root / ".tmp"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert store.uri == f"file://{root}/"


def test_empty_folders_go_with_their_last_object(store: LocalStore, root: Path) -> None:
    store.put("a/b/c/d", io.BytesIO(b""))
    store.put("a/x", io.BytesIO(b""))
    store.delete(["a/b/c/d"])
    assert sorted(os.listdir(root / "a")) == ["x"]
    store.delete(["a/x"])
    assert os.listdir(root) == [".tmp"]


def test_nothing_of_a_failed_put_is_left(store: LocalStore, root: Path) -> None:
    store.put("a", io.BytesIO(b""))
    with pytest.raises(KeyConflict):
        store.put("a/b", io.BytesIO(b"x"))
    with pytest.raises(StoreError):
        store.put(".tmp/x", io.BytesIO(b"x"))
    assert os.listdir(root / ".tmp") == []


def test_a_planted_link_leads_nobody_out(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store.put("a/real", io.BytesIO(b"1"))
    (root / "a/link").symlink_to(outside / "secret")
    (root / "a/folder").symlink_to(outside)
    for key in ("a/link", "a/folder/secret"):
        with pytest.raises(ObjectMissing):
            store.get(key)
        with pytest.raises(ObjectMissing):
            store.head(key)
    assert [item.key for item in store.list("a/")] == ["a/real"]
    with pytest.raises(KeyConflict):
        store.put("a/folder/new", io.BytesIO(b"x"))
    store.put("a/link", io.BytesIO(b"mine"))
    assert (root / "a/link").read_bytes() == b"mine"
    store.delete(["a/folder/secret"])
    assert {name: (outside / name).read_text() for name in os.listdir(outside)} == {"secret": "secret"}


def test_a_planted_pipe_holds_nobody(store: LocalStore, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(ObjectMissing):
        store.get("pipe")


def test_a_store_that_is_away_looks_away_not_empty(store: LocalStore, root: Path) -> None:
    store.put("a", io.BytesIO(b"1"))
    away = root.with_name("elsewhere")
    root.rename(away)
    for call in (
        lambda: store.put("b", io.BytesIO(b"2")),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list("a/")),
        lambda: store.delete(["a"]),
        store.check,
    ):
        with pytest.raises(StoreUnavailable, match="is not there"):
            call()
    assert not root.exists()
    away.rename(root)
    store.put("b", io.BytesIO(b"2"))
    assert b"".join(store.get("a")) == b"1"


def test_a_full_disk(store: LocalStore, root: Path, tmp_path: Path) -> None:
    """A disk of 1 MiB, in a mount namespace of its own where that is allowed."""
    script = (
        "import io, os, sys\n"
        "from gridkeep.stores.local import LocalStore\n"
        "from gridkeep.errors import StoreFull\n"
        "store = LocalStore(sys.argv[1])\n"
        "store.put('small', io.BytesIO(b'old'))\n"
        "try:\n    store.put('small', io.BytesIO(b'x' * 2**22))\n"
        "except StoreFull:\n    print(b''.join(store.get('small')).decode(), os.listdir(sys.argv[1] + '/.tmp'))\n"
    )
    mount = f'mount -t tmpfs -o size=1m none {root} && exec {sys.executable} -c "$0" {root}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, script], capture_output=True, text=True, timeout=60
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.stdout.strip() == "old []", done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is denied to root")
def test_a_folder_that_may_not_be_written(store: LocalStore, root: Path) -> None:
    (root / "a").mkdir(mode=0o500)
    with pytest.raises(StoreDenied):
        store.put("a/b", io.BytesIO(b"x"))


@pytest.mark.parametrize("sweep", [LocalStore.check, lambda store: store.abandon("a/")])
def test_what_the_killed_left_goes_and_what_the_living_write_stays(
    store: LocalStore, root: Path, sweep: Callable[[LocalStore], object]
) -> None:
    store.check()

    class Swept(io.BytesIO):
        """Looked at by a sweeper while it is being put."""

        def read(self, size: int | None = -1) -> bytes:
            (root / ".tmp/left").write_text("killed before it had a folder")
            for dead in (root / ".tmp/dead.d", root / ".tmp/gone.d"):
                dead.mkdir()
                (dead / "0").write_text("x")
            (root / ".tmp/dead").touch()
            sweep(LocalStore(str(root)))
            lock, folder = sorted(os.listdir(root / ".tmp"))
            assert folder == f"{lock}.d" and os.listdir(root / ".tmp" / folder)
            return super().read(size)

    store.put("one", Swept(b"1"))
    assert not any(
        isinstance(each, Exception) for each in store.put_many([("a", Swept(b"2")), ("b", Swept(b"3"))])
    )
    assert sorted(item.key for item in store.list("")) == ["a", "b", "one"]
    assert os.listdir(root / ".tmp") == []


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "file://relative/path", "/plain/path", "", "s3://", "gs:///x"]
)
def test_only_known_schemes_are_opened(uri: str) -> None:
    with pytest.raises(StoreError, match="no such kind") as raised:
        open_store(Cluster(name="c", engine="local", store=uri))
    assert raised.value.hint


def test_a_uri_is_taken_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "my store %20 é"
    store = open_store(Cluster(name="c", engine="local", store=f"file://{folder}"), create=True)
    assert folder.is_dir()
    assert store.uri == f"file://{folder}/"
