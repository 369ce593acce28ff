"""What the SQL catalog asks of a database, and how a database gets to the newest version of its tables.

A new database is one small class with these methods. The SQL that it is given uses `?` for parameters and
otherwise only what SQLite and PostgreSQL read alike. Knows nothing of runs or artifacts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gridkeep.errors import HomeError

Row = tuple[Any, ...]

MIGRATIONS = os.path.join(os.path.dirname(__file__), "migrations")


class Database(Protocol):
    """One database, used from any thread. Waits where it is busy; raises CatalogError or its kin, never a
    driver's exception."""

    warning: str | None  # what the user should know of the place it lies in

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query, as of one moment."""
        ...

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Executes inside `writing`; the number of rows that it touched."""
        ...

    def run_many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Executes once for each, inside `writing`."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """All `rows` of this thread inside are as of one moment. Not to be nested."""
        ...

    def writing(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """A transaction that excludes every other writer from its first moment, so that what it reads
        stays true. Committed at the end, undone by an exception. Not to be nested. `durable`: it outlives a power
        cut as soon as it is committed; others may not, a moment after."""
        ...

    def version(self) -> int:
        """The number of the last migration applied; 0 when new."""
        ...

    def apply(self, script: str, version: int) -> None:
        """Executes the statements of a migration and sets the version, inside `writing`."""
        ...

    def close(self) -> None: ...


def migrate(database: Database, folder: str = MIGRATIONS) -> None:
    """Applies what is missing, a transaction each; any number of processes may do so at once. Raises
    HomeError when the database is newer than this program."""
    scripts = _scripts(folder)
    while (version := database.version()) < max(scripts):
        with open(os.path.join(folder, scripts[version + 1]), encoding="utf-8") as file:
            script = file.read()
        with database.writing():
            if database.version() == version:  # else another process was faster
                database.apply(script, version + 1)
    refuse_newer(database, folder)


def refuse_newer(database: Database, folder: str = MIGRATIONS) -> None:
    """Raises HomeError when the database is newer than this program; changes nothing in it."""
    version, newest = database.version(), max(_scripts(folder))
    if version > newest:
        raise HomeError(
            f"The catalog is of a newer gridkeep (its version is {version}, this one knows {newest}).",
            "Upgrade gridkeep, or set GRIDKEEP_HOME to another folder.",
        )


def _scripts(folder: str) -> dict[int, str]:
    """The names of the migrations by their numbers."""
    found = (re.fullmatch(r"(\d{4})_\w+\.sql", name) for name in os.listdir(folder))
    return {int(match[1]): match[0] for match in found if match}
