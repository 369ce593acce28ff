"""What the page behind a share link shows of a place: names, sizes, states and addresses, from what the catalog says.

A page of at most a thousand files; each address on it begins with the link's own. Knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.shares import Share
from gridkeep.model import Artifact, Experiment
from gridkeep.runs.shares import SHOWN, Place

_PAGE = 1000
_LATEST = 2**62  # ns, in the year 2116


@dataclass(frozen=True, slots=True)
class File:
    """A line of a listing. Without bytes in the store it has no address, and its state says why."""

    name: bytes
    artifact: Artifact
    href: str | None
    save: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """The files directly in one folder. `name` is the way to it from the place; empty for the place itself."""

    name: bytes
    href: str
    save: str
    files: list[File] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class View:
    """`save` downloads the file, or the ZIP of all; `crumbs` lead from what is shared to the place."""

    share: Share
    place: Place
    name: bytes
    save: str
    href: str | None  # of a file's bytes, to be looked at
    crumbs: list[tuple[bytes, str]]
    folders: list[Folder] = field(default_factory=list)
    experiments: list[tuple[Experiment, str, str]] = field(default_factory=list)  # with page and ZIP
    following: str | None = None  # the next page

    @property
    def modified_at(self) -> float | None:
        """Of a file; files may bear times that no calendar has."""
        found = None if self.place.artifact is None else self.place.artifact.mtime_ns
        return found / 1e9 if found is not None and 0 <= found < _LATEST else None


def view_of(catalog: Catalog, base: str, share: Share, top: Place, place: Place, after: str | None) -> View:
    """`base` is the path of the link; `after` where the page before ended."""
    links = _Links(base, top)
    crumbs = links.crumbs(place)
    name = (place.path or links.name(place)).rpartition(b"/")[2]
    if place.artifact is not None:
        href, save = links.of_file(place, place.path or b"")
        return View(share, place, name, save, href, crumbs)
    here, save = links.of_folder(place)
    if place.experiment is None:
        begin = int(after) if after and after.isdecimal() and len(after) < 10 else -1
        found = catalog.experiments(place.run.run_id, after=begin, limit=_PAGE + 1)
        each = [(one, *links.of_folder(Place(place.run, one))) for one in found[:_PAGE]]
        following = f"{here}?after={found[_PAGE - 1].index}" if len(found) > _PAGE else None
        return View(share, place, name, save, None, crumbs, [], each, following)
    files, last = _artifacts(catalog, place, after)
    following = f"{here}?after={last}" if last else None
    return View(share, place, name, save, None, crumbs, _by_folder(links, place, files), [], following)


def _artifacts(catalog: Catalog, place: Place, after: str | None) -> tuple[Sequence[Artifact], str | None]:
    """A page of them, and with which it ended if there are more."""
    assert place.experiment is not None
    ulid, begin = place.experiment.experiment_id, None
    if after and (last := catalog.artifact(after)) and last.experiment_id == ulid:
        begin = (last.path or b"", last.artifact_id)
    found = catalog.artifacts(ulid, after=begin, limit=_PAGE + 1, states=SHOWN, under=place.path)
    return found[:_PAGE], found[_PAGE - 1].artifact_id if len(found) > _PAGE else None


def _by_folder(links: _Links, place: Place, artifacts: Sequence[Artifact]) -> list[Folder]:
    folders: dict[bytes, Folder] = {}
    start = 0 if place.path is None else len(place.path) + 1
    for artifact in artifacts:
        path = artifact.path or b""
        above, _, name = path.rpartition(b"/")
        if above not in folders:
            href, save = links.of_folder(Place(place.run, place.experiment, above or None))
            folders[above] = Folder(above[start:], href, save)
        addresses = links.of_file(place, path) if artifact.downloadable else (None, None)
        folders[above].files.append(File(name, artifact, *addresses))
    return sorted(folders.values(), key=lambda folder: folder.name.split(b"/"))


@dataclass(frozen=True, slots=True)
class _Links:
    """Addresses below a link that leads to `top`."""

    base: str
    top: Place

    def of_file(self, place: Place, path: bytes) -> tuple[str, str]:
        """To look at it, and to download it."""
        rest = self._rest(place.experiment, path)
        if rest in (b"", b"raw"):  # the link's own file; or one that is called as a part of the address is
            href = f"{self.base}/raw?path={rest.decode()}" if rest else f"{self.base}/raw"
            return href, f"{href}{'&' if rest else '?'}download=1"
        href = f"{self.base}/{quote(rest)}"
        return href, f"{href}?download=1"

    def of_folder(self, place: Place) -> tuple[str, str]:
        """Its page, and its ZIP. A run is a folder of its experiments, and an experiment one of its files."""
        rest = self._rest(place.experiment, place.path or b"").rstrip(b"/")
        if not rest:
            return self.base, f"{self.base}/raw"
        return f"{self.base}/{quote(rest)}/", f"{self.base}/raw?path={quote(rest, safe='')}%2F"

    def crumbs(self, place: Place) -> list[tuple[bytes, str]]:
        """From the top down to the one that holds the place."""
        if place == self.top:
            return []
        above = [(self.name(self.top), self.base)]
        if self.top.experiment is None and place.path is not None and place.experiment is not None:
            above.append(
                (place.experiment.name.encode(), self.of_folder(Place(place.run, place.experiment))[0])
            )
        names = [] if place.path is None else place.path.split(b"/")
        for end in range(0 if self.top.path is None else len(self.top.path.split(b"/")), len(names)):
            if end:
                folder = Place(place.run, place.experiment, b"/".join(names[:end]))
                if folder.path != self.top.path:
                    above.append((names[end - 1], self.of_folder(folder)[0]))
        return above

    def name(self, place: Place) -> bytes:
        """What it is called where it is the top."""
        if place.path is not None:
            return place.path.rpartition(b"/")[2]
        return (place.run.name if place.experiment is None else place.experiment.name).encode()

    def _rest(self, experiment: Experiment | None, path: bytes) -> bytes:
        """The way from the top."""
        if self.top.path is not None:
            return path[len(self.top.path) + 1 :]
        return path if self.top.experiment or experiment is None else experiment.name.encode() + b"/" + path
