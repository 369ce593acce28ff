"""Working copies: taken once for a run when it is submitted, and cloned from there for each experiment.

So queued experiments do not run edited code, and those of a sweep never overwrite each other's files. Knows nothing of
runs: only folders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gridkeep.errors import GridError, HomeError
from gridkeep.files import read_json, write_json
from gridkeep.settings import Settings
from gridkeep.supervisor.copying import Entry, copy_entries, remove_tree
from gridkeep.supervisor.selection import Selection, git, list_all
from gridkeep.terminal import size


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingCopy:
    """What a working copy holds, or would hold. Paths are relative to `root`; the script starts in `workdir`."""

    root: str
    workdir: str  # "" is the root
    entries: Sequence[Entry]
    linked: list[str]  # entries that are links to the project's own
    warnings: list[str]

    @property
    def files(self) -> int:
        return sum(not entry.is_folder for entry in self.entries)

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def locate(cwd: str, home: str) -> tuple[str, str]:
    """Root and workdir for someone who stands in `cwd`: the git checkout around it, else `cwd` itself.

    A checkout that lies around Gridkeep's home does not count inside the home, nor does one that ignores `cwd`.
    """
    cwd, home = os.path.realpath(cwd), os.path.realpath(home)
    root = cwd
    while not _is_checkout(root):
        if root in (home, os.path.dirname(root)):
            return cwd, ""
        root = os.path.dirname(root)
    if root == cwd or git(root, "check-ignore", "-q", "--", cwd).returncode == 0:
        return cwd, ""
    return root, os.path.relpath(cwd, root)


def survey(root: str, workdir: str, settings: Settings, home: str) -> WorkingCopy:
    """What a copy would hold, of the root and workdir that `locate` found; copies nothing.

    Raises GridError when it would be over `settings.copy_limit` or lack `workdir`, ConfigError for a bad `.gridignore`.
    """
    if root == os.path.realpath(home):
        raise GridError("Gridkeep's own home cannot be the folder of a run.", "Run it from your project.")
    selection = Selection(root, workdir, settings, home)
    selection.run()
    entries, warnings = selection.entries, selection.warnings
    if selection.bytes > settings.copy_limit:
        amount = f"{'at least ' if selection.gave_up else ''}{size(selection.bytes)}"
        raise GridError(
            f"The working copy would take {amount}, and {size(settings.copy_limit)} is the limit; "
            f"the biggest entries are {_biggest(entries)}.",
            "Name what the run does not need in .gridignore, or use `--in-place`.",
        )
    if workdir and not any(entry.is_folder and entry.path == workdir for entry in entries):
        raise GridError(
            f"The current folder, {workdir}, is left out of the working copy by a .gridignore.",
            "Mend it, or use `--in-place`.",
        )
    if selection.bytes > settings.copy_warn:
        warnings.append(
            f"The working copy takes {size(selection.bytes)}, most of it {_biggest(entries)}; "
            "what the run does not need can be named in .gridignore."
        )
    return WorkingCopy(
        root=root, workdir=workdir, entries=entries, linked=sorted(selection.linked), warnings=warnings
    )


def take(found: WorkingCopy, dest: str) -> WorkingCopy:
    """Makes the copy at `dest`, whole or not at all. What could not be read is among the warnings of the answer.

    Raises HomeError when there is no room, and leaves nothing behind then.
    """
    warnings = _make(found.root, dest, found.entries, must_be_whole=False)
    return replace(found, warnings=[*found.warnings, *warnings])


def clone(source: str, dest: str) -> None:
    """An experiment's own copy `dest` of the run's copy `source`, whole or not at all; a `dest` that is there stays.

    Raises HomeError when there is no room (its cause is the OSError), or no source.
    """
    if os.path.isdir(dest):
        return
    try:
        entries = list_all(source)
    except OSError as error:
        raise HomeError(
            f"The working copy {source} cannot be read: {error.strerror}.", "Submit the run again."
        ) from None
    _make(source, dest, entries, must_be_whole=True)


def note(folder: str, file: str) -> None:
    """What a finished copy holds, for `lacks`. Durable. Raises OSError."""
    write_json(file, [[entry.path, entry.size] for entry in list_all(folder) if not entry.is_folder])


def lacks(folder: str, file: str) -> str | None:
    """An entry that was noted of this copy and that it has no more, or not whole; None also where nothing was noted.
    Raises OSError."""
    there = {entry.path: entry.size for entry in list_all(folder)}
    noted: list[tuple[str, int]] = read_json(file) or []
    return next((path for path, length in noted if there.get(path) != length), None)


def _make(source: str, dest: str, entries: Sequence[Entry], *, must_be_whole: bool) -> list[str]:
    partial = f"{dest}.partial"
    try:
        remove_tree(partial)
        os.mkdir(partial, 0o700)
        problems = copy_entries(source, partial, entries)
        if problems and must_be_whole:
            raise HomeError(problems[0], "Submit the run again.")
        os.rename(partial, dest)
    except BaseException as error:
        remove_tree(partial)
        if not isinstance(error, OSError):
            raise
        needed = size(sum(entry.size for entry in entries))
        raise HomeError(
            f"A working copy of {needed} cannot be made in {os.path.dirname(dest)}: {error.strerror}.",
            "Make room there, name what the run does not need in .gridignore, or use `--in-place`.",
        ) from error
    return problems


def _is_checkout(folder: str) -> bool:
    """Whether it holds a repository, or the `.git` file of a worktree or submodule."""
    git_folder = os.path.join(folder, ".git")
    return os.path.isfile(git_folder) or os.path.lexists(os.path.join(git_folder, "HEAD"))


def _biggest(entries: Sequence[Entry], count: int = 5) -> str:
    """The entries at the top with the most bytes, each followed down to the one entry that is most of it."""
    sizes: dict[str, int] = {}
    inner: dict[str, str] = {}  # the largest entry of each folder
    for entry in entries:
        path = entry.path
        while entry.size and path:
            sizes[path] = sizes.get(path, 0) + entry.size
            path = os.path.dirname(path)
    for path, total in sizes.items():
        folder = os.path.dirname(path)
        if total > sizes.get(inner.get(folder, ""), 0):
            inner[folder] = path
    named = []
    top = [path for path in sizes if "/" not in path]
    for path in sorted(top, key=lambda path: -sizes[path])[:count]:
        while path in inner and sizes[inner[path]] > 0.8 * sizes[path]:
            path = inner[path]
        named.append(f"{path} ({size(sizes[path])})")
    return ", ".join(named)
