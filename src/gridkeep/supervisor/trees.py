"""The folders that are looked through for changes: the working copy, and what of the project it links to.

Looks at the file system and changes nothing; knows nothing of what the run did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

Found = tuple[bytes, os.stat_result]


class Trees:
    """The working copy, `tree`, and, once they are included, linked folders and files. All paths are canonical. Gridkeep's
    `home` is passed over where it lies in one of them: it changes all the time."""

    def __init__(self, tree: bytes, home: bytes) -> None:
        self.roots = [os.path.realpath(tree)]
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
    folders if they are asked for; but not the folder `without`. No link is followed; what cannot be read is passed over."""
    if not os.path.isdir(top):
        with suppress(OSError):
            yield top, os.lstat(top)
        return
    unseen = [top]
    while unseen:
        try:
            with os.scandir(unseen.pop()) as entries:
                for entry in entries:
                    try:
                        if not entry.is_dir(follow_symlinks=False):
                            yield entry.path, entry.stat(follow_symlinks=False)
                        elif entry.path != without:
                            unseen.append(entry.path)
                            if folders:
                                yield entry.path, entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
        except OSError:
            continue


def within(path: bytes, root: bytes) -> bool:
    """Whether it is that folder or lies in it."""
    return path == root or path.startswith(root + b"/")
