"""The store is away, silent, forbidden or gone for a while: the run says so, waits, and goes on when that ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gridkeep.model import State
from gridkeep.stores.keys import output_log_key
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, check_stored, digests, ended, looked_up, proven, script, waiting_for
from tests.clouds.proxy import Act
from tests.e2e.support import explained, save, submitted
from tests.services import KEY, RENEWED
from tests.support import Grid, wait_for

MIB = 1 << 20
BEFORE = {"a": 1000, "b": 20 * MIB}
AFTER = {"c": 2000, "d": 3 * MIB, "e": 0}
ALL = digests({**BEFORE, **AFTER})
SOON = 15.0  # seconds after the trouble, by which tries go on


@pytest.fixture
def go(able: Grid) -> Path:
    """When this is there, the script of `begin` writes AFTER."""
    return able.home.parent / "go"


def begin(able: Grid, place: Place, go: Path, name: str = "r") -> None:
    """A run that has stored BEFORE, and waits."""
    rest = f"""
while not os.path.exists({str(go)!r}):
    time.sleep(0.05)
for name, size in {AFTER!r}.items():
    with open(name, "wb") as file:
        file.write(random.Random(name).randbytes(size))
"""
    submitted(able, script(BEFORE, after=rest), name=name)

    def stored() -> bool | None:
        artifacts = looked_up(able, name)[1]
        return {one.path for one in artifacts if one.state == "stored"} == {b"a", b"b"} or None

    wait_for(stored, 60, every=0.05, what="that what was written is stored")


def test_a_server_that_is_away_and_comes_back(able: Grid, place: Place, go: Path) -> None:
    """With the pauses between tries that people have."""
    able = able.with_env(GRIDKEEP_RETRY_MAX="15s")
    begin(able, place, go)
    with place.proxy.away():
        go.touch()
        one = waiting_for(able, "r", "cannot be reached")
        assert one.state in (State.RUNNING, State.SYNCING)
        time.sleep(8)
        assert looked_up(able, "r")[0].state is State.SYNCING
        check_stored(place, looked_up(able, "r")[1])
    back = time.time()
    one = proven(able, place, "r", ALL)
    assert (one.finished_at or 0) - back < SOON + 5, "it took its time"


@pytest.mark.parametrize("act", [faults.hang, faults.hang_after], ids=["before", "after"])
def test_a_server_that_falls_silent(act: Act, able: Grid, place: Place, go: Path) -> None:
    """In the middle of the run nothing answers any more, whatever is asked."""
    able = able.with_env(GRIDKEEP_STORE_TIMEOUT="1s")
    begin(able, place, go)
    place.proxy.strike(act)
    go.touch()
    waiting_for(able, "r", "did not answer in time")
    place.proxy.forgive()
    proven(able, place, "r", ALL)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (faults.DENIED, "give no right to write to"),
        (faults.EXPIRED, "have expired"),
        (faults.SLOW_DOWN, "is overloaded or failing (SlowDown)"),
    ],
    ids=["right withdrawn", "expired", "overloaded"],
)
def test_a_server_that_refuses_to_write_for_a_while(
    act: Act, words: str, able: Grid, place: Place, go: Path
) -> None:
    begin(able, place, go)
    rules = [place.proxy.strike(act, method="PUT"), place.proxy.strike(act, method="POST")]
    go.touch()
    one = waiting_for(able, "r", words)
    assert one.state in (State.RUNNING, State.SYNCING)
    check_stored(place, looked_up(able, "r")[1])
    place.proxy.forgive(*rules)
    forgiven = time.time()
    one = proven(able, place, "r", ALL)
    assert (one.finished_at or 0) - forgiven < SOON + 5


def test_credentials_that_expire_are_renewed_by_sync(able: Grid, place: Place, go: Path) -> None:
    begin(able, place, go)
    place.proxy.strike(faults.EXPIRED, key=KEY)
    go.touch()
    waiting_for(able, "r", "have expired")
    key, secret = RENEWED
    able.with_env(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)("sync", "r")
    proven(able, place, "r", ALL)


def test_credentials_that_expire_are_renewed_in_their_file(able: Grid, place: Place, go: Path) -> None:
    """As `aws sso login` or a cron job does it, without a word to us."""
    file = able.home.parent / "credentials"
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(text.format(KEY, place.environ()["AWS_SECRET_ACCESS_KEY"]))
    env = {name: value for name, value in able.env.items() if not name.startswith("AWS_")}
    env |= {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_ENDPOINT_URL": place.proxy.endpoint}
    of_file = Grid(able.command, able.home, able.cwd, env)
    begin(of_file, place, go)
    place.proxy.strike(faults.EXPIRED, key=KEY)
    go.touch()
    waiting_for(able, "r", "have expired")
    file.write_text(text.format(*RENEWED))
    renewed = time.time()
    one = proven(able, place, "r", ALL)
    assert (one.finished_at or 0) - renewed < SOON + 5


def test_wrong_credentials_are_said_at_once(able: Grid, place: Place) -> None:
    name = save(able, script(AFTER))
    for act, words in (
        (faults.DENIED, "give no right to"),
        (faults.refuse(403, "InvalidAccessKeyId"), "does not accept the credentials"),
        (faults.refuse(403, "SignatureDoesNotMatch"), "does not accept the credentials"),
        (faults.NO_BUCKET, "There is no bucket"),
        (faults.refuse(403, "RequestTimeTooSkewed"), "clock"),
    ):
        rule = place.proxy.strike(act)
        assert words in explained(able("run", name, code=1))
        place.proxy.forgive(rule)
    assert able.json("history") == able.json("status") == []
    assert place.objects() == set()


def test_the_bucket_is_deleted_and_made_again(able: Grid, place: Place, go: Path) -> None:
    """What it held is sent again from the working copy."""
    begin(able, place, go)
    for key in place.objects(""):
        place.client.delete_object(Bucket=place.bucket, Key=key)
    place.client.delete_bucket(Bucket=place.bucket)
    go.touch()
    one = waiting_for(able, "r", "There is no bucket")
    assert one.state in (State.RUNNING, State.SYNCING)
    place.client.create_bucket(Bucket=place.bucket)
    made = time.time()
    one = proven(able, place, "r", ALL)
    assert (one.finished_at or 0) - made < SOON + 5


def test_a_silent_store_keeps_nobody_from_the_files(able: Grid, place: Place, go: Path) -> None:
    """While a copy of the growing output log is not answered, files are noticed and stored, and a stop is heard."""
    able = able.with_env(GRIDKEEP_STORE_TIMEOUT="50s", GRIDKEEP_GROWING_INTERVAL="0.2s")
    output = place.proxy.strike(faults.hang, method="PUT", path="/output.log")
    write = f"""
print("said", flush=True)
while not os.path.exists({str(go)!r}):
    time.sleep(0.05)
open("late", "w").write("late")
time.sleep(600)
"""
    submitted(able, script({}, after=write), name="r")
    wait_for(lambda: output.struck or None, 60, what="a copy of the output log")
    go.touch()
    began = time.monotonic()
    wait_for(lambda: [one for one in looked_up(able, "r")[1] if one.state == "stored"] or None, 40)
    able("stop", "run", "r")
    wait_for(lambda: looked_up(able, "r")[0].state is State.SYNCING or None, 40)
    assert time.monotonic() - began < 40, "it waited for the store"
    place.proxy.forgive()
    assert ended(able, "r").state is State.STOPPED
    one, artifacts = looked_up(able, "r")
    check_stored(place, artifacts)
    assert place.read(output_log_key(one.experiment_id)) == b"said\n"
