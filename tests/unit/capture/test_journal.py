"""The journal's bytes: what goes in comes out, what is cut off waits, and a full disk costs whole records only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridkeep.capture.journal import ABSENT, Op, Record, Stamp, Writer, decode, encode

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
STAMPS = st.builds(Stamp, U64, U64, I64, I64, I64, st.integers(0, 2**32 - 1))
PATHS = st.tuples(st.binary(max_size=300), STAMPS)
RECORDS = st.builds(
    Record,
    st.sampled_from(Op),
    st.integers(0, 2**32 - 1),
    U64,
    I64,
    st.lists(PATHS, max_size=2).map(tuple),
    st.integers(0, 2**16 - 1),
)


def record(path: bytes, *, op: Op = Op.OPEN) -> Record:
    return Record(op, os.getpid(), 0, 1, ((path, ABSENT),))


def whole(data: bytes) -> list[Record]:
    return [each for _, each in decode(data)]


@given(st.lists(RECORDS, max_size=20))
def test_what_goes_in_comes_out(records):
    data = b"".join(map(encode, records))
    assert whole(data) == records
    ends = [offset for offset, _ in decode(data)]
    assert ends[-1:] == ([len(data)] if records else [])
    for end, left in zip(ends, range(len(records) - 1, -1, -1), strict=True):
        assert len(list(decode(data, end))) == left  # each offset is a place to go on from


@settings(max_examples=40)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_a_record_that_is_cut_off_waits_for_its_rest(records):
    data = b"".join(map(encode, records))
    starts = [0] + [offset for offset, _ in decode(data)]
    for cut in range(len(data) + 1):
        assert len(whole(data[:cut])) == sum(start <= cut for start in starts[1:])


def test_zeros_where_a_record_should_be_end_the_reading():
    """As a file system may leave them after a power cut."""
    assert whole(encode(record(b"/a")) + bytes(4096)) == [record(b"/a")]


@pytest.mark.parametrize("seconds", [10**11, -(10**11)])
def test_a_date_beyond_any_calendar_is_a_stamp_all_the_same(tmp_path, seconds):
    """`touch -d` and broken clocks make them; 64 bits of nanoseconds end in the year 2262."""
    st_mode, st_ino = 0o100644, 7
    fields = [st_mode, st_ino, 1, 1, 0, 0, 5, 0, 0, 0]
    exact = {"st_mtime_ns": seconds * 10**9, "st_ctime_ns": seconds * 10**9}
    stamp = Stamp.of(os.stat_result(fields, exact))
    ((_, back),) = decode(encode(record(b"/a")._replace(paths=((b"/a", stamp),))))
    assert back.paths == ((b"/a", stamp),)
    assert (back.paths[0][1].mtime_ns > 0) is (seconds > 0)


# ---------------------------------------------------------------------------------------------------------- no space

FILL = """
import itertools, json, os, sys
from gridkeep.capture.journal import ABSENT, Op, Record, Writer
writer, kept = Writer(sys.argv[1]), []
before = None
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for size, number in zip(itertools.cycle([3000, 100, 7, 900]), range(60)):
    path = b"/%d/" % number + b"x" * size
    if writer.append(Record(Op.OPEN, 1, 0, 0, ((path, ABSENT),))):
        kept.append(number)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
else:
    os.unlink(os.path.join(os.path.dirname(sys.argv[1]), "filler"))
kept.append(60)
assert writer.append(Record(Op.OPEN, 1, 0, 0, ((b"/60/", ABSENT),)))
print(json.dumps(kept))
"""


def numbers(journal: Path) -> list[int]:
    return [int(each.paths[0][0].split(b"/")[1]) for each in whole(journal.read_bytes())]


def fill(journal: Path, *args: str) -> list[int]:
    """The numbers of those of 61 records that a process says it could write, the last when there was space again."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, journal, *args], check=True, capture_output=True, text=True
    )
    return [int(number) for number in done.stdout.strip(" []\n").split(",")]


@pytest.mark.parametrize("limit", [1, 100, 5000, 16384, 20011])
def test_a_file_size_limit_drops_whole_records_only(tmp_path, limit):
    said = fill(tmp_path / "journal", str(limit))
    assert len(said) < 61, "the limit was not met"
    assert numbers(tmp_path / "journal") == said


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_full_disk_drops_whole_records_only(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip(f"this root may not mount: {mount.stderr.decode()}")
    try:
        (tmp_path / "filler").write_bytes(bytes(40 * 1024))
        said = fill(tmp_path / "journal")
        assert 1 < len(said) < 61, "the disk was not full in the middle"
        assert numbers(tmp_path / "journal") == said
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_record_torn_by_a_kill_is_cut_off_before_the_next(tmp_path):
    """SIGKILL can end a write between two pages. Who writes on mends the end first."""
    journal = tmp_path / "journal"
    first, torn = encode(record(b"/first")), encode(record(b"/torn" * 100))
    for cut in (1, 4, 20, len(torn) - 1):
        journal.write_bytes(first + torn[:cut])
        writer = Writer(str(journal))
        writer.mend()
        assert writer.append(record(b"/next"))
        assert whole(journal.read_bytes()) == [record(b"/first"), record(b"/next")]


def test_mending_a_journal_that_is_whole_changes_nothing(tmp_path):
    journal = tmp_path / "journal"
    data = b"".join(encode(record(b"/%d" % number)) for number in range(50_000))
    journal.write_bytes(data)
    Writer(str(journal)).mend()
    assert journal.read_bytes() == data


def test_two_writers_never_mix_their_records(tmp_path):
    """The shim and its guard, for an instant, both at work."""
    journal = tmp_path / "journal"
    pids = []
    for letter in (b"a", b"b"):
        if (pid := os.fork()) == 0:
            writer = Writer(str(journal))
            done = all(writer.append(record(b"/" + letter * size)) for size in range(1, 1500))
            os._exit(0 if done else 1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    paths = [each.paths[0][0] for each in whole(journal.read_bytes())]
    for letter in (b"a", b"b"):
        assert [path for path in paths if path[1:2] == letter] == [
            b"/" + letter * size for size in range(1, 1500)
        ]
    assert len(paths) == 2 * 1499
