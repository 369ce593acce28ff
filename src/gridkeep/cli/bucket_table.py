"""The table of `grid artifacts --bucket_path`."""

from __future__ import annotations

import sys

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gridkeep.terminal import has_colours


def print_table(rows: list[tuple[str, str]]) -> None:
    """Prints names and paths whole, whatever the width of the terminal: a path that was cut or wrapped helps nobody."""
    headers = ("experiment name", "bucket path to artifacts")
    columns = list(zip(headers, *rows, strict=True))
    width = sum(max(map(cell_len, column)) for column in columns) + 3 * len(columns) + 1
    table = Table(box=box.HEAVY_HEAD, safe_box=False)
    table.add_column(headers[0], no_wrap=True)
    table.add_column(headers[1], no_wrap=True, justify="right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    colours = has_colours(sys.stdout)
    console = Console(
        file=sys.stdout,
        width=width,
        no_color=not colours,
        force_terminal=colours,
        emoji=False,
        markup=False,
        highlight=False,
    )
    console.print(table, soft_wrap=False, crop=False)
