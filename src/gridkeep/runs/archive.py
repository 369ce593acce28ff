"""Archives: artifacts as a ZIP that is made while it is read, in memory that does not grow with them (300 bytes each apart).

It has the layout of a download, with the manifest of each experiment beside its folder: the one in the store where all of an
experiment that has ended is asked for, else one of the same form on what is in the archive. A path that cannot be a key in a
store cannot be a name in an archive either: there, too, it is `_enc/SHA256`, and the manifest's `key` tells. Whatever is not
as it was recorded ends the archive before its end, so that it cannot be taken for a whole one. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import mimetypes
import stat
import tempfile
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO

from stream_zip import ZIP_AUTO, MemberFile, stream_zip

from gridkeep.errors import StoreError, StoreUnavailable
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, Run
from gridkeep.runs.artifact_bytes import open_bytes
from gridkeep.runs.context import Context
from gridkeep.runs.select import Selection, Target, each_artifact, find_targets
from gridkeep.stores.base import Store
from gridkeep.stores.keys import artifacts_prefix, manifest_key
from gridkeep.supervisor.manifest import artifact_line, line_of, make_header

_PIECE = 256 * 1024
_SMALL = 256 * 1024  # what is no larger is fetched ahead, as a store may take its time for each
_AHEAD = 32
_AT_ONCE = 8
_TRIES = 5  # at a file that its run is replacing just now
_IN_MEMORY = 2**20  # of a manifest that is being made; the rest in a file
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)  # what a ZIP can say
_Read = tuple[Artifact, Iterator[bytes] | None]
_TEXT = {"application/json", "application/xml", "application/x-ndjson", "application/x-sh", "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Part:
    """What of an experiment goes in: all of it, what is at or `under` a path, or those artifacts `only`. Its folder in the
    archive is the target's."""

    target: Target
    under: bytes | None = None
    only: frozenset[str] | None = None

    @property
    def whole(self) -> bool:
        return self.under is None and self.only is None


def parts_of(context: Context, run: Run, experiment: Experiment | None, path: bytes | None) -> Iterator[Part]:
    """A run, or one experiment of it, or what is there at or under a path."""
    name = run.run_id if experiment is None else experiment.experiment_id
    return (Part(target, under=path) for target in find_targets(context, [name]))


def make_zip(context: Context, parts: Iterable[Part]) -> Iterator[bytes]:
    """The bytes of the archive, in pieces. Closing it stops all work. Raises StoreError in the middle when an object is
    gone or has other bytes than were recorded."""
    members = _members(context, parts)
    try:
        yield from stream_zip(members, chunk_size=_PIECE)
    finally:
        members.close()


def _members(context: Context, parts: Iterable[Part]) -> Generator[MemberFile, None, None]:
    for part in parts:
        yield from _of_part(context, part)


def _of_part(context: Context, part: Part) -> Iterator[MemberFile]:
    experiment, folder = part.target.experiment, "/".join(part.target.folder)
    prefix = artifacts_prefix(experiment.experiment_id)
    store = context.store(part.target.run.cluster)
    packed, totals = _Reader(context, store, experiment), Counter[str]()
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as lines:
        for artifact, content in packed.each(_artifacts(context, part)):
            lines.write(artifact_line(artifact))
            totals[artifact.state] += artifact.count
            if content is not None:
                totals["files"] += 1
                totals["bytes"] += artifact.size or 0
                name = f"{folder}/{(artifact.key or '').removeprefix(prefix)}"
                yield _member(
                    name, artifact.size or 0, content, mtime_ns=artifact.mtime_ns, mode=artifact.mode
                )
        name = f"{folder}.manifest.jsonl"
        if part.whole and experiment.manifest_sha256 is not None:
            key = manifest_key(experiment.experiment_id)
            content = _verified(store.get(key), experiment.manifest_sha256)
            yield _member(name, store.head(key).size, content)
            return
        header = line_of(_header(part, totals))
        size = len(header) + lines.tell()
        lines.seek(0)
        yield _member(name, size, _after(header, lines))


def _artifacts(context: Context, part: Part) -> Iterator[Artifact]:
    """In every state; in order of path."""
    if part.only is None:
        ulid = part.target.experiment.experiment_id
        yield from each_artifact(context.catalog, ulid, Selection(), under=part.under)
        return
    found = context.catalog.artifacts_by_id(sorted(part.only))
    yield from sorted(found, key=lambda artifact: (artifact.path or b"", artifact.artifact_id))


