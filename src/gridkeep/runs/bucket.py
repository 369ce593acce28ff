"""Where in its store an experiment's files lie, as people and other tools name that place."""

from __future__ import annotations

from gridkeep.runs.context import Context
from gridkeep.runs.select import Target
from gridkeep.stores.keys import artifacts_prefix


def bucket_path(context: Context, target: Target) -> str:
    """`s3://…/experiments/ULID/artifacts/`, `file:///…` on a local cluster: plain, works as printed with other
    tools. The store is not asked."""
    store = context.cluster(target.run.cluster).store.rstrip("/")
    return f"{store}/{artifacts_prefix(target.experiment.experiment_id)}"
