"""The ledger: every file that the run touched and how far it has come, on disk beside the journal.

One SQLite file that only the experiment's supervisor opens. It can be killed at any moment: the offset up to which the
journal was read is committed together with what was read, so a new supervisor reads on from there. Knows nothing of
stores or catalogs; a million files never sit in memory.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

from gridkeep.capture.journal import Stamp
from gridkeep.supervisor.entry import COLUMNS, SMALL, Entry, Phase, entry_from, new_artifact_id, row_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    path BLOB PRIMARY KEY, artifact_id TEXT NOT NULL, listed BLOB, phase TEXT NOT NULL, reason TEXT, due REAL,
    pre_dev INTEGER, pre_ino INTEGER, pre_size INTEGER, pre_mtime_ns INTEGER, pre_ctime_ns INTEGER,
    first_at_ns INTEGER, opened INTEGER, proven INTEGER, renamed_to BLOB, leasable INTEGER, rewrites INTEGER,
    touched_at REAL, unsaved_since REAL, tries INTEGER,
    size INTEGER, sha256 TEXT, mtime_ns INTEGER, ctime_ns INTEGER, ino INTEGER, mode INTEGER, key TEXT, etag TEXT,
    partial INTEGER, summarized INTEGER, swept INTEGER, dirty INTEGER, published INTEGER,
    unsure INTEGER
);
CREATE INDEX IF NOT EXISTS entries_due ON entries (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_dirty ON entries (path) WHERE dirty;
CREATE INDEX IF NOT EXISTS entries_unsettled ON entries (phase) WHERE phase IN ('touched', 'growing', 'ready');
CREATE INDEX IF NOT EXISTS entries_listed ON entries (listed, artifact_id);
CREATE TABLE IF NOT EXISTS folders (
    path BLOB, phase TEXT, artifact_id TEXT, reason TEXT, count INTEGER, dirty INTEGER, PRIMARY KEY (path, phase)
);
CREATE TABLE IF NOT EXISTS forgotten (artifact_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS snapshot (
    path BLOB PRIMARY KEY, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value);
"""
_CONSTANT = ("path", "artifact_id", "listed")  # so that their indexes are left alone when an entry moves on
_MOVING = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _CONSTANT)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM entries"
_UNTOLD = f"""dirty AND phase <> 'unchanged' AND NOT (phase IN ('touched', 'ready') AND key IS NULL
    AND size <= {SMALL} AND touched_at > ?)"""
_TOGETHER = 50  # rows of one statement: between two of them other threads take the interpreter
_HELD = 5000  # entries in memory


def _put(count: int) -> str:
    row = f"({', '.join('?' * len(COLUMNS))})"
    return f"""INSERT INTO entries ({", ".join(COLUMNS)}) VALUES {", ".join([row] * count)}
        ON CONFLICT (path) DO UPDATE SET {_MOVING}"""


_PUT_ONE, _PUT_MANY = _put(1), _put(_TOGETHER)
_GET_MANY = f"{_SELECT} WHERE path IN ({', '.join('?' * _TOGETHER)})"


