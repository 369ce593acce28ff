"""The files of an experiment as a tree, a bounded part at a time.

What is small comes whole. Of a folder with more in it than fits only the level itself comes, its own folders closed: each is
passed over with one look into the order of paths, so the work is bounded however many files lie below. Paths are exact
bytes; names are made visible, for they are hostile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from gridkeep.catalog.base import Catalog
from gridkeep.model import Artifact, ArtifactState
from gridkeep.terminal import printable

SHOWN = (ArtifactState.STORED, ArtifactState.GROWING, ArtifactState.PENDING, ArtifactState.MISSING)
WHOLE = 300  # files that are shown at once
_SMALL = 30  # so few lie open
_ROWS = 200  # rows of a folder that is not
_COUNTED = 1000  # files of a closed folder that are counted
_COUNTS = 10  # folders in which so many are
_DEPTH = 12  # folders below one another that are shown at once

Mark = tuple[bytes, str]  # path and artifact_id: where a listing goes on


@dataclass(slots=True)
class Node:
    """A file or a folder. A folder's path ends in a slash; `artifact` is set for a file."""

    name: str
    path: bytes
    artifact: Artifact | None = None
    inside: list[Node] | None = None  # None: is not shown yet
    files: int = 0
    bytes: int = 0
    missing: int = 0
    under_way: int = 0  # growing or pending
    more: bool = False  # the counts are but lower bounds

    def count(self, artifacts: Iterable[Artifact]) -> None:
        """Adds them to what the folder tells of itself."""
        for artifact in artifacts:
            self.files += artifact.count
            self.bytes += artifact.size or 0
            self.missing += artifact.state is ArtifactState.MISSING
            self.under_way += artifact.state in (ArtifactState.GROWING, ArtifactState.PENDING)


@dataclass(slots=True)
class Listing:
    """`following`: where the next part begins, if there is one. `small`: so little that no folder needs to be closed."""

    nodes: list[Node] = field(default_factory=list)
    following: Mark | None = None
    small: bool = False


def listing(catalog: Catalog, experiment_id: str, folder: bytes = b"", after: Mark | None = None) -> Listing:
    """What lies in the folder (b"" is the root; others end in a slash), whole if it is not much."""
    reader = _Reader(catalog, experiment_id, folder)
    found = reader.page(after or (folder, ""), WHOLE + 1)
    if len(found) <= WHOLE:
        return Listing(_grown(folder, found, _DEPTH), small=len(found) <= _SMALL)
    return reader.level(found)


class _Reader:
    def __init__(self, catalog: Catalog, experiment_id: str, folder: bytes) -> None:
        self._catalog = catalog
        self._experiment_id = experiment_id
        self._folder = folder
        self._counts = _COUNTS

    def page(self, after: Mark, limit: int) -> list[Artifact]:
        """Files of the folder in order of their paths."""
        under = self._folder if self._folder.strip(b"/") else None
        found = self._catalog.artifacts(
            self._experiment_id, after=after, limit=limit, states=SHOWN, under=under
        )
        return [one for one in found if (one.path or b"").startswith(self._folder)]

    def level(self, found: list[Artifact]) -> Listing:
        """The folder's own rows, as many as fit, from the first of `found` on."""
        nodes: list[Node] = []
        after: Mark = (b"", "")
        while found and len(nodes) < _ROWS:
            top = _top(self._folder, found[0])
            if not top.endswith(b"/"):
                nodes.append(_file(self._folder, found[0]))
                after = (top, found[0].artifact_id)
                found = found[1:]
            else:
                inside = list(takewhile(lambda one: (one.path or b"").startswith(top), found))  # noqa: B023 - used at once
                found = found[len(inside) :]
                after = (top[:-1] + b"0", "")  # "0" follows "/"
                nodes.append(self._closed(top, inside, whole=bool(found)))
            if not found:
                found = self.page(after, _ROWS)
        return Listing(nodes, after if found else None)

    def _closed(self, path: bytes, inside: list[Artifact], *, whole: bool) -> Node:
        node = _dir(self._folder, path)
        node.count(inside)
        if not whole:
            room = _COUNTED if self._counts > 0 else 0
            last = (inside[-1].path or b"", inside[-1].artifact_id)
            rest = self.page(last, room + 1)
            rest = [one for one in rest if (one.path or b"").startswith(path)]
            self._counts -= 1
            node.more = len(rest) > room
            node.count(rest[:room])
        return node


def _grown(folder: bytes, found: Sequence[Artifact], depth: int) -> list[Node]:
    """All that was found, folders first."""
    inside: dict[bytes, list[Artifact]] = {}
    files: list[Node] = []
    for artifact in found:
        top = _top(folder, artifact)
        if top.endswith(b"/"):
            inside.setdefault(top, []).append(artifact)
        else:
            files.append(_file(folder, artifact))
    folders = []
    for path, artifacts in inside.items():
        while len(tops := {_top(path, one) for one in artifacts}) == 1 and (only := tops.pop()).endswith(
            b"/"
        ):
            path = only  # a folder with nothing in it but a folder is shown with it
        node = _dir(folder, path)
        node.count(artifacts)
        if depth > 1:
            node.inside = _grown(path, artifacts, depth - 1)
        folders.append(node)
    return folders + files


def _top(folder: bytes, artifact: Artifact) -> bytes:
    """The path of the row that the file is, or lies in. Outside the working copy paths begin with a slash."""
    path = artifact.path or b""
    slash = path.find(b"/", len(folder))
    return path if slash < 0 else path[: slash + 1]


def _file(folder: bytes, artifact: Artifact) -> Node:
    name = "a file of unknown name" if artifact.path is None else printable(artifact.path[len(folder) :])
    return Node(name, artifact.path or b"", artifact)


def _dir(folder: bytes, path: bytes) -> Node:
    return Node(printable(path[len(folder) :]), path)
