"""One sentence on experiments whose writes could not be captured: what was not seen of them, and why.

A loss that nobody knows of is the worst kind: whoever shows how a run stands shows this too.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridkeep.model import Experiment
from gridkeep.terminal import many


def blindness(experiments: Sequence[Experiment]) -> str | None:
    """None when there is nothing to say: all were captured, or none was to be."""
    watched = [one for one in experiments if one.capture and one.capture.get("mode") == "watch"]
    if not watched:
        return None
    who = (
        watched[0].name if len(watched) == 1 else f"{len(watched)} of {many(len(experiments), 'experiment')}"
    )
    verb = "is" if len(watched) == 1 else "are"
    capture = watched[0].capture or {}
    return f"{who} {verb} watched, not captured ({capture.get('why')}): {capture.get('blind')}"
