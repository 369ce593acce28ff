"""The SQL catalog on SQLite: one file in the home, opened by the processes of one machine.

Holds what is SQLite's own: opening, locks, waiting, and its errors in words. Knows no table. It is on the
start-up path of every command, so it imports little.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gridkeep.catalog.database import Row, migrate, refuse_newer
from gridkeep.catalog.sql import SqlCatalog
from gridkeep.errors import CatalogError, Conflict, GridError, HomeError

T = TypeVar("T")

_LONGEST_PAUSE = 0.03  # seconds between two tries
_CACHE_KIB = (
    16 * 1024
)  # of one connection; at 1,000,000 artifacts SQLite's own 2 MiB make writes in random order slow
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_REFUSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
)


def open_catalog(path: str) -> SqlCatalog:
    """The catalog in this file, made and brought to the newest version where needed; its folder must
    exist. Any number of processes may open it at once. Raises HomeError when it cannot be opened or is
    newer than this program, CatalogError when it is damaged."""
    database = SqliteDatabase(path, network=_on_network(path))
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlCatalog(database)


class SqliteDatabase:
    """A `Database` on one connection that threads take in turn. SQLite's own waiting is off: in places it
    gives up (opening, recovery), and it would hold up other threads; `_patiently` lets go of the
    connection between tries."""

    patience = 300.0  # seconds that another process is waited for

    def __init__(self, path: str, *, network: bool = False) -> None:
        self.warning: str | None = None
        self._path = path
        self._lock = threading.RLock()
        try:
            # By mknod: to open and close it ourselves would drop the locks of this process's other connections.
            os.mknod(path, 0o600)
        except FileExistsError:
            pass
        except OSError as error:
            raise HomeError(
                f"The catalog {path} cannot be made: {error.strerror}.",
                "Set GRIDKEEP_HOME to a folder that you can write.",
            ) from None
        try:
            self._connection = sqlite3.connect(
                os.fsencode(path), timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._in_words(error) from error
        self._file = _identity(path)
        try:
            refuse_newer(self)  # before anything is set: how it keeps its journal may have changed too
            self._set_up("delete" if network else "wal")
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self, wanted: str) -> None:
        [[journal]] = self.rows("PRAGMA journal_mode")
        if journal != wanted:
            [[journal]] = self.rows(f"PRAGMA journal_mode = {wanted}")
        if journal == "wal":
            # Safe against the death of processes, and whole after a power cut, without an fsync at each commit.
            self._synchronous = "NORMAL"
            self.rows("PRAGMA synchronous = NORMAL")
        else:
            self._synchronous = "FULL"
            self.warning = (
                f"The catalog {self._path} lies on a network file system: it is slower there, "
                "and only one machine may use it."
            )
        self.rows(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._patiently(lambda: self._connection.execute(sql, parameters).fetchall())

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._once(lambda: self._connection.execute(sql, parameters).rowcount)

    def run_many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self._once(lambda: self._connection.executemany(sql, parameters))

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[None]:
        if durable:
            self.rows("PRAGMA synchronous = FULL")
        try:
            with self._transaction("BEGIN IMMEDIATE"):
                yield
        finally:
            if durable:
                self.rows(f"PRAGMA synchronous = {self._synchronous}")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        def enter() -> None:
            self._connection.execute(begin)
            self._lock.acquire()  # kept until the transaction's end

        self._patiently(enter)
        try:
            yield
            self._patiently(self._connection.commit)
        except BaseException:
            self._connection.rollback()
            raise
        finally:
            self._lock.release()

    def version(self) -> int:
        [[version]] = self.rows("PRAGMA user_version")
        return int(version)

    def apply(self, script: str, version: int) -> None:
        for statement in script.split(";\n"):  # `executescript` would commit
            self.run(statement)
        self.run(f"PRAGMA user_version = {version}")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, tried again while another process is in the way."""
        give_up, pause = time.monotonic() + self.patience, 0.0005
        if _identity(self._path) != self._file:
            raise HomeError(
                f"The catalog {self._path} was taken away or replaced while it was in use.",
                "If it is lost, `grid catalog rebuild STORE_URI` brings it back from the store.",
            )
        while True:
            try:
                with self._lock:
                    return attempt()
            except sqlite3.Error as error:
                if _code(error) not in _BUSY or time.monotonic() > give_up:
                    raise self._in_words(error) from error
            time.sleep(pause * (0.5 + os.urandom(1)[0] / 512))  # jitter, without importing `random`
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns. Inside a transaction that has begun to write nothing is in the way."""
        try:
            return attempt()
        except sqlite3.Error as error:
            raise self._in_words(error) from error

    def _in_words(self, error: sqlite3.Error) -> GridError:
        name, code = f"The catalog {self._path}", _code(error)
        if isinstance(error, sqlite3.IntegrityError):
            return Conflict(
                f"{name} has this record already ({error}).", "Wait until its deletion has finished."
            )
        if code in _BUSY:
            return CatalogError(
                f"{name} has been busy for {self.patience:g} s.", "Look for a process that hangs."
            )
        if code in _DAMAGED:
            store = f"file://{os.path.dirname(self._path)}/store"
            hint = f"The store holds every file: move the catalog away, then `grid catalog rebuild {store}`."
            return CatalogError(f"{name} is damaged ({error}).", hint)
        if code == sqlite3.SQLITE_FULL:
            return CatalogError(
                f"There is no space left for the catalog {self._path}.", "Free some and try again."
            )
        if code in _REFUSED:
            return HomeError(f"{name} cannot be used ({error}).", "Check the permissions of the home.")
        return CatalogError(f"{name} failed ({error}).", "`grid doctor` says where it is.")


def _identity(path: str) -> tuple[int, int] | None:
    """Which file has that name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error is the module's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _on_network(path: str) -> bool:
    """Whether the file lies on a network file system. Those have no block device: the mounts are seldom
    read."""
    folder = os.path.dirname(path) or "."
    try:
        device = os.stat(folder).st_dev
        if os.major(device):
            return False
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            return _file_system(mounts, device) in _NETWORK
    except OSError:
        return False


def _file_system(mounts: Iterable[str], device: int) -> str | None:
    """The type of the mounted device, from the lines of proc(5)'s mountinfo."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        fields = line.split()
        if len(fields) > 6 and fields[2] == number and "-" in fields[6:]:
            return fields[fields.index("-", 6) + 1]
    return None
