"""Which part of a file a request asks for, and on which conditions (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

_BYTES = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))", re.IGNORECASE | re.ASCII)
_ETAGS = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be sent: a status and the bytes from `start` up to, not including, `end`."""

    status: int  # 200, 206, 304, 412 or 416
    start: int = 0
    end: int = 0


def part_of(method: str, headers: Mapping[str, str], *, size: int, etag: str, modified: float | None) -> Part:
    """`etag` is strong and in its quotes; `modified` is in seconds."""
    if status := _precondition(method, headers, etag, modified):
        return Part(status)
    asked = headers.get("range")
    if method != "GET" or asked is None or not _still(headers.get("if-range"), etag, modified):
        return Part(200, 0, size)
    return _range(asked, size) or Part(200, 0, size)


def http_date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(at), UTC), usegmt=True)


def _range(asked: str, size: int) -> Part | None:
    """None for what is to be passed over: another unit, nonsense, several ranges."""
    match = _BYTES.fullmatch(asked.strip())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        count = int(suffix)
        if count == 0:
            return Part(416)
        return Part(206, max(0, size - count), size) if size else None
    start = int(first)
    if last is not None and int(last) < start:
        return None
    if start >= size:
        return Part(416)
    return Part(206, start, size if last is None else min(size, int(last) + 1))


def _precondition(method: str, headers: Mapping[str, str], etag: str, modified: float | None) -> int:
    """The status that ends the matter, in the order of section 13.2.2; 0 to go on."""
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, etag, weak=False):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and _later(modified, since):
        return 412
    if (unwanted := headers.get("if-none-match")) is not None:
        if _matches(unwanted, etag, weak=True):
            return 304 if method in ("GET", "HEAD") else 412
    elif (since := _date(headers.get("if-modified-since"))) is not None and modified is not None:
        return 0 if _later(modified, since) else 304
    return 0


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak or not prefix) for prefix, tag in _ETAGS.findall(header))


def _still(condition: str | None, etag: str, modified: float | None) -> bool:
    """If-Range: whether the file is still the one that a part was taken of."""
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == etag
    since = _date(condition)
    return since is not None and modified is not None and int(modified) == since


def _date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _later(modified: float | None, since: int) -> bool:
    return modified is not None and int(modified) > since
