"""A large file is filled by several lanes at once: exact, or not at all; and what is noted of it is true at every moment."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gridkeep.model import Artifact, ArtifactState
from gridkeep.runs.filling import LANES, LONGEST, MIB, SHORTEST, Mismatch, Span, fill
from gridkeep.runs.part import Part
from tests.support import wait_for

SIZE = 26 * MIB + 4321
CONTENT = random.Random(1).randbytes(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Source:
    """Gives `content` piece by piece, and has what it was asked for in `asked`."""

    def __init__(self, content: bytes = CONTENT, each: Callable[[int], None] = lambda at: None) -> None:
        self.content, self.each = content, each
        self.asked: list[Span] = []

    def __call__(self, start: int, end: int | None) -> Iterator[bytes]:
        stop = min(len(self.content), len(self.content) if end is None else end)
        self.asked.append((start, stop))
        for at in range(start, stop, 300_000):
            self.each(at)
            yield self.content[at : min(at + 300_000, stop)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def filled(file: int, source: Source, missing: Sequence[Span] = ((0, SIZE),), lanes: int = LANES) -> str:
    return fill(file, SIZE, missing, lanes, source, lambda size: None, lambda spans: None)


@pytest.mark.parametrize("lanes", [1, LANES, 7])
def test_all_of_it(file: int, tmp_path: Path, lanes: int) -> None:
    source = Source()
    assert filled(file, source, lanes=lanes) == SHA256
    assert sha256(tmp_path / "file") == SHA256
    asked = sorted(source.asked)
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])], (
        "each byte is asked for once"
    )
    assert asked[-1][1] == SIZE
    assert len(asked) == (1 if lanes == 1 else 4)


def test_spans_are_long_at_first_and_short_at_last(tmp_path: Path) -> None:
    source = Source(bytes(110 * MIB))
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    fill(descriptor, 110 * MIB, [(0, 110 * MIB)], LANES, source, lambda size: None, lambda spans: None)
    os.close(descriptor)
    lengths = [stop - start for start, stop in sorted(source.asked)]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-2]) == (LONGEST, SHORTEST)


def test_only_what_is_missing_is_asked_for_and_all_is_proven(file: int) -> None:
    missing = [(5, 9), (10 * MIB, 11 * MIB), (25 * MIB, SIZE)]
    os.pwrite(file, CONTENT, 0)
    for start, stop in missing:
        os.pwrite(file, bytes(stop - start), start)
    source = Source()
    assert filled(file, source, missing) == SHA256
    assert sorted(source.asked) == missing
    os.pwrite(file, b"\0\0\0", 12 * MIB)
    assert filled(file, Source(), missing) != SHA256, "what was there before is proven too"
    assert filled(file, Source(), []) != SHA256


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize(
    "content", [CONTENT[:-1], CONTENT + b"x", CONTENT[: 9 * MIB], b""], ids=["less", "more", "cut", "none"]
)
def test_an_object_of_another_size(file: int, content: bytes, lanes: int) -> None:
    with pytest.raises(Mismatch):
        filled(file, Source(content), lanes=lanes)


def test_a_file_that_is_shorter_than_was_noted(file: int) -> None:
    with pytest.raises(Mismatch):
        filled(file, Source(), [(0, MIB)])


def test_after_an_error_no_lane_writes(file: int, tmp_path: Path) -> None:
    """Not even one that wakes much later: the descriptor may be another file's by then."""
    hanging, go = threading.Event(), threading.Event()

    def each(at: int) -> None:
        if at == 8 * MIB:
            hanging.set()
            assert go.wait(30)
        if at == 0:
            assert hanging.wait(30)
            raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        filled(file, Source(each=each))
    before = sha256(tmp_path / "file")
    lanes = [thread for thread in threading.enumerate() if thread.name == "lane"]
    go.set()
    for lane in lanes:
        lane.join(30)
    assert not any(lane.is_alive() for lane in lanes)
    assert sha256(tmp_path / "file") == before


# ---------------------------------------------------------------------------------------------------------------- parts


def artifact() -> Artifact:
    return Artifact(
        artifact_id="art_1",
        experiment_id="e",
        path=b"f",
        state=ArtifactState.STORED,
        size=SIZE,
        sha256=SHA256,
    )


