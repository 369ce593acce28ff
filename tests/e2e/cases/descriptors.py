"""Writing without a path: by mappings, databases, copies within the kernel, and descriptors that came from elsewhere."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sqlite3
import subprocess
import time

from .base import case, forked, put, wait_for_all, writer


@case()
def mapping_whose_descriptor_is_closed() -> None:
    writer("mmap", "new")
    with open("data", "r+b") as file:
        page = mmap.mmap(file.fileno(), 0)
    for number in range(20):  # the stamps do not follow
        page[number : number + 1] = b"X"
        time.sleep(0.02)
    page.close()


def fill(database: sqlite3.Connection, journal: str) -> None:
    database.execute(f"pragma journal_mode={journal}")
    for number in range(4):
        database.execute(f"create table t{number} (x)")
        database.executemany(f"insert into t{number} values (?)", [(x,) for x in range(2000)])
        database.commit()


@case(removed=(r"data\.db-journal",))
def sqlite_with_a_journal() -> None:
    database = sqlite3.connect("data.db")
    fill(database, "delete")
    database.close()


@case(removed=(r"data\.db-wal", r"data\.db-shm"), comes_and_goes=(r"data\.db-journal",))
def sqlite_with_a_wal() -> None:
    database = sqlite3.connect("data.db")
    fill(database, "wal")
    database.close()


@case(comes_and_goes=(r"data\.db-journal",))
def sqlite_killed() -> None:
    """In the middle of a transaction: the log and its map, which is written through memory only, stay behind."""

    def write() -> None:
        database = sqlite3.connect("data.db")
        fill(database, "wal")
        database.execute("insert into t0 values (1)")
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(write), 0)
    assert os.path.exists("data.db-wal")


@case()
def copies_within_the_kernel() -> None:
    source, size = os.open("data", os.O_RDONLY), os.path.getsize("data")

    def target(name: str) -> int:
        os.lseek(source, 0, os.SEEK_SET)
        return os.open(name, os.O_CREAT | os.O_WRONLY)

    assert os.copy_file_range(source, target("a"), size) == size
    assert os.sendfile(target("b"), source, 0, size) == size
    out, into = os.pipe()
    third, moved = target("c"), 0
    while moved < size:
        count = os.splice(source, into, size - moved)
        moved += count
        while count:
            count -= os.splice(out, third, count)
    os.posix_fallocate(target("d"), 0, 5000)


@case()
def descriptors_from_elsewhere() -> None:
    """Inherited, duplicated, and passed by a socket."""
    a = os.open("a", os.O_CREAT | os.O_WRONLY)
    subprocess.run(["sh", "-c", f"echo inherited >&{a}"], pass_fds=[a], check=True)
    os.write(os.dup(a), b"duplicated\n")
    ours, theirs = socket.socketpair()

    def receive() -> None:
        (fd,) = socket.recv_fds(theirs, 1, 1)[1]
        time.sleep(0.2)  # the sender has closed it by then
        os.write(fd, b"passed\n")

    child = forked(receive)
    b = os.open("b", os.O_CREAT | os.O_WRONLY)
    socket.send_fds(ours, [b"x"], [b])
    os.close(b)
    wait_for_all([child])


@case()
def opened_without_blocking() -> None:
    """While somebody holds a lease, such an open fails: nobody may hold one."""
    for number in range(100):
        for name in ("new", "old"):
            fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
            os.write(fd, b"%d\n" % number)
            os.close(fd)
        time.sleep(0.01)


@case()
def unlinked_and_linked_again() -> None:
    """A file whose name goes while it is open, and another comes under the same."""
    with open("a", "wb") as first:
        first.write(b"first\n")
        first.flush()
        os.link("a", "b")
        os.unlink("a")
        put("a", "second\n")
        first.write(b"and more\n")
