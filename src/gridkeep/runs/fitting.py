"""What files are called in a folder whose filesystem cannot hold all names that a run may use.

Linux's own filesystems keep every name as it is. Others (NTFS, FAT, network shares, ext4 with `casefold`) take `A` and `a`
for one file, or refuse some characters. There every file gets a name of its own all the same: a character that is refused is
written as `%3A`, and of names that fall together the first keeps its own, the others get a number that no other has:
`a~2.txt`. The same set of paths always gives the same names. Knows nothing of stores and catalogs.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

_CHARACTERS = '<>:"|?*\\'
_CONTROLS = frozenset(map(chr, range(1, 32)))
_ODD = f"{_CHARACTERS}\x01é日🙂 .".encode() + b"\xff."
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{i}" for kind in ("com", "lpt") for i in range(1, 10))}
)
_LONGEST = 255  # bytes of a name

_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Habits:
    """What a filesystem does to names; as it stands, nothing."""

    folds: bool = False  # A and a, or é in its two spellings, are one file
    refused: frozenset[str] = frozenset()  # characters
    only_ascii: bool = False
    only_utf8: bool = False
    not_last: frozenset[str] = frozenset()  # characters that cannot end a name
    devices: bool = False  # refuses `aux`, `con.txt` and the like

    @property
    def ordinary(self) -> bool:
        return self == Habits()

    def fitted(self, path: bytes) -> bytes:
        """The path, each of its names as one that the filesystem takes."""
        return b"/".join(map(self._fitted_name, path.split(b"/")))

    def _fitted_name(self, name: bytes) -> bytes:
        text = name.decode(errors="surrogateescape")
        written = [_escaped(char) if self._refuses(char) else char for char in text]
        if written[-1:] and written[-1] in self.not_last:
            written[-1] = _escaped(written[-1])
        if self.devices and text.partition(".")[0].lower() in _DEVICES:
            written[0] = _escaped(text[0])
        return _shortened("".join(written))

    def _refuses(self, char: str) -> bool:
        if "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8
            return self.only_utf8 or self.only_ascii
        return char in self.refused or (self.only_ascii and not char.isascii())

    def folded(self, path: bytes) -> bytes:
        """The same for all paths that the filesystem may take for one; rather for too many than for too few."""
        return _folded(path) if self.folds else path


def habits_of(folder: int) -> Habits:
    """Those of the filesystem of a folder, found by trying, in a folder below it. Raises OSError when none can be made."""
    name = f"{os.getpid()}-{next(_serial)}.probe"
    os.mkdir(name, 0o700, dir_fd=folder)
    probe = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        folds = _takes(probe, b"Aa") and _exists(probe, b"aA")
        folds = (_takes(probe, "é".encode()) and _exists(probe, "e\u0301".encode())) or folds
        if _takes(probe, _ODD) and _takes(probe, b"aux"):
            return Habits(folds=folds)
        refused = frozenset(char for char in _CHARACTERS if not _takes(probe, f"a{char}a".encode()))
        if not _takes(probe, b"a\x01a"):
            refused |= _CONTROLS
        return Habits(
            folds=folds,
            refused=refused,
            only_ascii=not _takes(probe, "é日🙂".encode()),
            only_utf8=not _takes(probe, b"a\xffa"),
            not_last=frozenset(char for char in ". " if not _takes(probe, f"a{char}".encode())),
            devices=not _takes(probe, b"aux"),
        )
    finally:
        os.close(probe)
        remove_probe(folder, name)


def remove_probe(folder: int, name: str) -> None:
    """Takes away what `habits_of` made, also one that was killed."""
    with suppress(OSError):
        shutil.rmtree(name, dir_fd=folder)


def _takes(folder: int, name: bytes) -> bool:
    """Whether a file can be made by that name, and has it then."""
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder))
    except OSError:
        return False
    return _folded(name) in {_folded(os.fsencode(each)) for each in os.listdir(folder)}


def _exists(folder: int, name: bytes) -> bool:
    with suppress(OSError):
        os.stat(name, dir_fd=folder)
        return True
    return False


def _folded(path: bytes) -> bytes:
    """Without case, spelling of accents, and what cannot be seen."""
    text = unicodedata.normalize("NFD", path.decode(errors="surrogateescape").upper().casefold())
    seen = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return seen.encode(errors="surrogateescape")


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogateescape"))


def _shortened(stem: str, end: str = "") -> bytes:
    """`stem` and `end`, the first cut where both together are no name any more."""
    while len(name := f"{stem}{end}".encode(errors="surrogateescape")) > _LONGEST:
        stem = stem[:-1]
    return name


# ------------------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies, and beside which other path (a folder's with a slash) if it had to make way."""

    path: bytes
    beside: bytes | None = None


@dataclass
class Names:
    """The places of a set of paths, kept on disk: a million of them need no memory."""

    habits: Habits
    changed: bool = False  # whether any path has another place than its own
    _rows: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)  # a temporary file that nobody else sees

    def find(self, paths: Iterable[bytes]) -> Names:
        """Finds the places of all of them; to be called once. Returns itself."""
        run, habits = self._rows.execute, self.habits
        run("CREATE TABLE file (path BLOB PRIMARY KEY, place BLOB, folded BLOB, beside BLOB) WITHOUT ROWID")
        run("CREATE TABLE folder (folded BLOB PRIMARY KEY, place BLOB) WITHOUT ROWID")
        run("BEGIN")
        last = b""
        for path in paths:
            place = habits.fitted(path)
            self.changed = self.changed or place != path
            run("INSERT OR IGNORE INTO file VALUES (?, ?, ?, NULL)", (path, place, habits.folded(place)))
            above = place.rpartition(b"/")[0]
            while above and not last.startswith(above + b"/"):
                run("INSERT OR IGNORE INTO folder VALUES (?, ?)", (habits.folded(above), above + b"/"))
                above = above.rpartition(b"/")[0]
            last = place
        run("CREATE INDEX by_folded ON file (folded, path)")
        run(
            "CREATE TABLE late AS SELECT path, place, coalesce("
            "(SELECT place FROM folder WHERE folder.folded = file.folded), "
            "(SELECT min(path) FROM file AS first WHERE first.folded = file.folded AND first.path < file.path)"
            ") AS rival FROM file WHERE rival IS NOT NULL ORDER BY path"
        )
        for path, place, beside in run("SELECT path, place, rival FROM late"):
            new = self._numbered(place)
            change = "UPDATE file SET place = ?, folded = ?, beside = ? WHERE path = ?"
            run(change, (new, habits.folded(new), beside, path))
            self.changed = True
        return self

    def place(self, path: bytes) -> Place:
        """Of one of the paths that they were found of; of another, its own."""
        found = self._rows.execute("SELECT place, beside FROM file WHERE path = ?", (path,)).fetchone()
        return Place(self.habits.fitted(path)) if found is None else Place(*found)

    def _numbered(self, place: bytes) -> bytes:
        above, slash, name = place.rpartition(b"/")
        stem, dot, suffix = name.decode(errors="surrogateescape").rpartition(".")
        if not stem:
            stem, dot, suffix = stem + dot + suffix, "", ""
        for number in itertools.count(2):
            new = above + slash + _shortened(stem, f"~{number}{dot}{suffix}")
            if not self._is_taken(self.habits.folded(new)):
                return new
        raise AssertionError("numbers do not end")

    def _is_taken(self, folded: bytes) -> bool:
        sql = "SELECT 1 FROM file WHERE folded = ? UNION ALL SELECT 1 FROM folder WHERE folded = ?"
        return self._rows.execute(sql, (folded, folded)).fetchone() is not None
