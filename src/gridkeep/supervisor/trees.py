"""The folders that are looked through for changes: the working copy, and what of the project it links to.

Looks at the file system and changes nothing; knows nothing of what the run did.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

Found = tuple[bytes, os.stat_result]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Trees:
    """The working copy, `tree`, and, once they are included, linked folders and files. All paths are canonical. Gridkeep's
    `home` is passed over where it lies in one of them: it changes all the time."""

    def __init__(self, tree: bytes, home: bytes) -> None:
        self.roots = [place_of(tree)]
        self._home = os.path.realpath(home)

    def include(self, linked: Sequence[bytes]) -> None:
        """These (canonical) too, but for what lies in one that is included already."""
        for path in sorted(linked):
            if not any(within(path, root) for root in self.roots):
                self.roots.append(path)

    def holds(self, path: bytes) -> bool:
        """Whether what is at this path is one of theirs."""
        for root in self.roots:
            if within(path, root):
                return not (within(self._home, root) and within(path, self._home))
        return False

    def walk(self, *, folders: bool = False) -> Iterator[Found]:
        """Everything in them, as `walk`."""
        for root in self.roots:
            yield from walk(root, folders=folders, without=self._home)

    def below(self, folder: bytes) -> Iterator[Found]:
        """Everything in one folder of them."""
        return walk(folder, without=self._home)


def walk(top: bytes, *, folders: bool = False, without: bytes | None = None) -> Iterator[Found]:
    """All that lies in `top` (or `top` itself, if it is no folder) with its lstat: files, links, special files, and the
    folders if they are asked for; but not the folder `without`. No link is followed. A folder that cannot be looked into,
    or lies so deep that there is no path to it, is given in place of what it holds."""
    try:
        unseen = [(top, os.lstat(top))]
    except OSError:
        return
    while unseen:
        path, st = unseen.pop()
        try:
            folder = os.open(path, _FOLDER)
        except NotADirectoryError:
            if path == top:
                yield path, st
            continue
        except OSError as error:
            if error.errno != errno.ENOENT and not folders:
                yield path, st
            continue
        try:
            for below, st in _entries(path, folder):
                is_folder = stat.S_ISDIR(st.st_mode)
                if is_folder and below != without:
                    unseen.append((below, st))
                if folders or not is_folder:
                    yield below, st
        finally:
            os.close(folder)


def _entries(path: bytes, folder: int) -> Iterator[Found]:
    """What an open folder holds; by its descriptor, for a path may be too long."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # gone meanwhile
                yield os.path.join(path, os.fsencode(entry.name)), entry.stat(follow_symlinks=False)


def place_of(folder: bytes) -> bytes:
    """The canonical path of a folder, though the run may have put a link in its place."""
    return os.path.join(os.path.realpath(os.path.dirname(folder)), os.path.basename(folder))


def within(path: bytes, root: bytes) -> bool:
    """Whether it is that folder or lies in it."""
    return path == root or path.startswith(root + b"/")
