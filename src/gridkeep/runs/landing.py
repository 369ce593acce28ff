"""The local side of a download: a verified file under its name, or a part that a later download goes on with.

Everything is reached by descriptor from the download folder down, and no symbolic link in it is followed:
whatever an artifact is called and whatever was planted there, nothing is written outside. A small file is
written in one go to a temporary in the hidden workshop folder and renamed; a large one grows as
`NAME.partial` beside its name, and a sidecar in the workshop says which version it is a part of. Knows
neither catalog nor store: the bytes come from a function.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gridkeep.model import Artifact
from gridkeep.runs.fitting import habits_of, remove_probe
from gridkeep.terminal import printable

WORKSHOP = ".gridkeep"
CHUNK = 2**20  # bytes; what is smaller is held whole
NAME_LIMIT = 255
STALE = 86400.0  # seconds

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted pipe must not hold us

_serial = itertools.count()

Fetch = Callable[[int], Iterator[bytes]]  # the artifact's bytes from an offset on
Beat = Callable[[int], None]  # told of every so many bytes that moved; may raise to give up


class Refused(Exception):
    """This file cannot be put where it belongs; the words say why."""


class Mismatch(Exception):
    """The bytes that came are not those of the record."""


class Landing:
    """A download folder. Use it as a context manager; its methods may be called from several threads."""

    def __init__(self, directory: str) -> None:
        self._root = self._workshop = -1
        os.makedirs(directory, exist_ok=True)
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._workshop = self._open_workshop()
        self._sweep()
        self.habits = habits_of(self._workshop)

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the workshop unless it holds parts or another download uses it."""
        with suppress(OSError):
            fcntl.flock(self._workshop, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(WORKSHOP, dir_fd=self._root)

    def __del__(self) -> None:
        """Not at the exit: a thread that was given up may wake much later, and must not find another file under a
        number."""
        for descriptor in (self._root, self._workshop):
            if descriptor >= 0:
                os.close(descriptor)

    @contextmanager
    def folder(self, names: tuple[bytes, ...]) -> Iterator[int]:
        """The descriptor of a folder, made with all above it. Raises Refused, OSError."""
        current = os.dup(self._root)
        try:
            for at, name in enumerate(names):
                try:
                    below = self._enter(current, name)
                except NotADirectoryError:
                    raise Refused(_in_the_way(current, name, b"/".join(names[: at + 1]))) from None
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def has(self, folder: int, name: bytes, artifact: Artifact, beat: Beat) -> bool:
        """Whether the file is there already, byte by byte; then its time and executable bit are made
        right."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_size != artifact.size:
                return False
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return False
        try:
            if _hash_of(file, found.st_size, beat).hexdigest() != artifact.sha256:
                return False
            _dress(file, artifact)
            return True
        finally:
            os.close(file)

    def land(
        self, folder: int, name: bytes, artifact: Artifact, part: bytes | None, fetch: Fetch, beat: Beat
    ) -> None:
        """Puts the file under its name, whole and verified. `part` is what to call it beside its name until
        then (None: in the workshop). Raises Mismatch, Refused, OSError, and what `fetch` and `beat` raise."""
        try:
            if (artifact.size or 0) <= CHUNK:
                self._land_small(folder, name, artifact, fetch, beat)
            else:
                self._land_large(folder, name, artifact, part, fetch, beat)
        except IsADirectoryError:
            raise Refused("a folder stands where the file must be") from None

    # -------------------------------------------------------------------------------------------- small files

    def _land_small(self, folder: int, name: bytes, artifact: Artifact, fetch: Fetch, beat: Beat) -> None:
        content = bytearray()
        for chunk in fetch(0):
            content += chunk
            beat(len(chunk))
            if len(content) > CHUNK:
                break
        if hashlib.sha256(content).hexdigest() != artifact.sha256:
            beat(-len(content))
            raise Mismatch
        temporary = self._temporary_name()
        file = os.open(temporary, _NEW, 0o666, dir_fd=self._workshop)
        try:
            try:
                _write(file, content)
                _dress(file, artifact)
            finally:
                os.close(file)
            os.rename(temporary, name, src_dir_fd=self._workshop, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._workshop)
            raise

    # -------------------------------------------------------------------------------------------- large files

    def _land_large(
        self, folder: int, name: bytes, artifact: Artifact, part: bytes | None, fetch: Fetch, beat: Beat
    ) -> None:
        mark = (
            hashlib.sha256(f"{artifact.experiment_id}/".encode() + (artifact.path or b""))
            .hexdigest()
            .encode()
        )
        place = (folder, part) if part is not None else (self._workshop, mark + b".partial")
        file = _locked(*place)
        if file is None:  # another download is at it: make a part of our own, that nobody goes on with
            place = (self._workshop, self._temporary_name())
            file, sidecar = os.open(place[1], _NEW, 0o666, dir_fd=self._workshop), None
        else:
            sidecar = mark + b".json"
        try:
            have = self._continued(file, artifact, sidecar)
            if not _filled(file, artifact, have, fetch, beat):
                beat(-os.fstat(file).st_size)
                os.ftruncate(file, 0)
                # A part that a power cut left with holes, or of a version that was overwritten: once more
                # from the start.
                if not have or not _filled(file, artifact, 0, fetch, beat):
                    os.ftruncate(file, 0)
                    raise Mismatch
            _dress(file, artifact)
            os.rename(place[1], name, src_dir_fd=place[0], dst_dir_fd=folder)
            if sidecar is not None:
                self._discard((self._workshop, sidecar))
        except BaseException:
            if sidecar is None or not os.fstat(file).st_size:
                self._discard(place, (self._workshop, sidecar))
            raise
        finally:
            os.close(file)

    def _continued(self, file: int, artifact: Artifact, sidecar: bytes | None) -> int:
        """How many bytes of this very version the part holds; else it is emptied and said to be of this
        version now."""
        version = {"sha256": artifact.sha256, "size": artifact.size}
        if sidecar is None:
            return 0
        if self._read_sidecar(sidecar) == version:
            have = os.fstat(file).st_size
            if have <= (artifact.size or 0):
                return have
        os.ftruncate(file, 0)
        temporary = self._temporary_name()
        out = os.open(temporary, _NEW, 0o600, dir_fd=self._workshop)
        try:
            _write(out, json.dumps(version).encode())
        finally:
            os.close(out)
        os.rename(temporary, sidecar, src_dir_fd=self._workshop, dst_dir_fd=self._workshop)
        return 0

    def _read_sidecar(self, sidecar: bytes) -> object:
        try:
            with open(os.open(sidecar, _NOTE, dir_fd=self._workshop), "rb") as file:
                return json.loads(file.read(4096) or b"")
        except (OSError, ValueError):
            return None

    @staticmethod
    def _discard(*places: tuple[int, bytes | None]) -> None:
        for folder, name in places:
            if name is not None:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    # ----------------------------------------------------------------------------------------------- workshop

    def _temporary_name(self) -> bytes:
        return b"%d-%d.tmp" % (os.getpid(), next(_serial))

    def _open_workshop(self) -> int:
        """Its descriptor, with a shared lock: as long as that is held nobody removes it."""
        while True:
            workshop = self._enter(self._root, os.fsencode(WORKSHOP))
            fcntl.flock(workshop, fcntl.LOCK_SH)
            if os.fstat(workshop).st_nlink:
                return workshop
            os.close(workshop)  # it was removed between the two

    def _sweep(self) -> None:
        """Removes the temporaries of downloads that were killed; parts stay, somebody may go on with them."""
        oldest = time.time() - STALE
        for name in os.listdir(self._workshop):
            with suppress(OSError):
                if os.stat(name, dir_fd=self._workshop).st_mtime >= oldest:
                    continue
                if name.endswith(".tmp"):
                    os.unlink(name, dir_fd=self._workshop)
                elif name.endswith(".probe"):
                    remove_probe(self._workshop, name)

    @staticmethod
    def _enter(current: int, name: bytes) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=current)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=current)
            return os.open(name, _FOLDER, dir_fd=current)


def part_name(name: bytes) -> bytes | None:
    """`NAME.partial`, or None where that is too long for a file's name."""
    part = name + b".partial"
    return part if len(part) <= NAME_LIMIT else None


def _locked(folder: int, name: bytes) -> int | None:
    """The part, opened and locked for this process, or None when another has it."""
    while True:
        file = os.open(name, _PART, 0o666, dir_fd=folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(file)
            if not stat.S_ISREG(mine.st_mode):
                raise Refused(f"{printable(name)} is in the way, and is no file")
            named = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass  # the other finished and renamed it: ask again
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _filled(file: int, artifact: Artifact, have: int, fetch: Fetch, beat: Beat) -> bool:
    """Adds what the part lacks; tells whether it is the artifact now."""
    digest = _hash_of(file, have, beat)
    size = have
    beat(have)
    for chunk in fetch(have):
        size += len(chunk)
        if size > (artifact.size or 0):
            break
        _write(file, chunk, at=size - len(chunk))
        digest.update(chunk)
        beat(len(chunk))
    return size == artifact.size and digest.hexdigest() == artifact.sha256


def _hash_of(file: int, size: int, beat: Beat) -> hashlib._Hash:
    digest = hashlib.sha256()
    at = 0
    while at < size and (chunk := os.pread(file, min(CHUNK, size - at), at)):
        digest.update(chunk)
        at += len(chunk)
        beat(0)
    return digest


def _write(file: int, content: bytes | bytearray, at: int = 0) -> None:
    rest = memoryview(content)
    while rest:
        done = os.pwrite(file, rest, at)
        rest, at = rest[done:], at + done


def _dress(file: int, artifact: Artifact) -> None:
    """Gives the file its modification time and executable bit; the other permissions are the downloader's
    own."""
    found = os.fstat(file)
    mode = stat.S_IMODE(found.st_mode)
    if artifact.mode is not None:
        wanted = mode | (mode & 0o444) >> 2 if artifact.mode & 0o111 else mode & ~0o111
        if wanted != mode:
            os.fchmod(file, wanted)
    if artifact.mtime_ns is not None and artifact.mtime_ns != found.st_mtime_ns:
        os.utime(file, ns=(artifact.mtime_ns, artifact.mtime_ns))


def _in_the_way(folder: int, name: bytes, path: bytes) -> str:
    kind = "a file"
    with suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            kind = "a symbolic link, which is not followed,"
    return f"{kind} stands where the folder {printable(path)} must be"
