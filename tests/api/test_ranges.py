"""Parts and conditions of RFC 9110, by the rules alone."""

from __future__ import annotations

import pytest

from gridkeep.api.ranges import Part, http_date, part_of

SIZE, ETAG, AT = 1000, '"abc"', 1_700_000_000.5
WHOLE = Part(200, 0, SIZE)


def asked(method: str = "GET", *, size: int = SIZE, modified: float | None = AT, **headers: str) -> Part:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return part_of(method, named, size=size, etag=ETAG, modified=modified)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bytes=0-499", Part(206, 0, 500)),
        ("bytes=500-", Part(206, 500, 1000)),
        ("bytes=-1", Part(206, 999, 1000)),
        ("bytes=-5000", Part(206, 0, 1000)),
        ("bytes=999-999", Part(206, 999, 1000)),
        ("bytes=0-99999999999", Part(206, 0, 1000)),
        ("Bytes=0-0", Part(206, 0, 1)),
        ("bytes=1000-", Part(416)),
        ("bytes=1000-2000", Part(416)),
        ("bytes=-0", Part(416)),
        # What is no range, or several, is passed over.
        ("bytes=5-2", WHOLE),
        ("bytes = 0 - 0", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=0x0-1", WHOLE),
        ("bytes=--1", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=\u0661-2", WHOLE),
        ("bytes=" + "9" * 5000 + "-", WHOLE),
        ("lines=0-1", WHOLE),
        ("", WHOLE),
    ],
)
def test_ranges(text: str, part: Part) -> None:
    assert asked(range=text) == part


def test_an_empty_file_has_no_parts() -> None:
    assert asked(size=0, range="bytes=0-") == Part(416)
    assert asked(size=0, range="bytes=-5") == asked(size=0) == Part(200, 0, 0)


def test_only_get_takes_parts() -> None:
    assert asked("HEAD", range="bytes=0-1") == WHOLE


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (ETAG, 206),
        (f"W/{ETAG}", 200),
        ('"other"', 200),
        (http_date(AT), 206),
        (http_date(AT + 1), 200),
        (http_date(AT - 1), 200),
        ("yesterday", 200),
    ],
)
def test_if_range(condition: str, status: int) -> None:
    assert asked(range="bytes=0-1", if_range=condition).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": f"W/{ETAG}"}, 304),
        ({"if_none_match": '"x", "abc"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": '"x"', "if_modified_since": http_date(AT)}, 200),
        ({"if_modified_since": http_date(AT)}, 304),
        ({"if_modified_since": http_date(AT - 1)}, 200),
        ({"if_modified_since": "never"}, 200),
        ({"if_match": ETAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_match": ETAG, "if_unmodified_since": http_date(AT - 9)}, 200),
        ({"if_match": '"x"', "if_none_match": ETAG}, 412),
        ({"if_unmodified_since": http_date(AT)}, 200),
        ({"if_unmodified_since": http_date(AT - 1)}, 412),
        ({"if_none_match": ETAG, "range": "bytes=0-1"}, 304),
        ({"if_match": ETAG, "range": "bytes=0-1"}, 206),
    ],
    ids=str,
)
def test_conditions(headers: dict[str, str], status: int) -> None:
    for method in ("GET", "HEAD"):
        expected = 200 if (method, status) == ("HEAD", 206) else status
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        assert part_of(method, named, size=SIZE, etag=ETAG, modified=AT).status == expected


def test_without_a_time_only_the_etag_counts() -> None:
    assert asked(modified=None, if_modified_since=http_date(AT)) == WHOLE
    assert asked(modified=None, if_range=http_date(AT), range="bytes=0-1") == WHOLE
