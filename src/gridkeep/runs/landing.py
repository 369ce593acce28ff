"""The local side of a download: a verified file under its name, or a part that a later download goes on with.

Everything is reached by descriptor from the download folder down, and no symbolic link in it is followed:
whatever an artifact is called and whatever was planted there, nothing is written outside. A small file is
written in one go to a temporary in the hidden workshop folder and renamed; a large one grows as `NAME.partial`
beside its name (`part`, `filling`). Knows neither catalog nor store: the bytes come from a function.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gridkeep.model import Artifact
from gridkeep.runs.filling import Beat, Fetch, Mismatch, Proof, write
from gridkeep.runs.fitting import habits_of, remove_probe
from gridkeep.runs.part import NEW, Part, Refused, temporary_name
from gridkeep.terminal import printable

WORKSHOP = ".gridkeep"
CHUNK = 2**20  # bytes; what is smaller is held whole
STALE = 86400.0  # seconds

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
            file = os.open(name, _OLD, dir_fd=folder)
        except OSError:
            return False
        try:
            proof = Proof(file, found.st_size)
            proof.follow(found.st_size, beat)
            if proof.sha256() != artifact.sha256:
                return False
            _dress(file, artifact)
            return True
        except Mismatch:
            return False
        finally:
            os.close(file)

    def land(
        self,
        folder: int,
        name: bytes,
        artifact: Artifact,
        beside: bytes | None,
        lanes: int,
        fetch: Fetch,
        beat: Beat,
    ) -> None:
        """Puts the file under its name, whole and verified. What is large comes by so many lanes, and is called `beside` in
        that folder until then (None: it lies in the workshop). Raises Mismatch, Refused, OSError, and what `fetch` and
        `beat` raise."""
        try:
            if (artifact.size or 0) <= CHUNK:
                self._land_small(folder, name, artifact, fetch, beat)
            else:
                self._land_large(folder, name, artifact, beside, lanes, fetch, beat)
        except IsADirectoryError:
            raise Refused("a folder stands where the file must be") from None

    # -------------------------------------------------------------------------------------------- small files

    def _land_small(self, folder: int, name: bytes, artifact: Artifact, fetch: Fetch, beat: Beat) -> None:
        content = bytearray()
        for chunk in fetch(0, None):
            content += chunk
            beat(len(chunk))
            if len(content) > CHUNK:
                break
        if hashlib.sha256(content).hexdigest() != artifact.sha256:
            beat(-len(content))
            raise Mismatch
        temporary = temporary_name()
        file = os.open(temporary, NEW, 0o666, dir_fd=self._workshop)
        try:
            try:
                write(file, content)
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
        self,
        folder: int,
        name: bytes,
        artifact: Artifact,
        beside: bytes | None,
        lanes: int,
        fetch: Fetch,
        beat: Beat,
    ) -> None:
        identity = f"{artifact.experiment_id}/".encode() + (artifact.path or b"")
        mark = hashlib.sha256(identity).hexdigest().encode()
        place = (folder, beside) if beside is not None else (self._workshop, mark + b".partial")
        with Part(self._workshop, place, mark + b".json", artifact) as part:
            part.complete(lanes, fetch, beat)
            _dress(part.file, artifact)
            part.rename((folder, name))

    # ----------------------------------------------------------------------------------------------- workshop

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
