"""Large files on their way when something happens: whoever is killed, only what is missing is sent again; a file that
changes is sent as it ends; nobody pays for ghosts."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridkeep.model import State
from tests.clouds import proxy as faults
from tests.clouds.judge import (
    Place,
    check_stored,
    content,
    digests,
    ended,
    gone,
    looked_up,
    proven,
    script,
    waiting_for,
)
from tests.clouds.proxy import Seen
from tests.e2e.support import engines, kill, kill_everything, submitted, supervisors
from tests.support import Grid, processes_of, wait_for

MIB = 1 << 20
LARGE = {"large": 100 * MIB + 5}  # 7 parts
PARTS = 7
PART = "partNumber="
RATE = 12 * MIB  # bytes a second of a part


def parts(place: Place) -> list[tuple[int, Seen]]:
    """The requests that brought a part, with its number."""
    found = ((re.search(r"partNumber=(\d+)", one.path), one) for one in list(place.proxy.seen))
    return [(int(match[1]), one) for match, one in found if match]


def confirmed(place: Place) -> set[int]:
    """The parts that the server has confirmed."""
    return {number for number, one in parts(place) if one.status == 200}


def kill_supervisor(able: Grid) -> None:
    kill(supervisors(able))


def kill_with_engine(able: Grid) -> None:
    kill(engines(able) + supervisors(able))


@pytest.mark.parametrize(
    "blow", [kill_supervisor, kill_with_engine, kill_everything], ids=["supervisor", "engine", "all"]
)
def test_only_missing_parts_are_sent_again(blow: Callable[[Grid], None], able: Grid, place: Place) -> None:
    """Struck at three moments. The script has ended: so also when everything is killed it completes."""
    dice = random.Random(blow.__name__)
    place.proxy.strike(faults.slow(RATE / 3), method="PUT", path=f"{PART}6")  # the last blow comes before it
    place.proxy.strike(faults.slow(RATE), method="PUT", path=PART)
    submitted(able, script(LARGE), name="r")
    wait_for(lambda: looked_up(able, "r")[0].state is State.SYNCING or None, 60, what="the script's end")
    blows: list[tuple[float, set[int]]] = []  # when, and the parts that were confirmed by then
    for number in (1, 3, 5):
        wait_for(lambda number=number: len(confirmed(place)) >= number or None, 60)  # type: ignore[misc]
        time.sleep(dice.uniform(0, 0.3))
        blow(able)
        blows.append((time.monotonic(), set(confirmed(place))))
        able("status")  # whoever looks starts what is missing
        began = blows[-1][0]
        wait_for(lambda began=began: place.proxy.count(path="/large", since=began) or None, 60)  # type: ignore[misc]
    proven(able, place, "r", digests(LARGE))
    assert len(blows[0][1]) < PARTS, "it was over before anybody was killed"
    for killed, before in blows:
        again = {number for number, one in parts(place) if one.at > killed}
        assert not again & before, "parts that the server had were sent again"
    assert sorted(number for number, one in parts(place) if one.status == 200) == list(range(1, PARTS + 1))
    assert place.proxy.count("POST", r"\?uploads") == 1


def test_killed_between_the_end_of_an_upload_and_its_answer(able: Grid, place: Place) -> None:
    """The object is there, its supervisor does not know: nothing is sent again."""
    rule = place.proxy.strike(faults.hang_after, method="POST", path=r"\?uploadId=", times=1)
    submitted(able, script(LARGE), name="r")
    wait_for(lambda: (rule.struck and place.proxy.count("POST", r"\?uploadId=", reached=True)) or None, 60)
    wait_for(lambda: any(key.endswith("/large") for key in place.objects()) or None)
    kill(supervisors(able))
    killed = time.monotonic()
    place.proxy.let_go()
    proven(able, place, "r", digests(LARGE))
    assert place.proxy.count("PUT", PART, since=killed) == 0


def test_an_upload_that_vanished_begins_anew(able: Grid, place: Place) -> None:
    """Aborted behind our back, as a rule of the bucket does it."""
    slow = place.proxy.strike(faults.slow(RATE), method="PUT", path=PART)
    submitted(able, script(LARGE), name="r")
    wait_for(lambda: len(confirmed(place)) >= 2 or None, 60)
    for one in place.client.list_multipart_uploads(Bucket=place.bucket)["Uploads"]:
        place.client.abort_multipart_upload(Bucket=place.bucket, Key=one["Key"], UploadId=one["UploadId"])
    place.proxy.forgive(slow)
    proven(able, place, "r", digests(LARGE))


@pytest.mark.parametrize("size", [800_000, 40 * MIB], ids=["small", "large"])
def test_a_file_that_changes_while_it_is_sent(size: int, able: Grid, place: Place) -> None:
    """What was sent of it is thrown away; it ends as it is."""
    able = able.with_env(GRIDKEEP_STORE_TIMEOUT="60s")
    go = able.home.parent / "go"
    change = f"""
