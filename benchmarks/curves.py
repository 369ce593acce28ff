"""How cost grows, as a picture: curves over the number of units. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Panel:
    """Curves by their names, each with a value for each of `counts`."""

    counts: Sequence[int]
    unit: str  # of what is counted, in the plural
    measure: str  # what the values are in
    curves: Mapping[str, Sequence[float]]


def draw(rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """The panels, row by row; the same picture for the same figures."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "gridkeep"
    size = (9, 3.4 * len(rows))
    figure, grid = pyplot.subplots(len(rows), len(rows[0]), figsize=size, layout="constrained", squeeze=False)
    for row, places in zip(rows, grid, strict=True):
        for panel, axes in zip(row, places, strict=True):
            for name, values in panel.curves.items():
                axes.plot(panel.counts, values, marker="o", label=name)
            axes.set(xscale="log", xlabel=panel.unit, ylabel=panel.measure)
            axes.set_xticks(panel.counts, [f"{count:,}" for count in panel.counts], minor=False)
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend()
    figure.savefig(path, metadata={"Date": None})
