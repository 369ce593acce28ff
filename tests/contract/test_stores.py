"""What every store must do. A new kind joins by adding its factory to `FACTORIES`; it is done when all of this passes."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gridkeep.errors import KeyConflict, ObjectExists, ObjectMissing, StoreError
from gridkeep.stores.base import Store
from gridkeep.stores.keys import artifact_key
from gridkeep.stores.local import LocalStore

ULID = "01jd0000000000000000000000"
MIB = 2**20


def local(folder: Path) -> Store:
    return LocalStore(str(folder / "store"), create=True)


# A factory opens the same store again when it is called again with the same folder.
FACTORIES: dict[str, Callable[[Path], Store]] = {"local": local}


@pytest.fixture(params=FACTORIES)
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return lambda: FACTORIES[request.param](tmp_path)


@pytest.fixture
def store(factory: Callable[[], Store]) -> Store:
    return factory()


def put(store: Store, key: str, content: bytes) -> None:
    assert store.put(key, io.BytesIO(content)).size == len(content)


def get(store: Store, key: str, **span: int) -> bytes:
    return b"".join(store.get(key, **span))


def keys(store: Store, prefix: str) -> set[str]:
    return {item.key for item in store.list(prefix)}


class Broken(io.BytesIO):
    """A source that gives a little and then fails with an error that must not be taken for the store's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"x" * 3 * MIB)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > MIB:
            raise self.error
        return super().read(size)


# --------------------------------------------------------------------------------------------------- bytes in and out


@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, MIB + 1, 5 * MIB + 7])
def test_what_was_put_comes_back(store: Store, size: int) -> None:
    content = os.urandom(size)
    info = store.put("a/b", io.BytesIO(content))
    assert (info.key, info.size) == ("a/b", size)
    chunks = list(store.get("a/b"))
    assert b"".join(chunks) == content
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    assert store.head("a/b") == info


def test_another_process_that_opens_the_store_sees_it(store: Store, factory: Callable[[], Store]) -> None:
    put(store, "a/b", b"one")
    assert get(factory(), "a/b") == b"one"


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 0), (0, 10), (3, 7), (9, 10), (10, None), (50, None), (3, 100), (7, 3)]
)
def test_ranges_are_those_of_slices(store: Store, start: int, end: int | None) -> None:
    put(store, "a", b"0123456789")
    assert b"".join(store.get("a", start=start, end=end)) == b"0123456789"[start:end]


def test_a_range_across_chunks(store: Store) -> None:
    content = os.urandom(4 * MIB)
    put(store, "a", content)
    assert get(store, "a", start=MIB - 3, end=3 * MIB + 5) == content[MIB - 3 : 3 * MIB + 5]


def test_what_is_not_there_is_said_at_once(store: Store) -> None:
    put(store, "folder/a", b"")
    for key in ("nothing", "folder", "folder/b", "folder/a/below"):
        with pytest.raises(ObjectMissing):
            store.get(key)
        with pytest.raises(ObjectMissing):
            store.head(key)


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a/.", "a/..", "a\0b"]
)
def test_keys_that_could_leave_the_store_are_refused(store: Store, key: str) -> None:
    for call in (
        lambda: put(store, key, b"x"),
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.delete([key]),
    ):
        with pytest.raises(StoreError):
            call()


# --------------------------------------------------------------------------------------------------------------- names

PATHS = [
    b"plain.txt",
    b"100% & more.txt",
    b"a#b?c*d~e+f;g[h]i|j<k>l\"m'n`o",
    b" leading and trailing ",
    "Überraschung/日本/😀.bin".encode(),
    b"-rf",
    b".hidden/.tmp/x",
    b"a:b@c=d,e",
    b"%2e%2e/%2f",
    b"n" * 240,
    b"n" * 255,
    b"new\nline",
    b"del\x7f",
    b"back\\slash",
    b"not-utf8-\xff\xfe",
    b"/".join([b"d" * 200] * 6),
    b"_abs/etc/hosts",
    b"_abs_work/x",
    b"_enc_work",
]


def test_names_of_every_kind(store: Store) -> None:
    for path in PATHS:
        put(store, artifact_key(ULID, path), path)
    wanted = {artifact_key(ULID, path): len(path) for path in PATHS}
    assert {item.key: item.size for item in store.list(f"experiments/{ULID}/artifacts/")} == wanted
    for path in PATHS:
        assert get(store, artifact_key(ULID, path)) == path


# ----------------------------------------------------------------------------------------------------- one version whole


def test_an_overwrite_is_seen_whole_or_not_at_all(store: Store) -> None:
    versions = [bytes([letter]) * (2 * MIB + letter) for letter in b"abcdef"]
    put(store, "k", versions[0])
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set():
            assert get(store, "k") in versions
            seen += 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for _ in range(5):
            for version in versions:
                put(store, "k", version)
        done.set()
        assert all(reader.result() for reader in readers)


def test_a_reader_keeps_the_version_that_it_began_with(store: Store) -> None:
    put(store, "k", b"a" * 3 * MIB)
    chunks = store.get("k")
    first = next(chunks)
    put(store, "k", b"b" * 3 * MIB)
    assert first + b"".join(chunks) == b"a" * 3 * MIB


def test_a_source_that_raises_leaves_the_old_object(store: Store) -> None:
    put(store, "a/k", b"old")
    for error in (
        ValueError("changed while it was read"),
        OSError(5, "Input/output error"),
        FileNotFoundError(2, "gone"),
    ):
        with pytest.raises(type(error)) as raised:
            store.put("a/k", Broken(error))
        assert raised.value is error
        with pytest.raises(type(error)):
            store.put("b/new", Broken(error))
    assert get(store, "a/k") == b"old"
    assert keys(store, "a/") | keys(store, "b/") == {"a/k"}


