"""From the ledger to the catalog and the manifest: how an entry is shown, and sending what the catalog lacks.

The ledger is ahead, the catalog lags: when the catalog does not answer, the entries stay dirty and are sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import inf

from gridkeep.catalog.base import Catalog
from gridkeep.errors import CatalogError
from gridkeep.model import Artifact, ArtifactState
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger

_BATCH = 5000
_SHOWN = {
    Phase.TOUCHED: ArtifactState.PENDING,
    Phase.READY: ArtifactState.PENDING,
    Phase.GROWING: ArtifactState.GROWING,
    Phase.STORED: ArtifactState.STORED,
    Phase.REMOVED: ArtifactState.REMOVED,
    Phase.MISSING: ArtifactState.MISSING,
    Phase.IGNORED: ArtifactState.IGNORED,
}


class Publisher:
    """For one experiment."""

    def __init__(self, ledger: Ledger, catalog: Catalog, experiment_id: str) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._id = experiment_id

    def publish(self, touched_by: float = inf) -> None:
        """Brings the catalog up to the ledger, but for what is new, still on its way and was not `touched_by` then. Raises
        CatalogError; nothing is lost by that."""
        while True:
            entries = self._ledger.dirty(_BATCH, touched_by)
            folders = self._ledger.dirty_folders()
            forgotten = self._ledger.forgotten()
            if not (entries or folders or forgotten):
                return
            artifacts = [self._artifact(entry) for entry in entries]
            artifacts += [self._summary(*folder) for folder in folders]
            self._catalog.record_artifacts(self._id, artifacts, forgotten)
            with self._ledger.transaction():
                self._ledger.published(entries, touched_by, forgotten)
            if len(entries) < _BATCH:
                return

    def publish_all(self) -> None:
        """As `publish`, and sees to it that the catalog sums up to what the ledger says: one that is older than the ledger
        lacks what it was told before."""
        self.publish()
        found = self._catalog.experiment(self._id)
        if found is not None and (found.artifacts, found.bytes, found.missing) != self._ledger.kept():
            self._ledger.unpublish()
            self.publish()

    def remind(self) -> None:
        """All is to be sent again where the catalog has nothing: it was lost, and rebuilt without what is under way."""
        with suppress(CatalogError):
            if not self._catalog.artifacts(self._id, limit=1):
                self._ledger.unpublish()

    def artifacts(self) -> Iterator[Artifact]:
        """All of the experiment, sorted by listed path: what the manifest says."""
        folders = iter(self._ledger.folders())
        folder = next(folders, None)
        for entry in self._ledger.listed():
            while folder is not None and (entry.listed or b"") > folder[0]:
                yield self._summary(*folder)
                folder = next(folders, None)
            yield self._artifact(entry)
        while folder is not None:
            yield self._summary(*folder)
            folder = next(folders, None)

    def _artifact(self, entry: Entry) -> Artifact:
        return Artifact(
            artifact_id=entry.artifact_id,
            experiment_id=self._id,
            path=entry.listed,
            state=_SHOWN[entry.phase],
            size=entry.size,
            sha256=entry.sha256,
            mtime_ns=entry.mtime_ns,
            mode=entry.mode,
            reason=entry.reason,
            key=entry.key,
            etag=entry.etag,
        )

    def _summary(self, folder: bytes, phase: Phase, artifact_id: str, reason: str, count: int) -> Artifact:
        return Artifact(
            artifact_id=artifact_id,
            experiment_id=self._id,
            path=folder,
            state=_SHOWN[phase],
            reason=reason,
            count=count,
        )
