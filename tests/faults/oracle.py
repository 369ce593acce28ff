"""Compares what a run's writer says it wrote with everything that Gridkeep says and holds of it.

Trusts nobody: the writer's own logs, the files that are still on the disk, the listing, the manifest, a walk through the
store's folder, and a download are laid side by side.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Artifact, ArtifactState, Experiment, State
from gridkeep.stores.keys import experiment_key, experiment_prefix, listed_path, manifest_key, output_log_key
from gridkeep.supervisor import manifest
from tests.support import Grid

ANYTHING = "anything"  # an operation was cut off
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """Something that must not be. `kind`: lost, wrong, stuck, false completed, left behind, or disagreement."""

    kind: str
    text: str


@dataclass
class Told:
    """What the logs of a run's writer say. `files`: what each absolute path may hold: a SHA-256, None for nothing."""

    files: dict[bytes, set[str | None]] = field(default_factory=dict)
    trees: set[bytes] = field(default_factory=set)
    ends: list[int] = field(default_factory=list)  # exit codes of main programs that came to their end
    unfinished: int = 0  # processes that did not

    def listed(self) -> dict[bytes, set[str | None]]:
        """The same by listed path."""
        found = {}
        for path, may_be in self.files.items():
            inside = next(
                (path[len(tree) + 1 :] for tree in self.trees if path.startswith(tree + b"/")), None
            )
            found[b"_abs/" + path[1:] if inside is None else listed_path(inside)] = may_be
        return found


def read_logs(folder: Path) -> Told:
    """All that was logged, by any attempt."""
    told = Told()
    for path in sorted(folder.glob("*.jsonl")):
        worked = False
        for line in path.read_bytes().splitlines():
            said = json.loads(line)
            if "tree" in said:
                told.trees.add(base64.b64decode(said["tree"]))
            elif "end" in said:
                told.ends.append(said["end"])
                worked = True
            elif "worked" in said:
                worked = True
            elif "of" in said:
                for name in said["of"]:
                    told.files.setdefault(base64.b64decode(name), {None}).add(ANYTHING)
            elif "now" in said:
                told.files.update({base64.b64decode(name): {sha256} for name, sha256 in said["now"].items()})
        told.unfinished += not worked
    return told


