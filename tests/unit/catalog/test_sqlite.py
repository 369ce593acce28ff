"""Opening and waiting: what is SQLite's own. The contract is tested in tests/contract/test_catalog.py."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gridkeep.catalog import sqlite
from gridkeep.catalog.sqlite import SqliteDatabase, open_catalog
from gridkeep.errors import CatalogError, HomeError
from gridkeep.model import Cluster
from tests.contract.catalogs import CatalogFactory, done, go

LOCAL = Cluster(name="local", engine="local", store="file:///store")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "catalog.db")


def test_the_file_is_for_its_owner_only(path):
    before = os.umask(0)
    try:
        catalog = open_catalog(path)
        catalog.put_cluster(LOCAL)
    finally:
        os.umask(before)
    modes = {name.name: name.stat().st_mode & 0o777 for name in Path(path).parent.iterdir()}
    assert modes == {"catalog.db": 0o600, "catalog.db-wal": 0o600, "catalog.db-shm": 0o600}
    assert catalog.warning is None
    catalog.close()


def test_a_name_that_is_not_utf8_can_be_the_home(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/h\xff ?#%")
    os.mkdir(folder)
    for _ in range(2):
        catalog = open_catalog(os.path.join(folder, "catalog.db"))
        catalog.put_cluster(LOCAL)
        catalog.close()
    assert os.listdir(folder) == ["catalog.db"]


def test_twenty_processes_open_a_fresh_file_at_once(path):
    factory = CatalogFactory("sqlite", path)
    for _ in range(3):
        workers = [factory.start("nothing") for _ in range(20)]
        go(*workers)
        assert [done(worker) for worker in workers] == [["opened"]] * 20
        for leftover in Path(path).parent.iterdir():
            leftover.unlink()


def test_a_process_killed_while_it_opens_leaves_a_file_that_opens(path):
    factory = CatalogFactory("sqlite", path)
    chance = random.Random(3)
    for _ in range(10):
        workers = [factory.start("nothing") for _ in range(2)]
        go(*workers)
        time.sleep(chance.random() * 0.006)
        for worker in workers:
            worker.kill()
            worker.communicate()
        catalog = open_catalog(path)
        catalog.put_cluster(LOCAL)
        assert catalog.clusters() == [LOCAL]
        catalog.close()
        for leftover in Path(path).parent.iterdir():
            leftover.unlink()


@pytest.mark.parametrize("network", [False, True])
def test_nobody_hears_that_the_file_is_locked(path, network):
    """Another process holds every lock there is; opening, reading and writing wait for it."""
    factory = CatalogFactory("sqlite on a network" if network else "sqlite", path)
    catalog = factory.open()
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    held = 0.7
    if network:
        blocker.execute("BEGIN EXCLUSIVE")
    else:
        catalog.close()
        blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(path, timeout=0).execute("SELECT * FROM clusters")
    release = threading.Timer(held, blocker.close)
    start = time.monotonic()
    release.start()
    other = factory.open()
    other.put_cluster(LOCAL)
    assert other.clusters() == [LOCAL]
    assert time.monotonic() - start > held, "it was not held up, so this proved nothing"
    release.join()
    other.close()
    catalog.close()


def test_a_commit_waits_for_readers_where_there_is_no_wal(path):
    factory = CatalogFactory("sqlite on a network", path)
    catalog = factory.open()
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM clusters").fetchall()
    release = threading.Timer(0.5, reader.close)
    start = time.monotonic()
    release.start()
    catalog.put_cluster(LOCAL)
    assert time.monotonic() - start > 0.5
    assert catalog.clusters() == [LOCAL]
    release.join()
    catalog.close()


def test_a_thread_that_waits_to_write_does_not_hold_up_one_that_reads(path):
    catalog = open_catalog(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=catalog.put_cluster, args=(LOCAL,))
    writer.start()
    time.sleep(0.1)
    start = time.monotonic()
    for _ in range(20):
        assert catalog.clusters() == []
    assert time.monotonic() - start < 1
    assert writer.is_alive()
    blocker.close()
    writer.join()
    assert catalog.clusters() == [LOCAL]
    catalog.close()


def test_an_end_comes_to_all_patience(path):
    assert SqliteDatabase.patience >= 60
    catalog = open_catalog(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    database = SqliteDatabase(path)
    database.patience = 0.2
    with pytest.raises(CatalogError, match=r"has been busy for 0\.2 s"), database.writing():
        raise AssertionError("another process was writing")
    blocker.close()
    with database.writing():
        pass
    database.close()
    catalog.close()


def test_a_newer_catalog_is_refused(path):
    open_catalog(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(HomeError, match="newer gridkeep") as refused:
        open_catalog(path)
    assert refused.value.hint is not None and "Upgrade gridkeep" in refused.value.hint


def test_what_is_no_catalog_is_refused_in_words(tmp_path, path):
    with pytest.raises(HomeError, match="No such file or directory"):
        open_catalog(str(tmp_path / "nowhere" / "catalog.db"))
    Path(path).write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(CatalogError, match="damaged"):
        open_catalog(path)
    Path(path).unlink()
    Path(path).mkdir()
    with pytest.raises(HomeError, match="cannot be used"):
        open_catalog(path)


def test_the_hint_for_a_damaged_one_is_the_way_out(path):
    Path(path).write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(CatalogError) as refused:
        open_catalog(path)
    rebuild = f"`grid catalog rebuild file://{os.path.dirname(path)}/store`"
    assert refused.value.hint is not None and rebuild in refused.value.hint


@pytest.mark.parametrize("replaced", [False, True])
def test_a_catalog_that_is_taken_away_is_not_used_any_more(path, replaced):
    catalog = open_catalog(path)
    for name in (path, f"{path}-wal", f"{path}-shm"):
        Path(name).unlink()
    if replaced:
        open_catalog(path).close()
    for action in (
        catalog.last_change,
        lambda: catalog.put_cluster(Cluster(name="a", engine="e", store="s")),
    ):
        with pytest.raises(HomeError, match="taken away or replaced") as refused:
            action()
        assert refused.value.hint is not None and "grid catalog rebuild" in refused.value.hint
    catalog.close()
    again = open_catalog(path)
    assert again.clusters() == []
    again.close()


def test_a_full_disk_is_told_as_such(path):
    database = SqliteDatabase(path)
    database.rows("PRAGMA max_page_count = 4")
    with pytest.raises(CatalogError, match="no space left"), database.writing():
        database.run("CREATE TABLE t (x)")
        database.run("INSERT INTO t VALUES (zeroblob(100000))")
    assert database.rows("SELECT * FROM sqlite_master") == [], "undone"
    database.close()


def test_a_network_file_system_is_told_from_others():
    mounts = [
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n",
        "28 1 0:55 / /home/o\\040k rw,relatime shared:1 master:2 - nfs4 server:/home rw,vers=4.2\n",
        "29 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n",
        "broken\n",
    ]
    assert sqlite._file_system(mounts, os.makedev(0, 55)) == "nfs4"
    assert sqlite._file_system(mounts, os.makedev(259, 1)) == "ext4"
    assert sqlite._file_system(mounts, os.makedev(0, 99)) is None
    assert {"nfs", "nfs4"} <= sqlite._NETWORK


def test_the_mounts_of_this_machine_can_be_read():
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no /dev/shm here")
    with open("/proc/self/mountinfo") as mounts:
        assert sqlite._file_system(mounts, os.stat("/dev/shm").st_dev) == "tmpfs"
    assert not sqlite._on_network("/dev/shm/catalog.db")


def test_on_a_network_there_is_no_wal_and_a_warning(path):
    open_catalog(path).close()  # in WAL, as if moved there
    for _ in range(2):
        database = SqliteDatabase(path, network=True)
        assert database.rows("PRAGMA journal_mode") == [("delete",)]
        assert database.warning is not None and "network file system" in database.warning
        database.close()


def test_opening_imports_nothing_slow():
    heavy = "import sys, gridkeep.catalog.sqlite as s; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in ("asyncio", "importlib.resources", "logging", "random", "rich", "subprocess", "yaml"):
        assert name not in loaded
