"""The first rows of a table that is written as text."""

from __future__ import annotations

import csv
import io
from itertools import islice

ROWS, COLUMNS, CELL = 200, 100, 1000  # of what is shown; the last in characters
_DELIMITERS = ",;\t|"


def rows_of(text: str, *, cut: bool) -> tuple[list[list[str]], bool]:
    """Its rows, the names of the columns among them where it has any; and whether some, or parts of some, were left out.
    With `cut` the text ends somewhere, so its last row is not shown."""
    first = text[: max(0, text.find("\n"))] or text
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = list(islice(filter(None, reader), ROWS + 1))
    shown = rows[:-1] if len(rows) > ROWS or (cut and len(rows) > 1) else rows
    clipped = [[cell[:CELL] for cell in row[:COLUMNS]] for row in shown]
    return clipped, clipped != rows