CHILD = """
import os, sys, time
from tests.unit.runs.test_filling import Source, LANES, Part, artifact
workshop = os.open(sys.argv[1], os.O_RDONLY)
def each(at):
    time.sleep(0.002)
    print(at, flush=True)
with Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
    part.complete(LANES, Source(each=each), lambda size: None)
    part.rename((workshop, b"whole"))
"""


@pytest.mark.parametrize("after", [1, 3, 30, 85])
def test_killed_at_any_moment_a_part_goes_on(tmp_path: Path, after: int) -> None:
    """Whatever it was doing: the note claims nothing that is not there, and what is there is not asked for again."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert child.stdout is not None
    for _ in range(after):
        assert child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    workshop = os.open(tmp_path, os.O_RDONLY)
    source, moved = Source(), list[int]()
    with Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        missing = list(part._missing)
        part.complete(LANES, source, moved.append)
        part.rename((workshop, b"whole"))
    os.close(workshop)
    assert sha256(tmp_path / "whole") == SHA256
    asked = sum(stop - start for start, stop in source.asked)
    assert asked == sum(stop - start for start, stop in missing), "it did not have to begin anew"
    assert asked <= SIZE - (after - LANES) * 300_000 * 9 // 10
    assert sum(moved) == SIZE
    assert os.listdir(tmp_path) == ["whole"]


@pytest.mark.parametrize(
    "lacks",
    ["[[5, 3]]", "[[0, 7], [3, 9]]", f"[[0, {SIZE + 1}]]", "[1]", '"x"', "null", "[[0]]"],
)
def test_a_note_that_makes_no_sense_is_not_believed(tmp_path: Path, lacks: str) -> None:
    (tmp_path / "note").write_text(f'{{"sha256": "{SHA256}", "size": {SIZE}, "missing": {lacks}}}')
    (tmp_path / "part").write_bytes(CONTENT)
    workshop = os.open(tmp_path, os.O_RDONLY)
    source = Source()
    with Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        part.complete(LANES, source, lambda size: None)
    os.close(workshop)
    assert sum(stop - start for start, stop in source.asked) == SIZE


def test_a_note_that_claims_too_much_is_found_out(tmp_path: Path) -> None:
    """As after a power cut: the note came to the disk, and bytes that it speaks of did not."""
    (tmp_path / "note").write_text(
        f'{{"sha256": "{SHA256}", "size": {SIZE}, "missing": [[{20 * MIB}, {SIZE}]]}}'
    )
    (tmp_path / "part").write_bytes(CONTENT[: 9 * MIB])
    workshop = os.open(tmp_path, os.O_RDONLY)
    with Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        part.complete(LANES, Source(), lambda size: None)
        part.rename((workshop, b"whole"))
    os.close(workshop)
    assert sha256(tmp_path / "whole") == SHA256


def test_an_error_leaves_what_came_and_a_second_reader_makes_its_own(tmp_path: Path) -> None:
    workshop = os.open(tmp_path, os.O_RDONLY)

    def each(at: int) -> None:
        if at >= 10 * MIB:
            wait_for(lambda: os.stat(tmp_path / "part").st_size >= 2 * MIB)
            raise OSError("no more")

    with pytest.raises(OSError), Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        with Part(workshop, (workshop, b"part"), b"note", artifact()) as other:
            other.complete(1, Source(), lambda size: None)
            other.rename((workshop, b"whole"))
        part.complete(LANES, Source(each=each), lambda size: None)
    assert sorted(os.listdir(tmp_path)) == ["note", "part", "whole"]
    with Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        assert list(part._missing) != [(0, SIZE)]
        part.complete(LANES, Source(), lambda size: None)
    with pytest.raises(Mismatch), Part(workshop, (workshop, b"part"), b"note", artifact()) as part:
        part.complete(LANES, Source(bytes(SIZE)), lambda size: None)
        assert list(part._missing) == [], "it was whole"
        os.pwrite(part.file, b"x", 0)
        part.complete(LANES, Source(bytes(SIZE)), lambda size: None)
    assert os.listdir(tmp_path) == ["whole"], "what is proven wrong is of no use"
    os.close(workshop)
