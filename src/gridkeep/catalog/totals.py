"""What an experiment's artifacts sum up to: in SQL, of the rows about to be replaced, and in Python, of the
new ones.

The totals in the experiment's row change by the difference, so keeping them costs the same with a million
artifacts as with one. The two sums stand side by side because they must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridkeep.model import Artifact, ArtifactState

TOTALS = ("artifacts", "bytes", "missing", "growing")

_KEPT = "FILTER (WHERE sha256 IS NOT NULL AND state <> 'removed')"
SUMS = (
    f"count(*) {_KEPT}, CAST(COALESCE(sum(size) {_KEPT}, 0) AS BIGINT), "
    "count(*) FILTER (WHERE state = 'missing'), count(*) FILTER (WHERE state = 'growing')"
)


def sums(artifacts: Iterable[Artifact]) -> tuple[int, int, int, int]:
    """In the order of TOTALS."""
    kept = size = missing = growing = 0
    for artifact in artifacts:
        if artifact.sha256 is not None and artifact.state is not ArtifactState.REMOVED:
            kept += 1
            size += artifact.size or 0
        missing += artifact.state is ArtifactState.MISSING
        growing += artifact.state is ArtifactState.GROWING
    return kept, size, missing, growing
