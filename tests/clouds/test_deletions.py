"""Deletions that are cut off in a bucket: they go on with the credentials of whoever asked, or of whoever asks again."""

from __future__ import annotations

import os
import signal

import pytest

from gridkeep.model import State
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, digests, ended, looked_up, proven, script
from tests.e2e.clouds import without_credentials
from tests.e2e.support import contents, engines, explained, submitted
from tests.services import KEY, RENEWED
from tests.support import Grid, wait_for

FILES = {"a": 1000, "b": 3 << 20}
SECRET = b"gridkeepsecret"


@pytest.fixture
def cut_off(able: Grid, place: Place) -> Grid:
    """A run `r` whose deletion was killed when it had begun; no engine looks at it, and the bucket answers again."""
    submitted(able, script(FILES), name="r")
    proven(able, place, "r", digests(FILES))
    wait_for(lambda: not engines(able) or None, what="an idle home")
    silence = place.proxy.strike(faults.hang, method="POST", path=r"\?delete")
    deletion = able.start("delete", "--yes", "r")
    wait_for(lambda: silence.struck or None, what="the first objects that go")
    deletion.send_signal(signal.SIGKILL)
    deletion.wait()
    place.proxy.forgive()
    assert place.objects()
    return able


def holders(able: Grid) -> list[bytes]:
    """What in the home holds the secret."""
    return [path for path, content in contents(able.home).items() if SECRET in content]


def test_it_goes_on_with_the_credentials_of_who_asked(cut_off: Grid, place: Place) -> None:
    """Whoever starts the engine: here somebody who has none. While the store is silent again, others are not held up."""
    assert {os.path.dirname(path) for path in holders(cut_off)} == {b"deleting"}
    assert {path.stat().st_mode & 0o777 for path in (cut_off.home / "deleting").iterdir()} == {0o600}
    stranger = without_credentials(cut_off).with_env(GRIDKEEP_CLUSTER="local")
    silence = place.proxy.strike(faults.hang)
    submitted(stranger, "open('f', 'w').write('f')", name="l")
    wait_for(lambda: silence.struck or None, 60, what="another try to delete")
    assert ended(stranger, "l", timeout=30).state is State.COMPLETED
    place.proxy.forgive()
    wait_for(lambda: not place.objects() or None, 60, what="an empty bucket")
    wait_for(lambda: not os.listdir(cut_off.home / "deleting") or None, what="the end of the deletion")
    assert holders(cut_off) == []
    assert looked_up(cut_off, "l")[0].state is State.COMPLETED


def test_where_they_have_expired_it_goes_on_with_those_of_who_asks_again(cut_off: Grid, place: Place) -> None:
    place.proxy.strike(faults.EXPIRED, key=KEY)
    cut_off("status")  # whoever looks starts what is missing
    wait_for(lambda: "have expired" in (cut_off.home / "log/engine.log").read_text() or None, 60)
    (found,) = [one for one in cut_off.json("doctor", code=None) if one["name"] == "deletions"]
    assert found["text"] == "1 experiment not deleted to the end yet; `grid delete r` goes on with it"
    assert "have expired" in cut_off("delete", "--yes", "r", code=1).stderr
    key, secret = RENEWED
    renewed = cut_off.with_env(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    assert "Deleted 1 experiment, 5 objects" in renewed("delete", "--yes", "run", "r").stdout
    assert place.objects() == set()
    assert "There is no Run or experiment named r" in explained(renewed("delete", "--yes", "r", code=1))
    assert [one for one in renewed.json("doctor", code=None) if one["name"] == "deletions"] == []


def test_it_says_how_what_is_left_goes(able: Grid, place: Place) -> None:
    """When the right to delete is missing, which nobody can see before."""
    submitted(able, script(FILES), name="r")
    proven(able, place, "r", digests(FILES))
    refusal = place.proxy.strike(faults.DENIED, method="POST", path=r"\?delete")
    done = able("delete", "--yes", "r", code=1)
    assert "give no right to delete from" in done.stderr
    assert "`grid delete r` goes on with what is left, with the credentials of its shell." in done.stderr
    place.proxy.forgive(refusal)
    able("delete", "--yes", "r", code=None)  # the engine may have been faster
    wait_for(lambda: not place.objects() or None, 30, what="an empty bucket")
