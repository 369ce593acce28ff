"""From a name or an id in an address to the run, experiment or artifact that is meant."""

from __future__ import annotations

import re

from gridkeep.catalog.base import Catalog
from gridkeep.errors import NotFound
from gridkeep.model import Artifact, Experiment, Run

_RUN = re.compile(r"[a-z0-9-]{1,80}|[a-z]{1,5}_[0-9a-z]{26}")
_EXPERIMENT = re.compile(r"[a-z0-9-]{1,90}")
_ARTIFACT = re.compile(r"art_[0-9a-z]{26}")


def find_run(catalog: Catalog, run_id: str) -> Run | None:
    """By id or name."""
    return catalog.run(run_id) if _RUN.fullmatch(run_id) else None


def id_of_run(catalog: Catalog, run_id: str) -> str | None:
    """The id of the same run, which costs less."""
    return catalog.run_id(run_id) if _RUN.fullmatch(run_id) else None


def the_run(catalog: Catalog, run_id: str) -> Run:
    """Raises NotFound, in Skyvern's words."""
    run = find_run(catalog, run_id)
    if run is None:
        raise NotFound(f"Task run not found {run_id}")
    return run


def the_experiment(catalog: Catalog, name: str) -> Experiment:
    """By name or ULID. Raises NotFound."""
    experiment = catalog.experiment(name) if _EXPERIMENT.fullmatch(name) else None
    if experiment is None:
        raise NotFound(f"Experiment not found {name}")
    return experiment


def with_run(catalog: Catalog, name: str) -> tuple[Experiment, Run]:
    """The same, with its run. Raises NotFound."""
    experiment = the_experiment(catalog, name)
    return experiment, the_run(catalog, experiment.run_id)


def the_artifact(catalog: Catalog, artifact_id: str) -> Artifact:
    """Raises NotFound."""
    artifact = catalog.artifact(artifact_id) if _ARTIFACT.fullmatch(artifact_id) else None
    if artifact is None:
        raise NotFound(f"Artifact not found {artifact_id}")
    return artifact
