"""A large upload is half-way there when something else changes: whose credentials it goes on with, whether its file is still
there, whether its bucket is. What was sent is not sent again where it still counts, and nobody pays for the rest."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from gridkeep.model import State
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, digests, looked_up, proven, script, waiting_for
from tests.e2e.support import kill, submitted, supervisors
from tests.services import KEY, RENEWED
from tests.support import Grid, wait_for

MIB = 1 << 20
LARGE = {"large": 160 * MIB}
PARTS = set(range(1, 11))
PART = "partNumber="


@pytest.fixture
def go(able: Grid, place: Place) -> Path:
    """A run `r` whose file is on its way, with two parts or more confirmed; when `go` is there, its script ends."""
    path = able.home.parent / "go"
    place.proxy.strike(faults.slow(16 * MIB), method="PUT", path=PART)
    after = f"""
while not os.path.exists({str(path)!r}):
    time.sleep(0.02)
if open({str(path)!r}).read():
    os.remove("large")
"""
    submitted(able, script(LARGE, after=after), name="r")
    wait_for(lambda: len(confirmed(place)) >= 2 or None, 60, what="parts of it")
    return path


def confirmed(place: Place, since: float = 0.0) -> set[int]:
    """The numbers of the parts that the store has confirmed."""
    seen = [(re.search(r"partNumber=(\d+)", one.path), one) for one in list(place.proxy.seen)]
    return {int(match[1]) for match, one in seen if match and one.status == 200 and one.at >= since}


def test_credentials_that_expire_in_the_middle_of_an_upload(able: Grid, place: Place, go: Path) -> None:
    """With newer ones, only what is missing is sent."""
    place.proxy.forgive()
    place.proxy.strike(faults.EXPIRED, key=KEY)
    waiting_for(able, "r", "have expired")
    before, renewed = confirmed(place), time.monotonic()
    key, secret = RENEWED
    able.with_env(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)("sync", "r")
    go.touch()
    proven(able, place, "r", digests(LARGE))
    assert confirmed(place, renewed) == PARTS - before
    assert 2 <= len(before) < len(PARTS), "nothing was left to be sent, or everything"
    assert place.proxy.count("POST", r"\?uploads") == 1


def test_a_file_that_is_removed_in_the_middle_of_its_upload_leaves_no_ghost(
    able: Grid, place: Place, go: Path
) -> None:
    """Its supervisor is killed, and the next one has nothing to send."""
    kill(supervisors(able))
    assert place.uploads()
    go.write_text("remove it")
    wait_for(lambda: looked_up(able, "r")[0].state is not State.RUNNING or None, what="the script's end")
    able("status")  # whoever looks starts what is missing
    one = proven(able, place, "r", {})
    assert one.artifacts == 0
    assert place.proxy.count("DELETE", "uploadId=", reached=True)


def test_a_bucket_that_is_deleted_in_the_middle_of_an_upload(able: Grid, place: Place, go: Path) -> None:
    """While nothing is under way: what arrives later would make it again, in the server of these tests."""
    with place.proxy.away():
        waiting_for(able, "r", "cannot be reached")
        for found in place.client.list_multipart_uploads(Bucket=place.bucket)["Uploads"]:
            where = {"Bucket": place.bucket, "Key": found["Key"], "UploadId": found["UploadId"]}
            place.client.abort_multipart_upload(**where)
        for key in place.objects(""):
            place.client.delete_object(Bucket=place.bucket, Key=key)
        place.client.delete_bucket(Bucket=place.bucket)
    place.proxy.forgive()
    go.touch()
    waiting_for(able, "r", "There is no bucket")
    place.client.create_bucket(Bucket=place.bucket)
    proven(able, place, "r", digests(LARGE))


def test_the_manifest_is_the_last_that_is_put(able: Grid, place: Place) -> None:
    """After it nothing changes in the bucket any more."""
    submitted(able, script({"a": 10, "b": 3 * MIB}), name="r")
    proven(able, place, "r", digests({"a": 10, "b": 3 * MIB}))
    changes = [one for one in place.proxy.seen if one.method in ("PUT", "POST", "DELETE")]
    assert changes[-1].path.endswith("/manifest.jsonl")
    assert sum("/manifest.jsonl" in one.path for one in changes) == 1
