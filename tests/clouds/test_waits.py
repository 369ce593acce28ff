"""What a run waits for, and what it says of that: no script waits for a store, and what is over is not waited for."""

from __future__ import annotations

import time
from pathlib import Path

from gridkeep.model import ArtifactState, State
from gridkeep.stores.keys import experiment_key
from tests.clouds import proxy as faults
from tests.clouds.judge import PREFIX, Place, digests, looked_up, proven, script, waiting_for
from tests.e2e.support import kill, submitted, supervisors
from tests.support import Grid, wait_for

MIB = 1 << 20
LARGE = {"large": 68 * MIB}  # 5 parts
PART = "partNumber="
SMALL = {f"small-{number}": 20_000 + number for number in range(200)}


# ----------------------------------------------------------------------------------------------- a store that hiccups


def test_what_is_over_is_said_when_the_next_part_is_confirmed(able: Grid, place: Place) -> None:
    """Not only when all of a large file is there; nor as long as the store takes nothing, though it answers."""
    refusal = place.proxy.strike(faults.INTERNAL, method="PUT", path=PART, skip=1)
    slow = place.proxy.strike(faults.slow(8 * MIB), method="PUT", path=PART)
    submitted(able, script(LARGE), name="r")
    waiting_for(able, "r", "is overloaded or failing")
    for _ in range(20):
        assert looked_up(able, "r")[0].waiting_for, "it said that the store takes parts, which it refuses"
        time.sleep(0.1)
    place.proxy.forgive(refusal)
    wait_for(lambda: looked_up(able, "r")[0].waiting_for is None or None, 60, what="that it waits no more")
    (large,) = looked_up(able, "r")[1]
    assert large.state is not ArtifactState.STORED, "it was over before anybody looked"
    place.proxy.forgive(slow)
    proven(able, place, "r", digests(LARGE))


# ------------------------------------------------------------------------------------------------- a run that begins


def test_a_script_begins_although_the_store_is_silent(able: Grid, place: Place) -> None:
    """It is silent from the submission on, for longer than anybody waits; then it hears of the run while that goes on."""
    able = able.with_env(GRIDKEEP_STORE_TIMEOUT="100s", GRIDKEEP_GROWING_INTERVAL="0.2s")
    begun, go = able.home.parent / "begun", able.home.parent / "go"
    place.proxy.strike(faults.hang, path="/experiments/")
    submitted(able, _waits(begun, go), name="r")
    wait_for(lambda: begun.exists() or None, 40, what="the script's begin")
    one = looked_up(able, "r")[0]
    assert one.state is State.RUNNING
    place.proxy.forgive()
    key = PREFIX + experiment_key(one.experiment_id)
    wait_for(lambda: key in place.objects() or None, 60, what="the record of a run that goes on")
    go.touch()
    proven(able, place, "r", digests({"a": 1000}))


def test_a_script_begins_although_the_store_is_away(able: Grid, place: Place) -> None:
    """Whoever takes over from a supervisor that was killed meanwhile tells the store of the run."""
    able = able.with_env(GRIDKEEP_GROWING_INTERVAL="0.2s")
    begun, go = able.home.parent / "begun", able.home.parent / "go"
    with place.proxy.away():
        submitted(able, _waits(begun, go), name="r")
        wait_for(lambda: begun.exists() or None, 40, what="the script's begin")
        kill(supervisors(able))
    able("status")
    key = PREFIX + experiment_key(looked_up(able, "r")[0].experiment_id)
    wait_for(lambda: key in place.objects() or None, 60, what="the record of a run that goes on")
    go.touch()
    proven(able, place, "r", digests({"a": 1000}))


def _waits(begun: Path, go: Path) -> str:
    """Writes a file, says that it has begun, and waits to be let go."""
    return script(
        {"a": 1000},
        after=f"""
os.mkdir({str(begun)!r})
while not os.path.exists({str(go)!r}):
    time.sleep(0.02)
""",
    )


# ------------------------------------------------------------------------------------------------------ small files


def test_killed_while_a_batch_of_small_files_is_on_its_way(able: Grid, place: Place) -> None:
    """Some are there, some were never answered, some not begun: all are there once in the end, and nothing beside them."""
    able = able.with_env(GRIDKEEP_STORE_TIMEOUT="60s")
    silence = place.proxy.strike(faults.hang, method="PUT", path="/small-", skip=20, every=2, times=6)
    submitted(able, script(SMALL), name="r")
    wait_for(lambda: silence.struck == 6 or None, 60, what="a batch under way")
    kill(supervisors(able))
    place.proxy.forgive()
    silence = place.proxy.strike(faults.hang_after, method="PUT", path="/small-", skip=20, every=2, times=6)
    able("status")  # whoever looks starts what is missing
    wait_for(lambda: silence.struck == 6 or None, 60, what="another")
    kill(supervisors(able))
    place.proxy.forgive()
    able("status")
    proven(able, place, "r", digests(SMALL))
