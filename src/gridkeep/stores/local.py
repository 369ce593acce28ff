"""A store in a folder: an object is a file, a key its path below the root.

An object is written to a temporary file in the store's own `.tmp/` (so on the same filesystem, and in no
listing), made durable, and renamed. Folders are walked by descriptor and symbolic links are followed nowhere
below the root: a link planted in the store leads nobody out of it. The root is never made on the way: a disk
that is not mounted must look away, not empty. Knows nothing of experiments.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO

from gridkeep.errors import (
    KeyConflict,
    ObjectExists,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from gridkeep.stores import durable
from gridkeep.stores import workshop as workshops
from gridkeep.stores.base import ObjectInfo
from gridkeep.stores.folders import FOLDER, Folders, enter
from gridkeep.stores.keys import names_of
from gridkeep.stores.probe import probe

CHUNK = 2**20
_ZEROS = bytes(CHUNK)
TEMPORARY = ".tmp"
_ONLY = "0"  # name of what is written alone
DELETE_BATCH = 1000
PLACE_TRIES = 20

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted pipe must not hold us
_CONFLICT = (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class LocalStore:
    """See `base.Store`. `root` is an absolute path; `create` makes it."""

    def __init__(self, root: str, *, create: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.uri = f"file://{self.root.rstrip('/')}/"
        self.prefix = ""
        self._folders = Folders()
        if create:
            with self._explained("", writing=True):
                os.makedirs(self.root, mode=0o700, exist_ok=True)

    def put(
        self, key: str, source: BinaryIO, *, if_absent: bool = False, journal: str | None = None
    ) -> ObjectInfo:
        names = _names(key)
        with self._workshop(key) as workshop:
            out = self._new_file(workshop, _ONLY, key)
            try:
                size = self._copy(key, source, out)
                with self._explained(key, writing=True):
                    os.fsync(out)
                self._place(workshop, _ONLY, names, key, if_absent)
            finally:
                os.close(out)
        return ObjectInfo(key, size)

    def put_many(self, objects: Sequence[tuple[str, BinaryIO]]) -> Sequence[ObjectInfo | Exception]:
        with self._workshop() as workshop, ExitStack() as opened:
            written = [
                self._write(workshop, str(at), key, source, opened)
                for at, (key, source) in enumerate(objects)
            ]
            settle = durable.written_back if durable.commits_together(workshop) else os.fsync
            answers = [
                self._finish(key, *item, settle) if isinstance(item, tuple) else item
                for (key, _), item in zip(objects, written, strict=True)
            ]
            self._place_many(workshop, answers)
        return answers

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        names = _names(key)
        with self._folder(names[:-1], key) as folder, self._explained(key):
            descriptor = os.open(names[-1], _OLD_FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._missing(key)
        return self._chunks(key, os.fdopen(descriptor, "rb", 0), start, end)

    def head(self, key: str) -> ObjectInfo:
        names = _names(key)
        with self._folder(names[:-1], key) as folder, self._explained(key):
            found = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise self._missing(key)
        return ObjectInfo(key, found.st_size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        waiting = [_names(prefix.rstrip("/")) if prefix else []]
        while waiting:
            names = waiting.pop()
            where = "/".join(names)
            try:
                with (
                    self._folder(names, where) as folder,
                    self._explained(where),
                    os.scandir(folder) as entries,
                ):
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if names or entry.name != TEMPORARY:
                                waiting.append([*names, entry.name])
                        elif entry.is_file(follow_symlinks=False):
                            with suppress(FileNotFoundError):  # removed while we look
                                size = os.stat(entry.name, dir_fd=folder, follow_symlinks=False).st_size
                                yield ObjectInfo("/".join([*names, entry.name]), size)
            except ObjectMissing:
                continue  # a folder that nobody made yet, or that was removed meanwhile

    def folders(self, prefix: str) -> Iterator[str]:
        names = _names(prefix.rstrip("/")) if prefix else []
        with (
            suppress(ObjectMissing),
            self._folder(names, prefix) as folder,
            self._explained(prefix),
            os.scandir(folder) as entries,
        ):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and (names or entry.name != TEMPORARY):
                    yield entry.name

    def delete(self, keys: Iterable[str]) -> None:
        rest = iter(keys)
        while batch := list(itertools.islice(rest, DELETE_BATCH)):
            folders: set[tuple[str, ...]] = set()
            for key in batch:
                names = _names(key)
                try:
                    with self._folder(names[:-1], key) as folder, self._explained(key):
                        if not stat.S_ISDIR(os.stat(names[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                            os.unlink(names[-1], dir_fd=folder)
                except ObjectMissing:
                    continue
                folders.add(tuple(names[:-1]))
            for names_above in sorted(folders, key=len, reverse=True):
                self._prune(names_above)

    def abandon(self, prefix: str) -> None:
        """Of any key: whoever is alive holds a lock on what it writes."""
        self._sweep()

    def sign(self, keys: Sequence[str], expires: float) -> None:
        return None

    def check(self) -> None:
        self._sweep()
        probe(self)

    # ------------------------------------------------------------------------------------------------ putting

    @contextmanager
    def _workshop(self, key: str = "") -> Iterator[int]:
        """A folder to write in; what is left in it at the end goes."""
        with self._folder([TEMPORARY], key, make=True) as above:
            with self._explained(key, writing=True):
                workshop = workshops.begin(above)
            try:
                yield workshop.folder
            finally:
                workshop.end()

    def _new_file(self, workshop: int, name: str, key: str) -> int:
        with self._explained(key, writing=True):
            return os.open(name, _NEW_FILE, 0o600, dir_fd=workshop)

    def _write(
        self, workshop: int, name: str, key: str, source: BinaryIO, opened: ExitStack
    ) -> tuple[int, int] | Exception:
        """One of many: written, and on its way to the disk while the next is written. Its descriptor and size."""
        try:
            _names(key)
            out = self._new_file(workshop, name, key)
            opened.callback(os.close, out)
            size = self._copy(key, source, out)
            # Starts the write-back; we do not read it again.
            os.posix_fadvise(out, 0, 0, os.POSIX_FADV_DONTNEED)
            return out, size
        except Exception as error:
            return error

    def _finish(self, key: str, out: int, size: int, settle: Callable[[int], None]) -> ObjectInfo | Exception:
        """Durable but for its name, or (`durable`) as soon as its name is."""
        try:
            with self._explained(key, writing=True):
                settle(out)
            return ObjectInfo(key, size)
        except StoreError as error:
            return error

    def _place_many(self, workshop: int, answers: MutableSequence[ObjectInfo | Exception]) -> None:
        """Renames what is finished to its key, with one fsync for each folder. Puts errors into `answers`."""
        folders: dict[tuple[str, ...], list[int]] = {}
        for at, answer in enumerate(answers):
            if isinstance(answer, ObjectInfo):
                folders.setdefault(tuple(_names(answer.key)[:-1]), []).append(at)
        for names, places in folders.items():
            try:
                with self._folder(names, "/".join(names), make=True) as folder:
                    for at in places:
                        answers[at] = self._rename_one(workshop, str(at), folder, answers[at])
                    with self._explained("/".join(names), writing=True):
                        self._folders.settle(folder)
            except StoreError as error:
                for at in places:
                    answers[at] = error

    def _rename_one(
        self, workshop: int, name: str, folder: int, answer: ObjectInfo | Exception
    ) -> ObjectInfo | Exception:
        assert isinstance(answer, ObjectInfo)
        try:
            with self._explained(answer.key, writing=True):
                os.rename(name, answer.key.rpartition("/")[2], src_dir_fd=workshop, dst_dir_fd=folder)
            return answer
        except StoreError as error:
            return error

    def _copy(self, key: str, source: BinaryIO, out: int) -> int:
        """All of `source` into the descriptor; a hole stays one. What `source` raises is not translated: it is not ours."""
        size, holes = 0, False
        while chunk := source.read(CHUNK):
            with self._explained(key, writing=True):
                if holes := len(chunk) == CHUNK and chunk == _ZEROS:
                    os.lseek(out, CHUNK, os.SEEK_CUR)
                else:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(out, rest) :]
            size += len(chunk)
        if holes:  # the last chunk: a seek alone makes no file longer
            with self._explained(key, writing=True):
                os.ftruncate(out, size)
        return size

    def _place(self, workshop: int, temporary: str, names: Sequence[str], key: str, if_absent: bool) -> None:
        """Gives the finished file its key, durably. Begins again when a `delete` removed the folder, empty as
        it was, under its feet."""
        for tries_left in range(PLACE_TRIES, -1, -1):
            try:
                with self._folder(names[:-1], key, make=True) as folder, self._explained(key, writing=True):
                    if if_absent:
                        self._link(workshop, temporary, folder, names[-1], key)
                    else:
                        os.rename(temporary, names[-1], src_dir_fd=workshop, dst_dir_fd=folder)
                    self._folders.settle(folder)
                    return
            except StoreUnavailable as error:
                if not tries_left or not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def _link(self, workshop: int, temporary: str, folder: int, name: str, key: str) -> None:
        """A rename that never replaces."""
        try:
            os.link(temporary, name, src_dir_fd=workshop, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise self._conflict(key) from None
            raise ObjectExists(f"The store {self.uri} has an object {key} already.") from None

    # ------------------------------------------------------------------------------------------------ folders

    @contextmanager
    def _folder(self, names: Sequence[str], key: str = "", *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder below the root, made with all above it (durably) when asked."""
        try:
            current = os.open(self.root, FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreUnavailable(
                f"The store's folder {self.root} is not there.",
                "Mount the disk that holds it, or make the folder.",
            ) from None
        except OSError as error:
            raise self._translated(error, key, writing=True) from None
        try:
            for name in names:
                with self._explained(key, writing=make):
                    below = self._folders.make(current, name) if make else enter(current, name)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _prune(self, names: tuple[str, ...]) -> None:
        """Removes a folder if it is empty, and those above it as far as they are; what is gone stays gone."""
        while names:
            try:
                with self._folder(names[:-1]) as above:
                    os.rmdir(names[-1], dir_fd=above)
            except (ObjectMissing, FileNotFoundError):
                pass  # another was faster
            except OSError:
                break  # not empty, or not ours to remove
            names = names[:-1]
        with suppress(ObjectMissing), self._folder(names) as survivor, self._explained("/".join(names)):
            os.fsync(survivor)

    def _sweep(self) -> None:
        with self._folder([TEMPORARY], make=True) as above, self._explained(TEMPORARY):
            workshops.sweep(above)

    # ------------------------------------------------------------------------------------------------ reading

    def _chunks(self, key: str, file: io.FileIO, start: int, end: int | None) -> Iterator[bytes]:
        with file:
            while end is None or start < end:
                with self._explained(key):
                    chunk = os.pread(file.fileno(), CHUNK if end is None else min(CHUNK, end - start), start)
                if not chunk:
                    return
                yield chunk
                start += len(chunk)

    # ------------------------------------------------------------------------------------------------- errors

    @contextmanager
    def _explained(self, key: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._translated(error, key, writing=writing) from error

    def _translated(self, error: OSError, key: str, *, writing: bool) -> StoreError:
        if error.errno in _CONFLICT and writing:
            return self._conflict(key)
        if error.errno in (*_CONFLICT, errno.ENOENT) and not writing:
            return self._missing(key)
        if error.errno in _FULL:
            return StoreFull(f"The store {self.uri} is full: {error.strerror}.", "Make room on its disk.")
        if error.errno in _DENIED:
            return StoreDenied(
                f"The store refuses {self.uri}{key}: {error.strerror}.",
                "Check who owns that folder and its permissions.",
            )
        return StoreUnavailable(
            f"The store failed at {self.uri}{key}: {error.strerror}.", "Check its disk, then try again."
        )

    def _missing(self, key: str) -> ObjectMissing:
        return ObjectMissing(f"The store {self.uri} has no object {key}.")

    def _conflict(self, key: str) -> KeyConflict:
        return KeyConflict(f"The key {key} cannot stand in {self.uri} beside one that is there.")


def _names(key: str) -> list[str]:
    """The names that a key is made of. Raises StoreError for one that would leave the root or enter `.tmp/`."""
    names = names_of(key)
    if names[0] == TEMPORARY:
        raise StoreError(f"{key!r} cannot be a key.")
    return names
