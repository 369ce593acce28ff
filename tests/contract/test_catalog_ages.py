"""What every catalog must do to list a run's artifacts in the order that they were made in. See `test_catalog`."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gridkeep.catalog.base import Catalog
from gridkeep.model import Artifact, ArtifactState, Experiment
from tests.contract.catalog_worker import stored
from tests.contract.catalogs import submit

TYPES = ("file", "file", "file", "har", "trace")


def fill(catalog: Catalog, experiments: list[Experiment], count: int, seed: int) -> list[Artifact]:
    """So many artifacts of any state and type; in bursts, as experiments write."""
    dice = random.Random(seed)
    made: list[Artifact] = []
    experiment = experiments[0]
    for number in range(count):
        if dice.random() < 0.2:
            experiment = dice.choice(experiments)
        artifact = stored(
            experiment.experiment_id, b"p%d" % dice.randrange(count), artifact_id=f"art_{number:05}"
        )
        artifact = replace(artifact, type=dice.choice(TYPES))
        if dice.random() < 0.3:
            artifact = replace(artifact, sha256=None, state=dice.choice(list(ArtifactState)))
        made.append(artifact)
    for each in experiments:
        catalog.record_artifacts(
            each.experiment_id, [one for one in made if one.experiment_id == each.experiment_id]
        )
    return made


@pytest.mark.parametrize("experiments", [1, 7])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("types", [None, ["har"], ["trace", "har", "none"], ["file", "har"], []])
def test_pages_give_all_in_order_of_id(
    catalog: Catalog, experiments: int, kept: bool, types: list[str]
) -> None:
    made = fill(catalog, submit(catalog, "a", experiments), 400, seed=experiments)
    fill_other = submit(catalog, "b")
    catalog.record_artifacts(
        fill_other[0].experiment_id, [stored(fill_other[0].experiment_id, b"x", artifact_id="art_00000x")]
    )
    wanted = [
        one.artifact_id for one in made if (one.sha256 or not kept) and (types is None or one.type in types)
    ]
    run_id = catalog.experiments(catalog.run("a").run_id)[0].run_id  # type: ignore[union-attr]
    for limit in (1000, 30, 1):
        found: list[str] = []
        while page := catalog.artifacts_by_age(
            run_id, after=found[-1] if found else "", limit=limit, kept=kept, types=types
        ):
            assert len(page) <= limit
            found += [one.artifact_id for one in page]
            if limit == 1 and len(found) > 20:
                break
        assert found == wanted[: len(found)] and (limit == 1 or len(found) == len(wanted))


def test_one_experiment_is_listed_by_its_ulid(catalog: Catalog) -> None:
    experiments = submit(catalog, "a", 2)
    made = fill(catalog, experiments, 50, seed=3)
    for each in experiments:
        wanted = [one.artifact_id for one in made if one.sha256 and one.experiment_id == each.experiment_id]
        assert [one.artifact_id for one in catalog.artifacts_by_age(each.experiment_id, limit=99)] == wanted


def test_what_is_being_deleted_is_not_listed(catalog: Catalog) -> None:
    first, second = submit(catalog, "a", 2)
    for each in (first, second):
        catalog.record_artifacts(each.experiment_id, [stored(each.experiment_id, b"x")])
    catalog.begin_delete([first.experiment_id])
    assert catalog.artifacts_by_age(first.experiment_id, limit=9) == []
    [left] = catalog.artifacts_by_age(first.run_id, limit=9)
    assert left.experiment_id == second.experiment_id
    assert catalog.artifacts_by_age("wr_nothing", limit=9) == []
