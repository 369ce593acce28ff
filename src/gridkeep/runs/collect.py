"""Getting artifacts: from the store into a folder, only what is needed, verified, whatever happens to single files.

Brings together what is meant (`select`), the store, the local side (`landing`) and the threads (`workers`). Knows nothing of
terminals: `Progress` is told.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gridkeep.errors import (
    GridError,
    NoCredentials,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from gridkeep.model import Artifact, ArtifactState, Experiment
from gridkeep.runs.context import Context
from gridkeep.runs.filling import LANES, Mismatch
from gridkeep.runs.fitting import Names, Place
from gridkeep.runs.landing import CHUNK, Landing
from gridkeep.runs.part import Refused, part_name
from gridkeep.runs.select import Selection, Target, each_artifact, find_targets
from gridkeep.runs.workers import Pool
from gridkeep.stores.base import Store
from gridkeep.stores.keys import is_shifted

BATCH_FILES = 64
BATCH_BYTES = 8 * 2**20
# Seconds between the tries at one file whose object is replaced under our hands, or whose store fails for a moment.
PAUSES = (0.25, 0.5, None)
AWAY = 4  # files in a row that a store could not give: then it is away
FOLLOW_PAUSE = 0.5  # seconds between two looks at a run that goes on

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Problem:
    """An artifact that is not there, and why. `path` is None for a loss of unknown path."""

    experiment: str
    path: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """An artifact, and where it lies in the folder."""

    experiment: str
    path: bytes
    place: Place


class Progress:
    """What a download tells. All do nothing here; `moved` and `finished` are called from several threads."""

    def expect(self, files: int, size: int) -> None:
        """So many more files and bytes are to come."""

    def moved(self, size: int) -> None:
        """So many bytes arrived; negative when they have to come again."""

    def finished(self, files: int) -> None:
        """So many more files are done with, well or not."""

    def failed(self, problem: Problem) -> None:
        """A file could not be had; the others go on."""


@dataclass
class Report:
    """What a download came to. `failed`: listed with bytes, and not to be had. `missing`: named so by the run itself.
    `growing`: not finished yet; what is stored of it so far was fetched. `shifted`: folders `_abs_work` or
    `_enc_work`, which the run itself called `_abs`, `_enc`. `renamed`: files that have another name in this folder, as its
    filesystem cannot hold theirs. `active`: experiments that go on."""

    fetched: int = 0
    fetched_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    failed: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    growing: list[Problem] = field(default_factory=list)
    shifted: set[str] = field(default_factory=set)
    renamed: list[Renamed] = field(default_factory=list)
    active: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Item:
    artifact: Artifact
    experiment: Experiment
    folder: tuple[bytes, ...]
    store: Store
    place: bytes  # below the folder; its path, if the filesystem takes that


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of an item: `size` bytes are there, `kept` or fetched, or there is a `reason` why not, which may
    pass."""

    size: int = 0
    kept: bool = False
    reason: str | None = None
    passing: bool = False


