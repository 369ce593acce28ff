"""What benchmarks share: jobs timed in turn, and one shape for what they found.

A benchmark prints, with `--json`, one object: {"benchmark", "figures": [{"what", "value", "unit", "reach", "reached"}],
"samples": {…}}. `reach` is the bound from the design ("<= 150") or null where the figure stands for comparison only.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One number that was found, and the one to reach."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reach(self) -> str | None:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return None if self.at_least is None else f">= {self.at_least:g}"

    @property
    def reached(self) -> bool | None:
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def to_json(self) -> dict[str, Any]:
        value = round(self.value, 3)
        return {
            "what": self.what,
            "value": value,
            "unit": self.unit,
            "reach": self.reach,
            "reached": self.reached,
        }


def in_turn(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each job's own figure, once a round, in alternating order: what disturbs the machine disturbs all alike."""
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name in list(jobs) if number % 2 == 0 else reversed(list(jobs)):
            samples[name].append(jobs[name]())
            print(f"  round {number + 1}/{rounds}  {name}: {samples[name][-1]:.3f}", file=sys.stderr)
    return samples


def medians(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def report(
    benchmark: str, figures: list[Figure], samples: Mapping[str, list[float]], *, as_json: bool
) -> None:
    """Prints them, as JSON or as lines for people."""
    if as_json:
        shape = {
            "benchmark": benchmark,
            "figures": [figure.to_json() for figure in figures],
            "samples": samples,
        }
        print(json.dumps(shape, indent=2))
        return
    for figure in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        print(f"{figure.what:<58} {figure.value:>10.2f} {figure.unit:<4} {figure.reach or '':>8} {verdict}")
