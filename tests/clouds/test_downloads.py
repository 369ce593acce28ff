"""Downloads through the same faults: whole and byte-identical, or an honest failure; never a file under its name that is not
what was recorded."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.clouds import proxy as faults
from tests.clouds.judge import Place, content, ended, script
from tests.clouds.proxy import Act
from tests.e2e.support import contents, submitted
from tests.support import Grid

MIB = 1 << 20
FILES = {**{f"small-{number}": 3000 * number for number in range(12)}, "large": 35 * MIB}
KEPT = {name.encode(): content(name, size) for name, size in FILES.items()}


@pytest.fixture
def kept(able: Grid) -> Grid:
    """A run `r` that has stored FILES."""
    submitted(able, script(FILES), name="r")
    assert ended(able, "r").state == "completed"
    return able


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def got(target: Path) -> dict[bytes, bytes]:
    """What lies there under its name."""
    return {
        path.removeprefix(b"r-exp0/"): data
        for path, data in contents(target).items()
        if not path.endswith(b".partial") and not path.startswith(b".gridkeep/")
    }


def same(found: dict[bytes, bytes], wanted: dict[bytes, bytes]) -> bool:
    """Compared without a word: nobody wants to see these bytes."""
    return found == wanted


STORMS: dict[str, list[Act]] = {
    "resets": [faults.reset_before, faults.reset_after],
    "refusals": [faults.SLOW_DOWN, faults.INTERNAL, faults.TOO_MANY],
    "cuts": [faults.cut_answer(3 * MIB + 7), faults.cut_answer(1000), faults.cut_answer(0)],
    "silence": [faults.hang, faults.hang_within(2 * MIB)],
}


def test_downloads_come_through(kept: Grid, place: Place, target: Path) -> None:
    some = r"/large|/small-[1-9]"  # the empty one has nothing to cut, and could be the one that all of them strike
    for storm, acts in STORMS.items():
        rules = [place.proxy.strike(act, method="GET", path=some, skip=1, every=4, times=3) for act in acts]
        kept("artifacts", "r-exp0", "--download_dir", target / storm)
        assert same(got(target / storm), KEPT), storm
        assert all(rule.struck for rule in rules), storm
        place.proxy.forgive()
        rules = [place.proxy.strike(act, method="GET", skip=1, every=3, times=1) for act in acts]
        done = kept("cat", "r-exp0:large", code=None)
        assert (done.returncode, done.stderr) == (0, ""), storm
        assert done.stdout_bytes == KEPT[b"large"], storm
        assert any(rule.struck for rule in rules), storm
        place.proxy.forgive()


def test_a_download_goes_on_where_the_store_went_away(kept: Grid, place: Place, target: Path) -> None:
    """It says so, keeps what it has, and the next one asks for the rest alone."""
    rule = place.proxy.strike(faults.DENIED, method="GET", path="/large", skip=3)  # more than go at once
    done = kept("artifacts", "r-exp0", "--download_dir", target, code=1)
    assert "large: The credentials give no right to read" in done.stderr
    assert same(got(target), {path: data for path, data in KEPT.items() if path != b"large"})
    part = (target / "r-exp0" / "large.partial").read_bytes()
    (note,) = (target / ".gridkeep").glob("*.json")
    lacks = json.loads(note.read_text())["missing"]
    starts, ends = [0, *(end for _, end in lacks)], [*(at for at, _ in lacks), len(part)]
    there = [slice(at, end) for at, end in zip(starts, ends, strict=True)]
    assert any(part[span] for span in there)
    assert all(same({b"": part[span]}, {b"": KEPT[b"large"][span]}) for span in there)
    place.proxy.forgive(rule)
    with place.proxy.away():
        done = kept("artifacts", "r-exp0", "--download_dir", target, code=1)
        assert "cannot be reached" in done.stderr
    seen = len(place.proxy.seen)
    kept("artifacts", "r-exp0", "--download_dir", target)
    assert same(got(target), KEPT)
    windows = [one for one in place.proxy.seen[seen:] if "/large" in one.path]
    assert len(windows) == sum(-(-(end - at) // (8 * MIB)) for at, end in lacks), (
        "what was there was asked for again"
    )
    assert not [one for one in place.proxy.seen[seen:] if "/small" in one.path]


def test_an_honest_failure(kept: Grid, place: Place, target: Path) -> None:
    """Of what the store does not give, nothing lies under its name; the exit status says so."""
    for act, words in (
        (faults.cut_answer(0), "cannot be reached"),
        (faults.SLOW_DOWN, "SlowDown"),
        (faults.NO_BUCKET, "There is no bucket"),
        (faults.EXPIRED, "have expired"),
    ):
        place.proxy.strike(act, method="GET", path="/large")
        done = kept("artifacts", "r-exp0", "--download_dir", target, code=1)
        assert words in done.stderr, act.__name__
        assert b"large" not in got(target)
        done = kept("cat", "r-exp0:large", code=1)
        assert words in done.stderr, act.__name__
        assert KEPT[b"large"].startswith(done.stdout_bytes)
        place.proxy.forgive()
    kept("artifacts", "r-exp0", "--download_dir", target)
    assert same(got(target), KEPT)


@pytest.mark.parametrize("act", [faults.hang, faults.hang_within(3 * MIB)], ids=["at once", "within"])
def test_a_silent_store_is_given_up(act: Act, kept: Grid, place: Place, target: Path) -> None:
    """After `download_timeout`, with what the others are; nobody waits for the threads that hang."""
    patient = kept.with_env(GRIDKEEP_DOWNLOAD_TIMEOUT="2s", GRIDKEEP_STORE_TIMEOUT="60s")
    place.proxy.strike(act, method="GET", path="/large")
    began = time.monotonic()
    done = patient("artifacts", "r-exp0", "--download_dir", target, code=1)
    assert time.monotonic() - began < 20, "it waited for more than the timeout"
    assert "large: no byte came for 2 s, so it was given up" in done.stderr
    assert same(got(target), {path: data for path, data in KEPT.items() if path != b"large"})
    place.proxy.forgive()
    kept("artifacts", "r-exp0", "--download_dir", target)
    assert same(got(target), KEPT)


def test_a_slow_line_is_not_taken_for_a_silent_one(kept: Grid, place: Place, target: Path) -> None:
    """As long as bytes come, nothing is given up, however few they are."""
    patient = kept.with_env(GRIDKEEP_DOWNLOAD_TIMEOUT="3s")
    place.proxy.strike(faults.slow(MIB), method="GET", path="/large")  # 8 s a window
    patient("artifacts", "r-exp0", "--download_dir", target)
    assert same(got(target), KEPT)


def test_an_object_that_is_not_what_was_recorded(kept: Grid, place: Place, target: Path) -> None:
    (key,) = [key for key in place.objects() if key.endswith("/large")]
    place.client.put_object(Bucket=place.bucket, Key=key, Body=os.urandom(35 * MIB))
    done = kept("artifacts", "r-exp0", "--download_dir", target, code=1)
    assert "large: its bytes in the store are not those that were recorded" in done.stderr
    assert b"large" not in got(target)
    done = kept("cat", "r-exp0:large", code=1)
    assert "not those that were recorded" in done.stderr