def collect(
    context: Context,
    names: Iterable[str],
    directory: str,
    selection: Selection,
    *,
    jobs: int | None = None,
    follow: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Downloads into `directory`. Files that fail are in the report, as are missing ones. With `follow`, goes on
    until no experiment is active. Raises NotFound, and GridError where nothing can be had at all (the folder cannot
    be made, its disk is full)."""
    names = list(names)
    list(itertools.islice(find_targets(context, names), 1))  # unknown names are said before a folder is made
    try:
        landing = Landing(directory)
    except OSError as error:
        raise GridError(
            f"The folder {directory} cannot be used: {error.strerror}.", "Choose another with --download_dir."
        ) from None
    with landing:
        download = _Download(context, landing, selection, progress or Progress())
        while True:
            began, change = time.monotonic(), context.catalog.last_change()
            report = download.once(find_targets(context, names), jobs or context.settings.transfer_threads)
            if not (follow and report.active):
                return report
            download.seen = change
            time.sleep(max(FOLLOW_PAUSE, 2 * (time.monotonic() - began)))
            while context.catalog.last_change() == change:
                time.sleep(FOLLOW_PAUSE)


class _Download:
    def __init__(self, context: Context, landing: Landing, selection: Selection, progress: Progress) -> None:
        self.context, self.landing, self.selection, self.progress = context, landing, selection, progress
        self.seen = -1  # what changed no later was fetched in an earlier round, unless it is in `again`
        self.again: set[str] = set()
        self.report = Report()
        self.lock = threading.Lock()
        self.unavailable = 0

    def once(self, targets: Iterable[Target], jobs: int) -> Report:
        """One round over everything that is meant. Counts add up over the rounds; the lists are of the last one."""
        kept = self.report
        self.report = Report(kept.fetched, kept.fetched_bytes, kept.kept, kept.kept_bytes)
        retried, self.again = self.again, set()
        patience = self.context.settings.download_timeout
        pool = Pool(jobs, patience, work=self._work, done=self._done, give_up=self._give_up)
        try:
            pool.run(_batches(self._items(targets, retried)))
        except OSError as error:
            if error.errno not in _HOPELESS:
                raise
            raise GridError(
                f"The download ended: {error.strerror}.",
                "Make room, then run the same command again: it goes on.",
            ) from None
        return self.report

    # ------------------------------------------------------------------------------------------------ what is meant

    def _items(self, targets: Iterable[Target], retried: set[str]) -> Iterator[_Item]:
        for target in targets:
            experiment = target.experiment
            store = self.context.store(target.run.cluster)
            folder = tuple(os.fsencode(name) for name in target.folder)
            ahead = self.selection.everything and not self.selection.removed and self.seen < 0
            if ahead:
                self.progress.expect(experiment.artifacts, experiment.bytes)
            if experiment.state.active:
                self.report.active.append(experiment.name)
            names = self._names_of(experiment)
            for artifact in each_artifact(self.context.catalog, experiment.experiment_id, self.selection):
                self._note(artifact, experiment)
                if artifact.path is None or not artifact.downloadable or not self._wanted(artifact):
                    continue
                place = names.place(artifact.path) if names else Place(artifact.path)
                if place.path != artifact.path:
                    self.report.renamed.append(Renamed(experiment.name, artifact.path, place))
                # Where files had to make way for others, those that came earlier may have lost their place to new ones.
                settled = artifact.change <= self.seen and not (names and names.changed)
                if settled and artifact.artifact_id not in retried:
                    continue
                if not ahead:
                    self.progress.expect(1, artifact.size or 0)
                yield _Item(artifact, experiment, folder, store, place.path)

    def _names_of(self, experiment: Experiment) -> Names | None:
        """Where all its files lie, whatever is selected of them; None where the filesystem takes every name."""
        if self.landing.habits.ordinary:
            return None
        catalog, everything = self.context.catalog, Selection(removed=True)
        artifacts = each_artifact(catalog, experiment.experiment_id, everything)
        paths = (each.path for each in artifacts if each.path is not None and each.downloadable)
        return Names(self.landing.habits).find(paths)

    def _wanted(self, artifact: Artifact) -> bool:
        if artifact.state == ArtifactState.REMOVED:
            return self.selection.removed
        return artifact.state != ArtifactState.IGNORED

    def _note(self, artifact: Artifact, experiment: Experiment) -> None:
        """Keeps what is to be said of an artifact besides its bytes."""
        name, state = experiment.name, artifact.state
        if artifact.path is not None and is_shifted(artifact.path):
            self.report.shifted.add(artifact.path.partition(b"/")[0].decode())
        if state == ArtifactState.MISSING:
            self.report.missing.append(Problem(name, artifact.path, artifact.reason or "it was lost"))
        elif state in (ArtifactState.GROWING, ArtifactState.PENDING):
            if experiment.state.active:
                words = "still growing" if state == ArtifactState.GROWING else "on its way to the store"
                self.report.growing.append(Problem(name, artifact.path, artifact.reason or words))
            elif not artifact.downloadable:
                self._fail(artifact, experiment, artifact.reason or "it never reached the store")

    # ------------------------------------------------------------------------------------------------ in the threads

    def _work(self, item: _Item, beat: Callable[[], None]) -> _Done:
        """Gets one file. When what came is not what the record says, perhaps the object was replaced meanwhile, and the
        record with it: so the record is read again."""
        artifact = item.artifact
        changing = item.experiment.state.active
        for pause in PAUSES:
            try:
                return self._get(item, artifact, beat)
            except Refused as refusal:
                return _Done(reason=str(refusal))
            except Mismatch:
                reason = "its bytes in the store are not those that were recorded"
            except ObjectMissing as error:
                reason = error.message
            except StoreUnavailable as error:
                if pause is None:
                    self._count_unavailable(error)
                reason, changing = error.message, True
            except StoreError as error:
                if isinstance(error, StoreDenied) and not item.store.uri.startswith("file:"):
                    self._count_unavailable(error)  # in a folder, some files may be another's
                return _Done(reason=error.message)
            except OSError as error:
                if error.errno in _HOPELESS:
                    raise
                return _Done(reason=error.strerror or str(error))
            now = self.context.catalog.artifact(artifact.artifact_id)
            if now is None:
                return _Done(reason="it was deleted meanwhile")
            same, artifact = now.sha256 == artifact.sha256, now
            if pause is None or not now.downloadable or (same and not changing):
                break
            if same:
                time.sleep(pause)
        in_motion = artifact.state in (ArtifactState.GROWING, ArtifactState.PENDING)
        return _Done(reason=reason, passing=in_motion and item.experiment.state.active)

    def _count_unavailable(self, error: StoreError) -> None:
        """One file that a failing disk holds is given up; a store that is away, or refuses all, ends the download."""
        with self.lock:
            self.unavailable += 1
            if self.unavailable >= AWAY:
                away = isinstance(error, StoreUnavailable) and not isinstance(error, NoCredentials)
                again = "Run the same command again when it is back: it goes on."
                raise GridError(f"The download ended: {error.message}", again if away else error.hint)

    def _get(self, item: _Item, artifact: Artifact, beat: Callable[[], None]) -> _Done:
        def moved(count: int) -> None:
            beat()
            if count:
                self.progress.moved(count)

        def fetch(start: int, end: int | None) -> Iterator[bytes]:
            return item.store.get(artifact.key or "", start=start, end=end)

        names = _names(item.place)
        size = artifact.size or 0
        with self.landing.folder((*item.folder, *names[:-1])) as folder:
            if self.landing.has(folder, names[-1], artifact, moved):
                moved(size)
                return _Done(size, kept=True)
            part = part_name(names[-1]) if size > CHUNK and self.landing.habits.ordinary else None
            if part is not None and self._is_taken(artifact, [*names[:-1], part]):
                part = None
            # A folder gives one version to one reader, and no more to several.
            lanes = 1 if item.store.uri.startswith("file:") else LANES
            self.landing.land(folder, names[-1], artifact, part, lanes, fetch, moved)
        return _Done(size)

    def _is_taken(self, artifact: Artifact, names: list[bytes]) -> bool:
        """Whether another artifact has that path: then no part of ours may."""
        return self.context.catalog.artifact_at(artifact.experiment_id, b"/".join(names)) is not None

    # ------------------------------------------------------------------------------------------------------ results

    def _done(self, item: _Item, done: _Done) -> None:
        with self.lock:
            if done.reason is None:
                self.unavailable = 0
            if done.reason is None and done.kept:
                self.report.kept += 1
                self.report.kept_bytes += done.size
            elif done.reason is None:
                self.report.fetched += 1
                self.report.fetched_bytes += done.size
            else:
                self.again.add(item.artifact.artifact_id)
                if not done.passing:
                    self._fail(item.artifact, item.experiment, done.reason)
        self.progress.finished(1)

    def _give_up(self, item: _Item) -> None:
        patience = self.context.settings.download_timeout
        self._done(item, _Done(reason=f"no byte came for {patience:g} s, so it was given up"))

    def _fail(self, artifact: Artifact, experiment: Experiment, reason: str) -> None:
        problem = Problem(experiment.name, artifact.path, reason)
        self.report.failed.append(problem)
        self.progress.failed(problem)


def _names(path: bytes) -> list[bytes]:
    """The names that a path is made of. Raises Refused for one that would leave its folder."""
    names = path.split(b"/")
    if any(name in (b"", b".", b"..") or b"\0" in name for name in names):
        raise Refused("its path would lead out of the download folder")
    return names


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Small files in handfuls, so that handing them out costs little; a handful ends with the file that makes it
    large, so that no thread has much more to do than the others."""
    batch: list[_Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += item.artifact.size or 0
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
