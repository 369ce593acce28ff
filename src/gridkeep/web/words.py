"""How times, sizes, counts and names are written on a page; the filters of the templates."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gridkeep.model import State
from gridkeep.terminal import many, printable, size

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_BAR = 64  # the width of a bar of states, in px
_ORDER = (State.COMPLETED, State.FAILED, State.STOPPED, State.SYNCING, State.RUNNING, State.QUEUED)


def ago(at: float | None, now: float | None = None) -> str:
    """`40 s ago`, `yesterday`, `2026-11-03`; a dash for what has not been."""
    if at is None:
        return "–"
    passed = (time.time() if now is None else now) - at
    if passed < 1:
        return "just now"
    if passed < _MINUTE:
        return f"{passed:.0f} s ago"
    if passed < _HOUR:
        return f"{passed // _MINUTE:.0f} min ago"
    if passed < _DAY:
        return f"{passed // _HOUR:.0f} h ago"
    if passed < 2 * _DAY:
        return "yesterday"
    return f"{passed // _DAY:.0f} days ago" if passed < 14 * _DAY else moment(at)[:10]


def moment(at: float | None) -> str:
    """`2026-11-22 14:18:52 UTC`; nothing for what has not been."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(seconds: float | None) -> str:
    """`0:02:21`, `3 d 1:02:44`; a dash for what has not begun."""
    if seconds is None:
        return "–"
    days, rest = divmod(int(seconds), _DAY)
    text = f"{rest // _HOUR}:{rest % _HOUR // _MINUTE:02}:{rest % _MINUTE:02}"
    return f"{days} d {text}" if days else text


def number(count: int) -> str:
    """`1,284`."""
    return f"{count:,}"


def experiments(counts: dict[State, int]) -> str:
    """`7 of 12 completed · 1 failed`: how a run's experiments stand."""
    total = sum(counts.values())
    shown = [(state, counts[state]) for state in _ORDER if counts.get(state)]
    if not shown:
        return "none"
    (state, count), *others = shown
    first = f"{count:,} {state}" if count == total == 1 else f"{count:,} of {total:,} {state}"
    return " · ".join([first, *(f"{count:,} {state}" for state, count in others)])


def bar(counts: dict[State, int]) -> list[tuple[str, float, float]]:
    """The parts of a bar of states: (state, where it begins, its width)."""
    total, at, parts = sum(counts.values()) or 1, 0.0, list[tuple[str, float, float]]()
    for state in _ORDER:
        if count := counts.get(state):
            width = _BAR * count / total
            parts.append((str(state), round(at, 2), round(width, 2)))
            at += width
    return parts


def value(of: object) -> str:
    """A parameter."""
    return printable(of if isinstance(of, str) else repr(of))


def initials(user: str) -> str:
    letters = [part[0] for part in user.replace(".", " ").replace("-", " ").replace("_", " ").split() if part]
    return printable("".join(letters[:2]).upper()) or "?"


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago,
    "bar": bar,
    "clock": clock,
    "experiments": experiments,
    "initials": initials,
    "many": many,
    "moment": moment,
    "number": number,
    "printable": printable,
    "quoted": lambda text: quote(text, safe=""),
    "size": size,
    "value": value,
}