def _header(part: Part, totals: Counter[str]) -> JSON:
    """Who gets a part is not told what the capture says of the whole."""
    experiment = part.target.experiment
    return make_header(
        part.target.run,
        experiment if part.whole else replace(experiment, capture=None),
        files=totals["files"],
        size=totals["bytes"],
        missing=totals[ArtifactState.MISSING],
        ignored=totals[ArtifactState.IGNORED],
        removed=totals[ArtifactState.REMOVED],
    )


def _after(header: bytes, lines: IO[bytes]) -> Iterator[bytes]:
    yield header
    while piece := lines.read(_PIECE):
        yield piece


def _member(
    name: str, size: int, content: Iterator[bytes], *, mtime_ns: int | None = None, mode: int | None = None
) -> MemberFile:
    """Always deflated: with a length at their end, only such members can be read by those who cannot seek. What is no text
    is deflated without looking for anything to save."""
    at = datetime.now(UTC) if mtime_ns is None else _time(mtime_ns)
    bits = stat.S_IFREG | (0o644 if mode is None else mode & 0o777)
    return name, min(max(at, _EARLIEST), _LATEST), bits, ZIP_AUTO(size, level=_level(name)), content


def _time(mtime_ns: int) -> datetime:
    """Files may bear any time, also one that no calendar has."""
    try:
        return datetime.fromtimestamp(mtime_ns // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return _LATEST if mtime_ns > 0 else _EARLIEST


def _level(name: str) -> int:
    media, encoding = mimetypes.guess_type(f"x.{name.rpartition('.')[2]}")
    text = encoding is None and media is not None and (media.startswith("text/") or media in _TEXT)
    return 1 if text or name.endswith((".jsonl", ".log")) else 0


class _Reader:
    """Reads the artifacts of one experiment, the small ones ahead of whoever takes them."""

    def __init__(self, context: Context, store: Store, experiment: Experiment) -> None:
        self._catalog = context.catalog
        self._store = store
        self._changes = experiment.state.active

    def each(self, artifacts: Iterable[Artifact]) -> Iterator[_Read]:
        """Each artifact as it is now, with its bytes, or None where it has none to give."""
        waiting: deque[Future[_Read] | Artifact] = deque()
        pool = ThreadPoolExecutor(_AT_ONCE, "archive")
        try:
            for artifact in artifacts:
                small = _is_kept(artifact) and (artifact.size or 0) <= _SMALL
                waiting.append(pool.submit(self._fetched, artifact) if small else artifact)
                if len(waiting) > _AHEAD:
                    yield self._taken(waiting.popleft())
            while waiting:
                yield self._taken(waiting.popleft())
        finally:  # without waiting for a store that is slow to answer
            pool.shutdown(wait=False, cancel_futures=True)

    def _taken(self, first: Future[_Read] | Artifact) -> _Read:
        return self._opened(first) if isinstance(first, Artifact) else first.result()

    def _fetched(self, artifact: Artifact) -> _Read:
        now, content = self._opened(artifact)
        return now, None if content is None else iter(list(content))

    def _opened(self, artifact: Artifact) -> _Read:
        """The version that is recorded. Before an object is replaced, its artifact says that it is to be: what is recorded
        after the opening as it was before is what was opened."""
        if not self._changes:
            return artifact, self._content(artifact) if _is_kept(artifact) else None
        for _ in range(_TRIES):
            now = self._catalog.artifact(artifact.artifact_id)
            if now is None or not _is_kept(now):
                return now or artifact, None
            content = self._content(now)
            again = self._catalog.artifact(artifact.artifact_id)
            if again is not None and again.sha256 == now.sha256:
                return now, content
        raise StoreUnavailable(f"{artifact.artifact_id} is being replaced all the time.", "Try again.")

    def _content(self, artifact: Artifact) -> Iterator[bytes]:
        assert artifact.sha256 is not None
        return _verified(open_bytes(self._store, artifact, end=artifact.size), artifact.sha256)


def _is_kept(artifact: Artifact) -> bool:
    return artifact.downloadable and artifact.state is not ArtifactState.REMOVED


def _verified(chunks: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise StoreError(
            "The bytes of an object are not those that were recorded.", "`grid verify` says more."
        )
