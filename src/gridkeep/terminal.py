"""How names, durations, sizes and progress are written for people.

Pure text and one live line; knows nothing of runs, commands or the catalog, so that every layer may use it. Nothing
that comes out of here can drive a terminal, whatever a file is called.
"""

from __future__ import annotations

import os
from typing import TextIO

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def printable(text: str | bytes) -> str:
    """`text` with every character that is not plainly visible escaped: control characters and invisible ones as
    `\\x1b` or `\\u202e`, bytes that are not UTF-8 as `\\xff`."""
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def duration(seconds: float | None) -> str:
    """`0d-00:02:21`; None (not begun) is no time at all."""
    minutes, second = divmod(int(seconds or 0), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day}d-{hour:02}:{minute:02}:{second:02}"


def size(count: int) -> str:
    """`999 B`, `1.5 kB`, `20.0 GB`: powers of ten, as disks and buckets are sold."""
    if count < 1000:
        return f"{count} B"
    scaled = float(count)
    for unit in _UNITS:
        scaled /= 1000
        if scaled < 999.95 or unit == _UNITS[-1]:
            return f"{scaled:.1f} {unit}"
    raise AssertionError("the last unit has no end")


def many(count: int, word: str) -> str:
    """`1 file`, `1,234 files`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def clip(text: str, columns: int) -> str:
    """`text`, cut with `…` when it is wider than `columns`."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[: min(len(text) - 1, columns)]
    return f"{text}…" if columns > 0 else ""


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on `stream` can be written over."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def has_colours(stream: TextIO) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def terminal_size(stream: TextIO) -> tuple[int, int] | None:
    """Columns and lines, or None where there is no terminal and nothing must be cut."""
    if not is_terminal(stream):
        return None
    try:
        found = os.get_terminal_size(stream.fileno())
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24


class LiveLine:
    """One line at the bottom of a terminal that is written over as work goes on; nothing at all elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""

    def show(self, text: str) -> None:
        """Puts `text` in place of what was shown."""
        room = terminal_size(self._stream)
        if room is None:
            return
        line = clip(printable(text), room[0] - 1)
        if line != self._shown:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._shown = line

    def clear(self) -> None:
        """Takes the line away, so that other text can be written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = ""

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
