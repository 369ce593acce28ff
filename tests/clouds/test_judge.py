"""The judge sees what it is there for: without this, all other tests here could be green for nothing."""

from __future__ import annotations

import pytest

from tests.clouds.judge import PREFIX, Place, digests, proven, script
from tests.e2e.support import submitted
from tests.support import Grid

FILES = {"a": 1000, "b": 70_000}


def test_the_judge_sees_what_is_wrong(able: Grid, place: Place) -> None:
    submitted(able, script(FILES), name="r")
    one = proven(able, place, "r", digests(FILES))
    key = f"{PREFIX}experiments/{one.experiment_id}/artifacts/a"
    kept = place.read(key.removeprefix(PREFIX))

    def refuted() -> None:
        with pytest.raises(AssertionError):
            proven(able, place, "r", digests(FILES))

    with pytest.raises(AssertionError):
        proven(able, place, "r", digests({**FILES, "c": 1}))
    place.client.put_object(Bucket=place.bucket, Key=key, Body=b"x" * len(kept))
    refuted()
    place.client.put_object(Bucket=place.bucket, Key=key, Body=kept)
    proven(able, place, "r", digests(FILES))
    place.client.put_object(Bucket=place.bucket, Key=f"{key}.stray", Body=b"")
    refuted()
    place.client.delete_object(Bucket=place.bucket, Key=f"{key}.stray")
    ghost = place.client.create_multipart_upload(Bucket=place.bucket, Key=key)["UploadId"]
    refuted()
    place.client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=ghost)
    proven(able, place, "r", digests(FILES))
