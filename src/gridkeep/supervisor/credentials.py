"""With whose credentials an experiment's store is opened: the submitter's, until newer ones are handed on.

The engine may have been started from another shell than the run, so its own environment says nothing. Of the environment
that a run was submitted with (`environ.json`), what opens a cloud's store is kept in a file of its own: what `--env`
gives the script is the script's, and `grid sync` writes that file anew. Both are readable by their owner only, and go with
the run's journal. Nothing of them gets into catalog, store or log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from gridkeep.errors import StoreDenied
from gridkeep.files import read_json, write_json
from gridkeep.model import Cluster
from gridkeep.settings import Home, Settings
from gridkeep.stores import open_store
from gridkeep.stores.base import ObjectInfo, Store
from gridkeep.stores.credentials import of_clouds
from gridkeep.supervisor.prepare import environ_file

_PAUSE = 5.0  # seconds before credentials that were refused are looked up again: files that they come from may be newer


def needs_credentials(cluster: Cluster) -> bool:
    """Whether its store is a cloud's."""
    return not cluster.store.startswith("file:")


def keep(home: Home, run_ulid: str, environ: Mapping[str, str]) -> None:
    """Keeps what of `environ` opens a cloud's store for the run, in place of what was kept before. Raises OSError."""
    write_json(_file(home, run_ulid), of_clouds(environ))


def environ_of(home: Home, run_ulid: str) -> Mapping[str, str]:
    """The environment to open the run's store with. Raises OSError."""
    for path in (_file(home, run_ulid), environ_file(home, run_ulid)):
        found: dict[str, str] | None = read_json(path)
        if found is not None:
            return found
    return os.environ


def _file(home: Home, run_ulid: str) -> str:
    return os.path.join(home.journal(run_ulid), "credentials.json")


def open_run_store(home: Home, settings: Settings, cluster: Cluster, run_ulid: str) -> Store:
    """The store of a run's cluster; that of a cloud with the run's credentials, whichever they are at the moment."""
    return _Renewed(home, settings, cluster, run_ulid) if needs_credentials(cluster) else open_store(cluster)


class _Renewed:
    """See `base.Store`. Opens the store when it is first needed, so that whatever is wrong with the credentials is a
    trouble of the store like any other; and anew when other credentials were kept, or when they were refused."""

    def __init__(self, home: Home, settings: Settings, cluster: Cluster, run_ulid: str) -> None:
        self.uri = cluster.uri
        self.prefix = self.uri.partition("://")[2].partition("/")[2]
        self._home, self._cluster, self._run_ulid = home, cluster, run_ulid
        self._timeout = settings.store_timeout
        self._lock = threading.Lock()
        self._opened: Store | None = None
        self._stamp: tuple[int, int] | None = None
        self._refused: float | None = None  # since when

    def put(
        self, key: str, source: BinaryIO, *, if_absent: bool = False, journal: str | None = None
    ) -> ObjectInfo:
        with self._current() as store:
            return store.put(key, source, if_absent=if_absent, journal=journal)

    def put_many(self, objects: Sequence[tuple[str, BinaryIO]]) -> Sequence[ObjectInfo | Exception]:
        with self._current() as store:
            answers = store.put_many(objects)
        if any(isinstance(answer, StoreDenied) for answer in answers):
            self._note_refusal()
        return answers

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._current() as store:
            yield from store.get(key, start=start, end=end)

    def head(self, key: str) -> ObjectInfo:
        with self._current() as store:
            return store.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._current() as store:
            yield from store.list(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        with self._current() as store:
            yield from store.folders(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        with self._current() as store:
            store.delete(keys)

    def abandon(self, prefix: str) -> None:
        with self._current() as store:
            store.abandon(prefix)

    def sign(self, keys: Sequence[str], expires: float) -> Sequence[str] | None:
        with self._current() as store:
            return store.sign(keys, expires)

    def check(self) -> None:
        with self._current() as store:
            store.check()

    @contextmanager
    def _current(self) -> Iterator[Store]:
        try:
            yield self._open()
        except StoreDenied:
            self._note_refusal()
            raise

    def _open(self) -> Store:
        with self._lock:
            stamp = _stamp(_file(self._home, self._run_ulid))
            again = self._refused is not None and time.monotonic() - self._refused > _PAUSE
            if self._opened is None or again or stamp != self._stamp:
                environ = environ_of(self._home, self._run_ulid)
                self._opened = open_store(self._cluster, environ=environ, timeout=self._timeout)
                self._stamp, self._refused = stamp, None
            return self._opened

    def _note_refusal(self) -> None:
        with self._lock:
            if self._refused is None:
                self._refused = time.monotonic()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
