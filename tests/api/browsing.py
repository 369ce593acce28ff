"""What the tests of the pages share."""

from __future__ import annotations

from gridkeep.model import Artifact, ArtifactState, Experiment, new_ulid
from gridkeep.runs.context import Context


def many(context: Context, experiment: Experiment, paths: list[bytes]) -> None:
    """Artifacts in the catalog only."""
    artifacts = [
        Artifact(
            artifact_id=f"art_{new_ulid()}",
            experiment_id=experiment.experiment_id,
            path=path,
            state=ArtifactState.PENDING,
        )
        for path in paths
    ]
    context.catalog.record_artifacts(experiment.experiment_id, artifacts)
