"""Single requests go wrong, in the ways that networks and servers have: the run completes, exact to the byte."""

from __future__ import annotations

import pytest

from gridkeep.model import Experiment
from gridkeep.stores.keys import manifest_key
from gridkeep.supervisor import manifest
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, digests, proven, script
from tests.clouds.proxy import Act
from tests.e2e.support import experiment, submitted
from tests.support import Grid

MIB = 1 << 20
FILES = {
    **{f"small-{number}": 3000 * number for number in range(12)},
    "whole": 3 * MIB,
    "large": 35 * MIB,
}  # 3 parts
PART = "partNumber="

STORMS: dict[str, list[Act]] = {
    "resets": [faults.reset_before, faults.reset_after],
    "refusals": [faults.SLOW_DOWN, faults.INTERNAL, faults.TOO_MANY, faults.TIMED_OUT],
    "cuts": [faults.cut_request(9 * MIB + 7), faults.cut_request(1000), faults.cut_answer(10)],
}


@pytest.mark.parametrize("storm", STORMS)
def test_a_run_comes_through(storm: str, able: Grid, place: Place) -> None:
    rules = [place.proxy.strike(act, skip=8, every=5, times=6) for act in STORMS[storm]]
    submitted(able, script(FILES), name="r")
    proven(able, place, "r", digests(FILES))
    assert all(rule.struck for rule in rules), [(rule.act.__name__, rule.struck) for rule in rules]


@pytest.mark.parametrize("act", [faults.reset_after, faults.hang_after], ids=["reset", "silence"])
def test_answers_that_are_lost(act: Act, able: Grid, place: Place) -> None:
    """The server has done it, and nobody hears of it: of the beginning of an upload, a part, its end, and, until our own
    tries are over, of the manifest."""
    seldom = {
        "begin": r"\?uploads",
        "part": "partNumber=2",
        "end": r"\?uploadId=",
        "record": "experiment.json",
    }
    rules = [place.proxy.strike(act, method=None, path=path, times=1) for path in seldom.values()]
    rules.append(place.proxy.strike(act, method="PUT", path="manifest.jsonl", times=3))
    submitted(able, script(FILES), name="r")
    one = proven(able, place, "r", digests(FILES))
    assert [rule.struck for rule in rules] == [1, 1, 1, 1, 3]
    assert experiment(able, "r-exp0")["finished_at"] == str(_header(place, one)["finished_at"])
    assert "verified" in able("verify", "r").stdout


def _header(place: Place, one: Experiment) -> dict[str, object]:
    header, _ = manifest.read([place.read(manifest_key(one.experiment_id))])
    return header


def test_bytes_that_are_damaged_on_their_way(able: Grid, place: Place) -> None:
    """The server refuses a part that is not what its MD5 says."""
    rule = place.proxy.strike(faults.damage, method="PUT", path=PART, times=2)
    whole = place.proxy.strike(faults.damage, method="PUT", path="artifacts/whole", times=1)
    submitted(able, script(FILES), name="r")
    proven(able, place, "r", digests(FILES))
    assert (rule.struck, whole.struck) == (2, 1)