@dataclass
class Oracle:
    """For one experiment that is final. `outside`: the folder outside the working copy that its writer used. `wiped`: one
    that its machine lost, with all that was there and not in the store."""

    grid: Grid
    name: str
    told: Told
    outside: Path
    downloads: Path
    wiped: bytes | None = None

    def __post_init__(self) -> None:
        catalog = open_catalog(str(self.grid.home / "catalog.db"))
        try:
            found = catalog.experiment(self.name)
            assert found is not None
            self.experiment: Experiment = found
            self.artifacts: list[Artifact] = catalog.artifacts(found.experiment_id)
        finally:
            catalog.close()
        self.store = self.grid.home / "store"
        # Stopped while it was queued: it has a record, and no manifest.
        self.never_began = found.state is State.STOPPED and found.started_at is None

    def findings(self) -> Iterator[Finding]:
        """All that is wrong; nothing when all is well."""
        yield from self._files_of_the_writer()
        yield from self._files_on_the_disk()
        yield from self._manifest()
        yield from self._objects()
        yield from self._totals()
        yield from self._download()
        done = self.grid("verify", "--deep", self.name, code=None)
        if done.returncode != 0:
            yield Finding("disagreement", str(done))

    # ------------------------------------------------------------------------------------------------------- the files

    def _files_of_the_writer(self) -> Iterator[Finding]:
        listing = self._by_path()
        for path, may_be in self.told.listed().items():
            one = listing.get(path)
            if one is not None and one.state is ArtifactState.MISSING and one.reason:
                yield from self._missing_from_completed(one)
            elif one is None or one.state is ArtifactState.REMOVED:
                if not may_be & {None, ANYTHING} and not self._covered(path):
                    yield self._lost(f"{path!r} is {one.state if one else 'not listed'}")
            elif one.state is not ArtifactState.STORED:
                yield self._lost(f"{path!r} is {one.state}: {one.reason}")
            elif not may_be & {one.sha256, ANYTHING}:
                yield Finding("wrong", f"{path!r} is listed with {one.sha256}, and was {may_be}")

    def _files_on_the_disk(self) -> Iterator[Finding]:
        """What lies outside the working copy stays there: whatever it is, it is listed so."""
        listing = self._by_path()
        for folder, _, names in os.walk(os.fsencode(self.outside)):
            for name in names:
                path = os.path.join(folder, name)
                one = listing.get(b"_abs/" + path[1:])
                if one is None or one.state is ArtifactState.REMOVED:
                    if not self._covered(b"_abs/"):
                        yield self._lost(f"{path!r} is there and {one.state if one else 'not listed'}")
                elif one.state is ArtifactState.STORED and one.sha256 != sha256_of(Path(os.fsdecode(path))):
                    yield Finding("wrong", f"{path!r} is not what is listed")

    def _by_path(self) -> dict[bytes | None, Artifact]:
        return {one.path: one for one in self.artifacts}

    def _covered(self, path: bytes) -> bool:
        """Whether a loss of unknown path stands for it: only what lies outside the working copy can go unseen."""
        return path.startswith(b"_abs/") and any(one.path is None for one in self.artifacts)

    def _lost(self, text: str) -> Finding:
        completed = self.experiment.state is State.COMPLETED
        return Finding("false completed" if completed else "lost", text)

    def _missing_from_completed(self, one: Artifact) -> Iterator[Finding]:
        """Nothing else in these rounds makes a file impossible to keep."""
        wiped = self.wiped is not None and (one.path or b"").startswith(b"_abs" + self.wiped + b"/")
        if self.experiment.state is State.COMPLETED and not wiped:
            yield Finding("false completed", f"{one.path!r} is missing: {one.reason}")

    # --------------------------------------------------------------------------------------------- the sources agree

    def _manifest(self) -> Iterator[Finding]:
        key = manifest_key(self.experiment.experiment_id)
        path = self.store / key
        if self.never_began and not self.told.files:
            return
        if not path.exists():
            yield Finding("lost", "there is no manifest")
            return
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.experiment.manifest_sha256:
            yield Finding("disagreement", "the manifest is not the one that was recorded")
        header, found = manifest.read([data])
        of_manifest, of_catalog = [shown(one) for one in found], [shown(one) for one in self.artifacts]
        yield from _differences("the manifest", of_manifest, "the catalog", of_catalog)
        kept, size = self._kept()
        if (header["totals"]["files"], header["totals"]["bytes"]) != (kept, size):
            yield Finding("disagreement", f"totals {header['totals']}, and {kept} files of {size} bytes")
        if header["state"] != self.experiment.state:
            yield Finding("disagreement", f"state {header['state']} and {self.experiment.state}")

    def _objects(self) -> Iterator[Finding]:
        ulid = self.experiment.experiment_id
        there = {
            os.path.relpath(os.path.join(folder, name), self.store)
            for folder, _, names in os.walk(self.store / experiment_prefix(ulid))
            for name in names
        }
        wanted = {one.key for one in self.artifacts if one.sha256} | {experiment_key(ulid)}
        if not self.never_began:
            wanted.add(manifest_key(ulid))
        yield from _differences(
            "the store", sorted(there - {output_log_key(ulid)}), "the catalog", sorted(map(str, wanted))
        )

    def _totals(self) -> Iterator[Finding]:
        missing = sum(one.state is ArtifactState.MISSING for one in self.artifacts)
        said = (
            self.experiment.artifacts,
            self.experiment.bytes,
            self.experiment.missing,
            self.experiment.growing,
        )
        if said != (*self._kept(), missing, 0):
            yield Finding(
                "disagreement", f"the record says {said}, the listing {(*self._kept(), missing, 0)}"
            )

    def _kept(self) -> tuple[int, int]:
        kept = [one for one in self.artifacts if one.sha256 and one.state is not ArtifactState.REMOVED]
        return len(kept), sum(one.size or 0 for one in kept)

    def _download(self) -> Iterator[Finding]:
        done = self.grid("artifacts", self.name, "--download_dir", self.downloads, code=None)
        if done.returncode != 0 and not self.experiment.missing:
            yield Finding("lost", str(done))
        top = os.fsencode(self.downloads / self.name)
        got = {
            os.path.relpath(os.path.join(folder, name), top): sha256_of(
                Path(os.fsdecode(os.path.join(folder, name)))
            )
            for folder, _, names in os.walk(top)
            for name in names
        }
        wanted = {
            one.path: one.sha256
            for one in self.artifacts
            if one.sha256 and one.state is not ArtifactState.REMOVED and one.path is not None
        }
        for path in got.keys() - wanted.keys():
            yield Finding("disagreement", f"{path!r} was downloaded and is not listed")
        for path in wanted.keys() - got.keys():
            yield Finding("lost", f"{path!r} is listed and was not downloaded")
        for path in got.keys() & wanted.keys():
            if got[path] != wanted[path]:
                yield Finding("wrong", f"{path!r} was downloaded with other bytes than listed")


def shown(one: Artifact) -> tuple[Any, ...]:
    """What must be the same wherever an artifact is told of."""
    return (
        one.path,
        str(one.state),
        one.size,
        one.sha256,
        one.reason,
        one.key,
        one.mtime_ns,
        one.mode,
        one.count,
    )


def _differences(name: str, first: list[Any], other: str, second: list[Any]) -> Iterator[Finding]:
    for one in first:
        if one not in second:
            yield Finding("disagreement", f"{name} has {one!r}, {other} has not")
    for one in second:
        if one not in first:
            yield Finding("disagreement", f"{other} has {one!r}, {name} has not")


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
