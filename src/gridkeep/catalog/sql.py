"""The catalog on any SQL database: the contract of `base` in queries that SQLite and PostgreSQL both run.

Knows no driver (that is `database`'s). Each part of the contract has its module: `sql_runs`,
`sql_experiments`, `sql_artifacts`, `sql_deletion`, `sql_access`, `sql_shares`, `sql_find`; `sql_base` has what they share.
"""

from __future__ import annotations

from gridkeep.catalog.database import Database
from gridkeep.catalog.sql_access import AccessRecords
from gridkeep.catalog.sql_artifacts import ArtifactRecords
from gridkeep.catalog.sql_deletion import Deletion
from gridkeep.catalog.sql_experiments import ExperimentRecords
from gridkeep.catalog.sql_find import FindRuns
from gridkeep.catalog.sql_shares import ShareRecords


class SqlCatalog(FindRuns, ExperimentRecords, ArtifactRecords, Deletion, AccessRecords, ShareRecords):
    """A `Catalog` on a `Database`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._version = database.version()

    def is_newer(self) -> bool:
        return self._db.version() > self._version

    @property
    def warning(self) -> str | None:
        """What the user should know of the place that the catalog lies in."""
        return self._db.warning

    def close(self) -> None:
        self._db.close()
