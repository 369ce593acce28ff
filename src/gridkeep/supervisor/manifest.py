"""The manifest of an experiment: JSON lines, first what it was, then one line for each artifact, sorted by
path.

Written and read as a stream, whatever the number of artifacts. With the store's objects it is enough to prove
an experiment complete and to rebuild the catalog. Knows nothing of stores: it writes to a file and reads
lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from gridkeep.errors import StoreError
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, Run, iso, path_from_json, path_json

FORMAT = 1


def make_header(
    run: Run, experiment: Experiment, *, files: int, size: int, missing: int, ignored: int, removed: int
) -> JSON:
    """The first line. `files` and `size` (bytes) count what can be downloaded without the removed ones."""
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "experiment_id": experiment.experiment_id,
        "run": run.name,
        "run_id": run.run_id,
        "attempt": experiment.attempt,
        "capture": experiment.capture,
        "started_at": iso(experiment.started_at),
        "finished_at": iso(experiment.finished_at),
        "state": str(experiment.state),
        "outcome": experiment.outcome,
        "reason": experiment.reason,
        "exit_code": experiment.exit_code,
        "totals": {"files": files, "bytes": size, "missing": missing, "ignored": ignored, "removed": removed},
    }


def write(out: BinaryIO, header: JSON, artifacts: Iterable[Artifact]) -> str:
    """Writes the manifest; returns the SHA-256 of its bytes. The artifacts come sorted by path, as the
    catalog gives them."""
    digest = hashlib.sha256()
    for shape in _lines(header, artifacts):
        line = json.dumps(shape, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        digest.update(line)
        out.write(line)
    return digest.hexdigest()


def read(chunks: Iterable[bytes]) -> tuple[JSON, Iterator[Artifact]]:
    """The first line, and the artifacts as they are asked for, from the bytes in chunks (or lines) of any
    size. Raises StoreError for what is no manifest, at once or while the artifacts are read."""
    lines = _parsed(_split(chunks))
    header = next(lines, None)
    if header is None:
        raise StoreError("The manifest is empty.")
    if header.get("format") != FORMAT:
        raise StoreError(
            f"The manifest has format {header.get('format')!r}, not {FORMAT}.",
            "A newer version of gridkeep reads it.",
        )
    if not isinstance(header.get("experiment_id"), str):
        raise StoreError("The manifest does not say whose it is.")
    return header, (_artifact(line, header["experiment_id"], at) for at, line in enumerate(lines, start=2))


def _lines(header: JSON, artifacts: Iterable[Artifact]) -> Iterator[JSON]:
    yield header
    for artifact in artifacts:
        shape: JSON = {
            **path_json(artifact.path),
            "key": artifact.key,
            "type": artifact.type,
            "size": artifact.size,
            "sha256": artifact.sha256,
            "mtime": None if artifact.mtime_ns is None else iso(artifact.mtime_ns / 1e9),
            "mtime_ns": artifact.mtime_ns,
            "mode": artifact.mode,
            "state": str(artifact.state),
            "reason": artifact.reason,
            "etag": artifact.etag,
            "artifact_id": artifact.artifact_id,
        }
        if artifact.count != 1:
            shape["count"] = artifact.count
        yield shape


def _artifact(shape: JSON, experiment_id: str, at: int) -> Artifact:
    try:
        return Artifact(
            artifact_id=shape["artifact_id"],
            experiment_id=experiment_id,
            path=path_from_json(shape),
            state=ArtifactState(shape["state"]),
            type=shape["type"],
            size=shape["size"],
            sha256=shape["sha256"],
            mtime_ns=shape["mtime_ns"],
            mode=shape["mode"],
            reason=shape["reason"],
            key=shape["key"],
            etag=shape["etag"],
            count=shape.get("count", 1),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"The manifest is damaged at line {at}: {error!r}.") from None


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for at, line in enumerate(lines, start=1):
        try:
            shape = json.loads(line)
        except ValueError:
            shape = None
        if not isinstance(shape, dict):
            raise StoreError(f"The manifest is damaged at line {at}: it is not a JSON object.")
        yield shape


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines from chunks of any size. A last line without its end was cut off, and is given so that parsing
    says so."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest
