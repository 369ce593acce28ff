"""What every catalog must do to find runs. See `test_catalog`."""

from __future__ import annotations

from itertools import combinations

import pytest

from gridkeep.catalog.base import Catalog
from gridkeep.model import State, derive_state
from tests.contract.catalogs import found_run, submit


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """A run for each pair of states, of two owners and kinds."""
    for number, pair in enumerate(combinations(State, 2)):
        kind, owner = ("script", "me") if number % 2 else ("browser", "you")
        for experiment, state in zip(
            submit(catalog, f"run-{number}", 2, kind=kind, owner=owner), pair, strict=True
        ):
            catalog.update_experiment(experiment.experiment_id, state=state)
    return catalog


def test_by_state_a_run_is_found_in_the_one_that_it_is_derived_to_be_in(filled: Catalog) -> None:
    everything = filled.find_runs(limit=999)
    assert everything == filled.runs(limit=999) and len(everything) == 15
    for state in State:
        wanted = [run.name for run in everything if derive_state(run.counts) is state]
        assert [run.name for run in filled.find_runs(states=[state], limit=999)] == wanted
    two = [run for run in everything if run.state in (State.SYNCING, State.FAILED)]
    assert filled.find_runs(states=[State.FAILED, State.SYNCING], limit=999) == two
    assert filled.find_runs(states=[], limit=999) == []


def test_by_owner_kind_and_part_of_the_name(filled: Catalog) -> None:
    everything = filled.find_runs(limit=999)
    assert filled.find_runs(owner="me", limit=999) == [run for run in everything if run.created_by == "me"]
    assert filled.find_runs(kinds=["browser"]) == [run for run in everything if run.kind == "browser"]
    assert filled.find_runs(kinds=["browser", "script"], limit=999) == everything
    assert [run.name for run in filled.find_runs(search="UN-13")] == ["run-13"]
    assert filled.find_runs(search=everything[3].run_id) == [everything[3]]
    for nothing in ("%", "_-", "run_1", "!", "é", "'"):
        assert filled.find_runs(search=nothing) == []


def test_pages_by_count_and_by_key(filled: Catalog) -> None:
    everything = filled.find_runs(limit=999)
    assert filled.find_runs(skip=3, limit=4) == everything[3:7]
    assert filled.find_runs(before=everything[6].run_id, limit=4) == everything[7:11]
    assert filled.find_runs(skip=99) == []


def test_the_outcome_that_those_who_decide_have_in_common(catalog: Catalog) -> None:
    first, second, third = submit(catalog, "a", 3)
    outcomes = []
    for experiment, outcome in ((first, "timeout"), (second, "timeout"), (third, "exit")):
        catalog.update_experiment(experiment.experiment_id, state=State.FAILED, outcome=outcome)
        outcomes.append(found_run(catalog).outcome)
    catalog.update_experiment(first.experiment_id, state=State.RUNNING, outcome=None)
    assert [*outcomes, found_run(catalog).outcome] == [None, None, None, None]
    submit(catalog, "b", 2)
    for experiment in catalog.experiments(found_run(catalog, "b").run_id):
        catalog.update_experiment(experiment.experiment_id, state=State.FAILED, outcome="timeout")
    assert found_run(catalog, "b").outcome == "timeout"