def test_put_if_absent_has_one_winner(store: Store) -> None:
    for turn in range(20):
        barrier = threading.Barrier(6)

        def attempt(number: int, key: str = f"race/{turn}", barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                store.put(key, io.BytesIO(b"%d" % number), if_absent=True)
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(attempt, range(6)))
        assert won.count(True) == 1
        assert get(store, f"race/{turn}") == b"%d" % won.index(True)


def test_a_put_that_is_killed_leaves_the_old_object(store: Store, factory: Callable[[], Store]) -> None:
    put(store, "a/k", b"old")
    context = multiprocessing.get_context("fork")
    for moment in (0.0, 0.002, 0.01, 0.05):
        begun = context.Event()

        def endless(begun: object = begun) -> None:
            class Source(io.BytesIO):
                def read(self, size: int | None = -1) -> bytes:
                    begun.set()  # type: ignore[attr-defined]
                    time.sleep(0.001)
                    return b"n" * MIB if self.seek(1, 1) < 2000 else b""

            factory().put("a/k", Source())

        child = context.Process(target=endless)
        child.start()
        assert begun.wait(20)
        time.sleep(moment)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    assert get(store, "a/k") == b"old"
    assert keys(store, "a/") == {"a/k"}
    store.check()


def test_puts_of_many_threads_into_new_folders(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(store, f"a/{n % 7}/{n % 3}/{n}", b"%d" % n), range(300)))
    assert len(keys(store, "a/")) == 300
    assert all(get(store, f"a/{n % 7}/{n % 3}/{n}") == b"%d" % n for n in range(300))


# ------------------------------------------------------------------------------------------------ listing and deleting


def test_a_listing_of_5000(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: put(store, f"e/{n % 50}/{n}", b"x" * (n % 9)), range(5000)))
    put(store, "elsewhere/x", b"")
    found = list(store.list("e/"))
    assert len(found) == 5000
    assert {(item.key, item.size) for item in found} == {(f"e/{n % 50}/{n}", n % 9) for n in range(5000)}
    assert {item.key for item in store.list("e/7/")} == {f"e/7/{n}" for n in range(7, 5000, 50)}


def test_a_prefix_with_nothing(store: Store) -> None:
    put(store, "ab/c", b"")
    assert keys(store, "a/") == set()
    assert keys(store, "ab/c/") == set()


def test_folders_are_the_names_right_below(store: Store) -> None:
    for key in ("e/a/1", "e/a/deep/2", "e/b/3", "e/file", "ea/4", "f/5", "top"):
        put(store, key, b"x")
    assert sorted(store.folders("e/")) == ["a", "b"]
    assert sorted(store.folders("e/a/")) == ["deep"]
    assert sorted(store.folders("")) == ["e", "ea", "f"]
    store.delete(["e/b/3"])
    assert sorted(store.folders("e/")) == ["a"]


def test_folders_where_there_is_nothing(store: Store) -> None:
    assert list(store.folders("")) == []
    put(store, "a/file", b"x")
    for prefix in ("nothing/", "a/", "a/file/", "nothing/below/"):
        assert list(store.folders(prefix)) == []


def test_delete_leaves_the_rest(store: Store) -> None:
    for key, size in {"a/b/c": 5, "a/b/d": 7, "a/e": 11, "f": 13}.items():
        put(store, key, b"x" * size)
    store.delete(["a/b/c", "a/b/nothing", "no/where", "a/b"])
    assert keys(store, "a/") == {"a/b/d", "a/e"}
    store.delete(["a/b/d", "a/e", "a/e"])
    assert keys(store, "a/") == set()
    assert get(store, "f") == b"x" * 13
    store.delete([])


def test_what_was_deleted_may_be_put_again_as_a_folder(store: Store) -> None:
    put(store, "a", b"1")
    store.delete(["a"])
    put(store, "a/b", b"2")
    store.delete(["a/b"])
    put(store, "a", b"3")
    assert get(store, "a") == b"3"


def test_puts_and_deletes_in_one_folder_at_once(store: Store) -> None:
    def work(thread: int) -> None:
        for turn in range(40):
            key = f"x/y/{thread}-{turn}"
            put(store, key, b"123")
            store.delete([key])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert keys(store, "x/") == set()


def test_a_file_where_a_folder_must_be(store: Store) -> None:
    """A bucket holds both; a folder store says that it cannot, and changes nothing."""
    put(store, "a", b"file")
    put(store, "f/x", b"in a folder")
    for key in ("a/b", "a/b/c", "f"):
        for if_absent in (False, True):
            try:
                store.put(key, io.BytesIO(b"new"), if_absent=if_absent)
                assert get(store, key) == b"new"
                store.delete([key])
            except KeyConflict:
                pass
    assert get(store, "a") == b"file"
    assert get(store, "f/x") == b"in a folder"


def test_check_leaves_nothing(store: Store) -> None:
    put(store, "a", b"")
    store.check()
    assert keys(store, "_probe/") == set()
    assert get(store, "a") == b""


def test_a_put_holds_a_few_mib(store: Store) -> None:
    import tracemalloc

    class Zeros(io.BytesIO):
        left = 64

        def read(self, size: int | None = -1) -> bytes:
            self.left -= 1
            return b"\0" * MIB if self.left >= 0 else b""

    tracemalloc.start()
    try:
        store.put("big", Zeros())
        digest = hashlib.sha256()
        for chunk in store.get("big"):
            digest.update(chunk)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert digest.hexdigest() == hashlib.sha256(b"\0" * 64 * MIB).hexdigest()