class Ledger:
    """See the module. Not for several threads. Raises sqlite3.Error only where the disk fails it (full, I/O).

    What a transaction puts is held in memory until somebody asks for more than single entries, or it ends; and for a while
    after that, for whoever asks for it again."""

    def __init__(self, path: str) -> None:
        self._held: dict[bytes, Entry | None] = {}  # as the ledger has them, and what it is still to have
        self._unwritten: dict[bytes, None] = {}  # in the order in which they came: neighbours share pages
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # whole after a power cut, if not the newest
        self._db.execute("PRAGMA cache_size=-8192")
        self._db.execute("PRAGMA temp_store=FILE")
        self._db.executescript(_SCHEMA)
        # A ledger that an earlier version began.
        if "ctime_ns" not in [row[1] for row in self._db.execute("PRAGMA table_info(snapshot)")]:
            self._db.execute("ALTER TABLE snapshot ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0")
        if "unsure" not in [row[1] for row in self._db.execute("PRAGMA table_info(entries)")]:
            self._db.execute("ALTER TABLE entries ADD COLUMN unsure INTEGER NOT NULL DEFAULT 0")
        # Monotonic times of a supervisor before us mean nothing: look at everything that is under way now.
        self._db.execute(
            "UPDATE entries SET due = 0, touched_at = 0, unsaved_since = 0 WHERE due IS NOT NULL"
        )
        self.resume()

    def resume(self) -> None:
        """Whatever was under way and forgotten is to be looked at again."""
        query = "UPDATE entries SET due = 0 WHERE phase IN ('touched', 'growing', 'ready') AND due IS NULL"
        self._change_all(query)

    def close(self) -> None:
        self._db.close()

    def make_durable(self) -> None:
        """All that was put down so far outlives a power cut."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; may be nested."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
            self._write()
            self._db.execute("COMMIT")
        except BaseException:
            self._unwritten.clear()
            self._held.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write(self) -> None:
        """Puts down what is held."""
        rows = [row_of(entry) for path in self._unwritten if (entry := self._held[path]) is not None]
        self._unwritten.clear()
        while len(rows) >= _TOGETHER:
            self._db.execute(_PUT_MANY, [value for row in rows[-_TOGETHER:] for value in row])
            del rows[-_TOGETHER:]
        for row in rows:
            self._db.execute(_PUT_ONE, row)

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Asks for more than one entry: of all of them."""
        self._write()
        return self._db.execute(sql, parameters)

    def _change_all(self, sql: str) -> None:
        """Changes more than one entry."""
        self._all(sql)
        self._held.clear()

    # --------------------------------------------------------------------------------------------------------- facts

    def fact(self, name: str, default: Any = None) -> Any:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def set_fact(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # ------------------------------------------------------------------------------------------------------- entries

    def get(self, path: bytes) -> Entry | None:
        if path not in self._held:
            row = self._db.execute(f"{_SELECT} WHERE path = ?", (path,)).fetchone()
            entry = None if row is None else entry_from(row)
            if not self._db.in_transaction:
                return entry
            self._hold(path, entry)
        return self._held[path]

    def fetch(self, paths: Iterable[bytes]) -> None:
        """Gets many at once, for this transaction."""
        wanted = [path for path in dict.fromkeys(paths) if path not in self._held]
        self._make_room(len(wanted))
        for at in range(0, len(wanted), _TOGETHER):
            some = wanted[at : at + _TOGETHER]
            found = dict.fromkeys(some)
            padded = some + [some[0]] * (_TOGETHER - len(some))
            for entry in map(entry_from, self._db.execute(_GET_MANY, padded)):
                found[entry.path] = entry
            self._held |= found

    def put(self, entry: Entry) -> None:
        # Noted before the catalog is told: who is killed in between must know what it may have to forget.
        entry.published = entry.published or entry.dirty
        if self._db.in_transaction:
            self._hold(entry.path, entry)
            self._unwritten[entry.path] = None
        else:
            self._held.pop(entry.path, None)
            self._db.execute(_PUT_ONE, row_of(entry))

    def _hold(self, path: bytes, entry: Entry | None) -> None:
        self._make_room(1)
        self._held[path] = entry

    def _make_room(self, count: int) -> None:
        if len(self._held) + count > _HELD:
            self._write()
            self._held.clear()

    def drop(self, entry: Entry) -> None:
        """Forgets a file that turned out to be none; the catalog hears of it if it had it."""
        self._unwritten.pop(entry.path, None)
        self._held.pop(entry.path, None)
        self._db.execute("DELETE FROM entries WHERE path = ?", (entry.path,))
        if entry.published:
            self.forget(entry.artifact_id)

    def forget(self, artifact_id: str) -> None:
        """The catalog is not to list this any more."""
        self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (artifact_id,))

    def noted(self, now: float) -> list[Entry]:
        """What this transaction has put and is to be looked at by now."""
        put = (self._held[path] for path in self._unwritten)
        return [entry for entry in put if entry is not None and entry.due is not None and entry.due <= now]

    def due(self, now: float, limit: int) -> list[Entry]:
        """What is to be looked at by now, the longest due first."""
        rows = self._all(f"{_SELECT} WHERE due <= ? ORDER BY due LIMIT ?", (now, limit))
        return [entry_from(row) for row in rows]

    def next_due(self) -> float | None:
        due: float | None = self._all("SELECT min(due) FROM entries WHERE due IS NOT NULL").fetchone()[0]
        return due

    def all_due(self) -> None:
        """Everything unsettled is to be looked at now."""
        self._change_all("UPDATE entries SET due = 0 WHERE phase IN ('touched', 'growing', 'ready')")

    def all_unsure(self) -> None:
        """Of everything the disk may have less than the store."""
        self._change_all("UPDATE entries SET unsure = 1")

    def unsettled(self) -> int:
        """How many files are not yet stored, missing, removed, ignored or unchanged."""
        query = "SELECT count(*) FROM entries WHERE phase IN ('touched', 'growing', 'ready')"
        return int(self._all(query).fetchone()[0])

    def below(self, folder: bytes) -> Iterator[Entry]:
        """All entries in a folder, however deep."""
        low, high = folder + b"/", folder + b"0"  # "0" follows "/"
        yield from map(
            entry_from, self._all(f"{_SELECT} WHERE path > ? AND path < ?", (low, high)).fetchall()
        )

    def settled(self) -> Iterator[Entry]:
        """All that had come to rest: stored, unchanged, removed, or no file. The ledger may be written meanwhile."""
        query = f"""{_SELECT} WHERE path > ? AND (phase IN ('stored', 'unchanged', 'removed') OR phase = 'ignored' AND
            (reason IN ('pipe', 'socket', 'device') OR reason LIKE 'symbolic link%')) ORDER BY path LIMIT 1000"""
        last = b""
        while rows := self._all(query, (last,)).fetchall():
            yield from map(entry_from, rows)
            last = rows[-1][0]

    def linked(self) -> Iterator[Entry]:
        """All that may be names of one file, or have been: their inodes have one number."""
        shared = "SELECT ino FROM entries WHERE ino > 0 GROUP BY ino HAVING count(*) > 1"
        yield from map(entry_from, self._all(f"{_SELECT} WHERE ino IN ({shared})").fetchall())

    def add_loss(self, reason: str) -> None:
        """A loss whose path is unknown."""
        number = self._all("SELECT count(*) FROM entries WHERE listed IS NULL").fetchone()[0]
        self.put(
            Entry(
                path=b"%d" % number,
                artifact_id=new_artifact_id(),
                listed=None,
                phase=Phase.MISSING,
                reason=reason,
                dirty=True,
            )
        )

    # --------------------------------------------------------------------------------------------- what the catalog lacks

    def dirty(self, limit: int, touched_by: float = inf) -> list[Entry]:
        """What the catalog lacks; of what is new, small and still on its way only that which was `touched_by` then."""
        query = f"{_SELECT} WHERE {_UNTOLD} ORDER BY path LIMIT ?"
        return [entry_from(row) for row in self._all(query, (touched_by, limit))]

    def dirty_folders(self) -> list[tuple[bytes, Phase, str, str, int]]:
        """(folder, phase, artifact_id, reason, count) of summaries that the catalog lacks."""
        query = "SELECT path, phase, artifact_id, reason, count FROM folders WHERE dirty"
        return [(row[0], Phase(row[1]), *row[2:]) for row in self._all(query)]

    def folders(self) -> list[tuple[bytes, Phase, str, str, int]]:
        """All summaries, as `dirty_folders`."""
        query = "SELECT path, phase, artifact_id, reason, count FROM folders ORDER BY path"
        return [(row[0], Phase(row[1]), *row[2:]) for row in self._all(query)]

    def forgotten(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT artifact_id FROM forgotten")]

    def published(self, entries: Sequence[Entry], touched_by: float, forgotten: Sequence[str]) -> None:
        """The catalog has these, which `dirty` has just given, as they are, and all folders' summaries."""
        if entries:
            query = f"UPDATE entries SET dirty = 0 WHERE {_UNTOLD} AND path <= ?"
            self._all(query, (touched_by, entries[-1].path))
        for entry in entries:
            if held := self._held.get(entry.path):
                held.dirty = False
        self._db.executemany("DELETE FROM forgotten WHERE artifact_id = ?", ((name,) for name in forgotten))
        self._db.execute("UPDATE folders SET dirty = 0 WHERE dirty")

    def unpublish(self) -> None:
        """The catalog has nothing: all that it shall list is to be sent again."""
        self._change_all(
            "UPDATE entries SET dirty = 1, published = 1 WHERE phase <> 'unchanged' AND NOT summarized"
        )
        self._db.execute("UPDATE folders SET dirty = 1")

    def kept(self) -> tuple[int, int, int]:
        """Files with bytes in the store that the run has not removed, their bytes, and missing files, as the catalog
        sums them up."""
        kept = "FILTER (WHERE sha256 IS NOT NULL AND phase <> 'removed')"
        query = f"""SELECT count(*) {kept}, COALESCE(sum(size) {kept}, 0), count(*) FILTER (WHERE phase = 'missing')
            FROM entries WHERE phase <> 'unchanged' AND NOT summarized"""
        files, size, missing = self._all(query).fetchone()
        return files, size, missing

    def count(self, phase: Phase) -> int:
        return int(self._all("SELECT count(*) FROM entries WHERE phase = ?", (phase,)).fetchone()[0])

    def summarize(self, entry: Entry, by: int = 1) -> None:
        """Lists the entry as one more (or, `by` -1, one less) of its folder, instead of by itself."""
        folder = os.path.dirname(entry.listed or b"") + b"/"
        self._all(
            "INSERT INTO folders VALUES (?, ?, ?, ?, ?, 1)"
            " ON CONFLICT (path, phase) DO UPDATE SET count = count + excluded.count, dirty = 1",
            (folder, entry.phase, new_artifact_id(), entry.reason, by),
        )
        entry.summarized = by > 0

    # -------------------------------------------------------------------------------------------------------- manifest

    def listed(self) -> Iterator[Entry]:
        """All entries that are artifacts, in the order of their listed paths, without holding them all."""
        query = f"{_SELECT} WHERE phase <> 'unchanged' AND NOT summarized ORDER BY listed, artifact_id"
        cursor = self._all(query)
        while rows := cursor.fetchmany(1000):
            yield from map(entry_from, rows)

    def unlike(self, listing: Iterable[tuple[str, int, str | None]]) -> tuple[list[Entry], list[str]]:
        """Entries with bytes in the store that a listing of it, (key, size, etag), does not have so; and the keys in it
        that no entry stands for."""
        with self.transaction():
            self._db.execute("CREATE TEMP TABLE listing (key TEXT PRIMARY KEY, size INTEGER, etag TEXT)")
            self._db.executemany("INSERT OR REPLACE INTO listing VALUES (?, ?, ?)", listing)
            query = f"""{_SELECT} WHERE sha256 IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM listing WHERE listing.key = entries.key AND listing.size = entries.size
                AND (listing.etag IS NULL OR listing.etag IS entries.etag))"""
            found = [entry_from(row) for row in self._all(query)]
            kept = "SELECT key FROM entries WHERE sha256 IS NOT NULL"
            strays = self._all(f"SELECT key FROM listing WHERE key NOT IN ({kept})").fetchall()
            self._db.execute("DROP TABLE listing")
        return found, [key for (key,) in strays]

    def path_listed_as(self, listed: bytes) -> bytes | None:
        row = self._all("SELECT path FROM entries WHERE listed = ? LIMIT 1", (listed,)).fetchone()
        return None if row is None else bytes(row[0])

    def without_file(self) -> set[str]:
        """The artifact_ids of losses whose paths are unknown, and of folders' summaries."""
        query = "SELECT artifact_id FROM entries WHERE listed IS NULL UNION SELECT artifact_id FROM folders"
        return {row[0] for row in self._all(query)}

    def paths_of_keys(self, prefix: str) -> dict[str, bytes]:
        """Of entries whose key begins so: key → path."""
        query = "SELECT key, path FROM entries WHERE substr(key, 1, ?) = ?"
        return dict(self._all(query, (len(prefix), prefix)))

    def totals(self) -> dict[str, int]:
        """`files`, `bytes`, `missing`, `ignored`, `removed`, and `swept` (found by the last sweep)."""
        found = {"files": 0, "bytes": 0, "missing": 0, "ignored": 0, "removed": 0, "swept": 0}
        kept = "FILTER (WHERE sha256 IS NOT NULL)"
        query = f"SELECT phase, count(*), count(*) {kept}, sum(size) {kept}, sum(swept) FROM entries GROUP BY phase"
        for phase, count, kept, size, swept in self._all(query):
            found["swept"] += swept or 0
            if phase in ("missing", "ignored", "removed"):
                found[phase] = count
            if phase not in ("ignored", "removed", "unchanged"):
                found["files"] += kept
                found["bytes"] += size or 0
        return found

    # -------------------------------------------------------------------------------------------------------- snapshot

    def take_snapshot(self, found: Iterable[tuple[bytes, os.stat_result]]) -> None:
        """Notes what there is before the script starts: everything in the folders that are looked through, and they."""
        with self.transaction():
            self._db.execute("DELETE FROM snapshot")
            rows = ((path, *_snapshot_row(st)) for path, st in found)
            self._db.executemany("INSERT INTO snapshot VALUES (?, ?, ?, ?, ?)", rows)

    def untouched(self, folder: bytes) -> Iterator[tuple[bytes, int]]:
        """Path and size of the files in a folder that no entry tells of, as the snapshot has them."""
        low, high = folder + b"/", folder + b"0"  # "0" follows "/"
        query = """SELECT path, size FROM snapshot WHERE ino > 0 AND path > ? AND path < ?
            AND path NOT IN (SELECT path FROM entries)"""
        yield from self._all(query, (low, high)).fetchall()

    def was_there(self, path: bytes) -> bool:
        """Whether something was there before the script started, as far as the snapshot tells."""
        return self._before(path) is not None

    def unseen_changes(
        self, found: Iterable[tuple[bytes, os.stat_result]], *, captured: bool
    ) -> Iterator[tuple[bytes, os.stat_result, Stamp]]:
        """Of what there is now, all that differs from the snapshot and that no entry tells of, with how it was. Where the
        run is `captured`, one that differs in its ctime alone was not written: its opening would have been seen."""
        for path, st in found:
            known = (
                self._held.get(path) or self._all("SELECT 1 FROM entries WHERE path = ?", (path,)).fetchone()
            )
            if known:
                continue
            before, now = self._before(path) or _NOTHING, _snapshot_row(st)
            if (before[:3] != now[:3]) if captured else (before != now):
                ino, size, mtime_ns, ctime_ns = before
                mode = stat.S_IFREG if ino else 0
                yield path, st, Stamp(st.st_dev, ino, size, mtime_ns, 0 if captured else ctime_ns, mode)

    def _before(self, path: bytes) -> tuple[int, int, int, int] | None:
        query = "SELECT ino, size, mtime_ns, ctime_ns FROM snapshot WHERE path = ?"
        row: tuple[int, int, int, int] | None = self._db.execute(query, (path,)).fetchone()
        return row


_NOTHING = (0, 0, 0, 0)


def _snapshot_row(st: os.stat_result) -> tuple[int, int, int, int]:
    """Inode, size, mtime and ctime; of a folder only when something in it last came or went."""
    stamp = Stamp.of(st)
    if stat.S_ISDIR(st.st_mode):
        return 0, 0, stamp.mtime_ns, 0
    return stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns
