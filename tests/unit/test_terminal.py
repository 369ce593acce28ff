import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.terminal import LiveLine, clip, duration, many, printable, size, width


@given(st.text() | st.binary())
def test_printable_never_drives_a_terminal(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # and has no half of a surrogate pair


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name, ü 日本", "plain name, ü 日本"),
        ("\x1b]0;evil\x07", "\\x1b]0;evil\\x07"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m", "\\x9b31m"),
        (b"caf\xe9", "caf\\xe9"),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "0d-00:00:00"), (0.9, "0d-00:00:00"), (141, "0d-00:02:21"), (93784, "1d-02:03:04")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_size(count, text):
    assert size(count) == text


def test_many():
    assert [many(n, "file") for n in (0, 1, 1234)] == ["0 files", "1 file", "1,234 files"]


@given(st.text(), st.integers(1, 40))
def test_clip_fits(text, columns):
    assert width(clip(text, columns)) <= columns
    assert clip(text, 10**6) == text


def test_no_live_line_where_there_is_no_terminal():
    stream = io.StringIO()
    with LiveLine(stream) as live:
        live.show("working")
    assert stream.getvalue() == ""