while not os.path.exists({str(go)!r}):
    time.sleep(0.02)
with open("changing", "r+b") as file:
    file.seek({size // 2})
    file.write(b"changed")
"""
    slow = place.proxy.strike(faults.slow(size // 4), method="PUT", path="/changing")
    submitted(able, script({"changing": size}, after=change), name="r")
    wait_for(lambda: place.proxy.count("PUT", "/changing") or None, 60)
    go.touch()
    wait_for(lambda: looked_up(able, "r")[0].state is State.SYNCING or None, 60, what="the script's end")
    check_stored(place, looked_up(able, "r")[1])
    place.proxy.forgive(slow)
    last = bytearray(content("changing", size))
    last[size // 2 : size // 2 + 7] = b"changed"
    proven(able, place, "r", {"changing": hashlib.sha256(last).hexdigest()})


def test_a_run_that_is_deleted_in_the_middle_leaves_no_ghost(able: Grid, place: Place) -> None:
    place.proxy.strike(faults.slow(RATE), method="PUT", path=PART)
    submitted(able, script(LARGE), name="r")
    wait_for(lambda: len(confirmed(place)) >= 1 or None, 60)
    able("delete", "--yes", "--force", "run", "r")
    wait_for(lambda: not processes_of(able.home) or None, 60, what="an idle home")
    assert (place.objects(""), place.uploads()) == (set(), [])


def test_two_supervisors_of_one_experiment(able: Grid, place: Place) -> None:
    """The second leaves at once, and the store has not heard of it."""
    slow = place.proxy.strike(faults.slow(RATE), method="PUT", path=PART)
    submitted(able, script(LARGE), name="r")
    wait_for(lambda: len(confirmed(place)) >= 1 or None, 60)
    first = supervisors(able)
    ulid = looked_up(able, "r")[0].experiment_id
    command = [sys.executable, "-m", "gridkeep.supervisor", str(able.home), ulid]
    second = subprocess.run(command, env=dict(able.env), cwd=Path("/"), timeout=60, capture_output=True)
    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
    assert supervisors(able) == first
    place.proxy.forgive(slow)
    proven(able, place, "r", digests(LARGE))
    assert place.proxy.count("POST", r"\?uploads") == 1
    assert place.proxy.count("PUT", "manifest.jsonl") == 1
    gone(able)


def test_files_that_could_not_be_stored_in_time_are_kept(able: Grid, place: Place) -> None:
    """`sync_timeout` ends while the store is away; `grid sync` sends what is missing, and no more."""
    slow = place.proxy.strike(faults.slow(RATE), method="PUT", path=PART)
    impatient = able.with_env(GRIDKEEP_SYNC_TIMEOUT="3s")
    submitted(impatient, script(LARGE), name="r")
    wait_for(lambda: len(confirmed(place)) >= 3 or None, 60)
    with place.proxy.away():
        waiting_for(able, "r", "cannot be reached")
        one = ended(able, "r")
        assert (one.state, one.outcome) == (State.FAILED, "sync")
        before = confirmed(place)
    place.proxy.forgive(slow)
    again = time.monotonic()
    able("sync", "r")
    proven(able, place, "r", digests(LARGE))
    assert place.proxy.count("PUT", PART, since=again) == PARTS - len(before)
