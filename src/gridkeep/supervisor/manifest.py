"""The manifest of an experiment: JSON lines, first what it was, then one line for each artifact, sorted by
path.

Written and read as a stream, whatever the number of artifacts. With the store's objects it is enough to prove
an experiment complete and to rebuild the catalog. Knows nothing of stores but their keys: it writes to a file
and reads lines.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from gridkeep.errors import StoreError
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, Run, iso, path_from_json, path_json
from gridkeep.stores.keys import artifacts_prefix

FORMAT = 1
_ID = re.compile("art_[0-9a-z]+")
_SHA256 = re.compile("[0-9a-f]{64}")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


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
    for line in itertools.chain([line_of(header)], map(artifact_line, artifacts)):
        digest.update(line)
        out.write(line)
    return digest.hexdigest()


def artifact_line(artifact: Artifact) -> bytes:
    """The line of an artifact."""
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
    return line_of(shape)


def line_of(shape: JSON) -> bytes:
    return _ENCODER.encode(shape).encode() + b"\n"


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


def _artifact(shape: JSON, experiment_id: str, at: int) -> Artifact:
    """Nothing in it is believed that could lead anybody elsewhere: a store may be another's."""
    try:
        artifact = Artifact(
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
        _check(artifact)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"The manifest is damaged at line {at}: {error!r}.") from None
    return artifact


def _check(artifact: Artifact) -> None:
    """Raises ValueError for what no run of ours has: a path out of its folder, another experiment's object, a number
    that is none."""
    path, key = artifact.path, artifact.key
    if not isinstance(artifact.artifact_id, str) or not _ID.fullmatch(artifact.artifact_id):
        raise ValueError(f"{artifact.artifact_id!r} is no artifact_id")
    stands_for_top = path == b"" and artifact.count != 1  # for files of the working copy's root
    if path is not None and not stands_for_top and not _stays_inside(path.split(b"/")):
        raise ValueError(f"{path!r} is no path of a file")
    prefix = artifacts_prefix(artifact.experiment_id)
    if key is not None and not (key.startswith(prefix) and _stays_inside(key.encode().split(b"/"))):
        raise ValueError(f"{key!r} is no key of this experiment")
    if artifact.sha256 is not None and (
        not _SHA256.fullmatch(artifact.sha256) or key is None or artifact.size is None
    ):
        raise ValueError("it has a hash, and nothing that it could be of")
    for name in ("size", "mtime_ns", "mode", "count"):
        value = getattr(artifact, name)
        least = {"mtime_ns": -(2**63), "count": 1}.get(name, 0)
        if (value is not None or name == "count") and not (type(value) is int and least <= value < 2**63):
            raise ValueError(f"{value!r} is no {name}")
    for text in (artifact.type, artifact.reason or "", artifact.etag or ""):
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")


def _stays_inside(names: list[bytes]) -> bool:
    return all(name not in (b"", b".", b"..") and b"\0" not in name for name in names)


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
