"""The catalog on any SQL database: the contract of `base` in queries that SQLite and PostgreSQL both run.

Knows no driver (that is `database`'s). Each part of the contract has its module: `sql_runs`,
`sql_experiments`, `sql_artifacts`, `sql_deletion`; `sql_base` has what they share.
"""

from __future__ import annotations

from gridkeep.catalog.sql_artifacts import ArtifactRecords
from gridkeep.catalog.sql_deletion import Deletion
from gridkeep.catalog.sql_experiments import ExperimentRecords
from gridkeep.catalog.sql_runs import RunRecords


class SqlCatalog(RunRecords, ExperimentRecords, ArtifactRecords, Deletion):
    """A `Catalog` on a `Database`."""

    @property
    def warning(self) -> str | None:
        """What the user should know of the place that the catalog lies in."""
        return self._db.warning

    def close(self) -> None:
        self._db.close()
