"""Under which name a file that the run touched is listed, or by which rule it is not kept.

Pure: decides from the path alone. Paths are canonical bytes; the rules are those of the design (`docs/architecture.md`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gridkeep.stores.keys import is_shifted, listed_path
from gridkeep.supervisor.trees import place_of

_OUTSIDE = b"_abs/"  # stands before the absolute path of a file outside the working copy
_PRIVATE = (".ssh", ".aws", ".gnupg", ".netrc", ".docker", ".kube", ".config/gcloud")
_PARTS = {b"__pycache__": "__pycache__", b".git": ".git"}
_SHARED = "reached through a link: the run's experiments share this file"
_SYSTEM = (b"/proc/", b"/sys/", b"/dev/")


class Place(NamedTuple):
    """`listed`: the artifact's path; `rule`: why it is not kept (None: it is); `note`: what a reader should know of it."""

    listed: bytes
    rule: str | None = None
    note: str | None = None


class Naming:
    """For one experiment. `tree`: the folder that its working copy is; `links`: target of each linked entry → its path
    in the tree; `home`: Gridkeep's; `user_home`: the script's; `exclude`: patterns in git's syntax."""

    def __init__(
        self, tree: bytes, links: dict[bytes, bytes], home: bytes, user_home: bytes, exclude: Sequence[str]
    ) -> None:
        self._tree = place_of(tree) + b"/"
        self._links = {os.path.realpath(target) + b"/": name for target, name in links.items()}
        self._home = os.path.realpath(home) + b"/"
        user_home = os.path.realpath(user_home)
        self._private = tuple(os.path.join(user_home, name.encode(), b"") for name in _PRIVATE)
        self._cache = os.path.join(user_home, b".cache") + b"/"
        self._excluded = _matcher(exclude)

    def place(self, path: bytes) -> Place:
        """Where the file at this canonical path belongs."""
        if path.startswith(self._home) and not self._own(path):
            return Place(_OUTSIDE + path[1:], "home")
        if path.startswith(self._tree):
            relative = path[len(self._tree) :]
            return Place(listed_path(relative), self._rule(path, relative))
        for target, name in self._links.items():
            if path.startswith(target) or path == target[:-1]:
                relative = os.path.join(name, path[len(target) :]).rstrip(b"/")
                return Place(listed_path(relative), self._rule(path, relative), _SHARED)
        return Place(_OUTSIDE + path[1:], self._rule(path, path[1:], outside=True))

    def path_of(self, listed: bytes) -> bytes:
        """The canonical path of a file that is listed so."""
        if is_shifted(listed):
            top, slash, rest = listed.partition(b"/")
            return self._tree + top.removesuffix(b"_work") + slash + rest
        if listed.startswith(_OUTSIDE):
            return listed[len(_OUTSIDE) - 1 :]
        for target, name in self._links.items():
            if (listed + b"/").startswith(name + b"/"):
                return os.path.join(target, listed[len(name) + 1 :]).rstrip(b"/")
        return self._tree + listed

    def _own(self, path: bytes) -> bool:
        """Whether it lies in the experiment's own copy, which itself lies in the home."""
        return self._tree.startswith(self._home) and path.startswith(self._tree)

    def _rule(self, path: bytes, relative: bytes, *, outside: bool = False) -> str | None:
        if (path + b"/").startswith(self._private):
            return "private"
        if outside:
            if path.startswith(_SYSTEM) and not path.startswith(b"/dev/shm/"):
                return "system"
            if path.startswith(self._cache):
                return "cache"
        for part in relative.split(b"/"):
            if part in _PARTS:
                return _PARTS[part]
        if self._excluded is not None:
            return self._excluded(relative)
        return None


def _matcher(patterns: Sequence[str]) -> Callable[[bytes], str | None] | None:
    """A function from a relative path to the rule that excludes it; None when there are no patterns."""
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec  # only where there is something to exclude: it starts slowly

    spec = GitIgnoreSpec.from_lines(patterns)

    def rule(relative: bytes) -> str | None:
        result = spec.check_file(os.fsdecode(relative))
        if not result.include or result.index is None:
            return None
        return f"exclude {patterns[result.index]}"

    return rule
