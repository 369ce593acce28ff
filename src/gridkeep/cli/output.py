"""What commands print: tables, JSON, states in colour, messages.

Results go to stdout, messages to stderr. Tables are cut to the width of a terminal, never when they are piped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TextIO

from gridkeep.model import State
from gridkeep.terminal import clip, has_colours, printable, terminal_size, width

__all__ = [
    "echo",
    "json_array",
    "json_text",
    "message",
    "paint_state",
    "print_json",
    "print_json_array",
    "printable",
    "table",
]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_GAP = "  "
_COLOURS = {
    State.QUEUED: "2",
    State.RUNNING: "34",
    State.SYNCING: "36",
    State.COMPLETED: "32",
    State.FAILED: "31",
    State.STOPPED: "33",
}


def echo(lines: str | Iterable[str]) -> None:
    """Prints a line, or lines, of a result."""
    for line in [lines] if isinstance(lines, str) else lines:
        print(line)


def message(text: str) -> None:
    """Says something that is not the result: to stderr, after all that was printed before."""
    sys.stdout.flush()
    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr, flush=True)


def paint_state(text: str, stream: TextIO | None = None) -> str:
    """The word of a state in its colour, on a terminal that wants colours."""
    if not has_colours(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[State(text.strip())]}m{text}\x1b[0m"


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    paint: Mapping[str, Callable[[str], str]] | None = None,
) -> list[str]:
    """The lines of a plain table. `right` names the columns of numbers; `paint` gives a column's padded cells their
    colour. On a terminal the last column is cut where the line ends, unless it is one of numbers."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([width(head), *(width(row[i]) for row in cells)]) for i, head in enumerate(headers)]
    if headers[-1] not in right and (room := terminal_size(sys.stdout)):
        left = room[0] - sum(widths[:-1]) - len(_GAP) * (len(headers) - 1)
        widths[-1] = min(widths[-1], max(left, len(headers[-1])))

    def line(row: Sequence[str], brushes: Mapping[str, Callable[[str], str]]) -> str:
        parts = []
        for head, cell, columns in zip(headers, row, widths, strict=True):
            cell = clip(cell, columns)
            space = " " * (columns - width(cell))
            padded = f"{space}{cell}" if head in right else f"{cell}{space}"
            parts.append(brushes[head](padded) if head in brushes else padded)
        return _GAP.join(parts).rstrip()

    return [line(headers, {}), *(line(row, paint or {}) for row in cells)]


def json_text(value: Any) -> str:
    """JSON in one line, readable: not escaped to ASCII, except that no half of a surrogate pair gets in."""
    return _LONE_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False))


def json_array(items: Iterable[Any]) -> Iterable[str]:
    """The text of a JSON array in pieces, an item a line, so that a million of them need no memory."""
    opening = "[\n  "
    for item in items:
        yield opening + json_text(item)
        opening = ",\n  "
    yield "[]\n" if opening[0] == "[" else "\n]\n"


def print_json(value: Any) -> None:
    """One JSON value on stdout, in UTF-8 whatever the locale."""
    _write([_LONE_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False, indent=2)), "\n"])


def print_json_array(items: Iterable[Any]) -> None:
    """A JSON array on stdout, in UTF-8 whatever the locale, written as its items come."""
    _write(json_array(items))


def _write(pieces: Iterable[str]) -> None:
    sys.stdout.flush()
    for piece in pieces:
        sys.stdout.buffer.write(piece.encode())
    sys.stdout.buffer.flush()
