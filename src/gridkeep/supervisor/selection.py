"""What of a folder belongs into a working copy: what is copied, what is linked, what is left out.

`.gridignore` says what is left out. Of what git ignores, small files and folders are copied (outputs/ must be each
experiment's own), large files, large folders and environments are linked; so is the folder of downloads. Looks, and
changes nothing.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

from gridkeep.errors import ConfigError, GridError
from gridkeep.settings import DOWNLOADS, Settings
from gridkeep.supervisor.copying import Entry

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    Rules = tuple[tuple[str, GitIgnoreSpec], ...]  # the .gridignore files above a folder, outermost first

_PATIENCE = 2.0  # seconds that counting goes on past the limit, to name what is large


class Selection:
    """The entries of `root` that a working copy gets, after `run`. Paths are relative to `root`.

    `workdir` is where the script starts: it is never a link. `gave_up`: far over the limit, not all was looked at.
    """

    def __init__(self, root: str, workdir: str, settings: Settings, home: str) -> None:
        self.entries: list[Entry] = []
        self.linked: list[str] = []
        self.warnings: list[str] = []
        self.bytes = 0
        self.gave_up = False
        self._root = root
        self._workdir = workdir
        self._settings = settings
        self._home = os.path.realpath(home)
        self._ignored: set[str] = set()  # by git
        self._deadline: float | None = None

    def run(self) -> None:
        """Raises GridError when the root cannot be read, ConfigError for a bad `.gridignore`."""
        pending: list[tuple[str, bool, Rules]] = [("", False, ())]
        while pending and not self.gave_up:
            folder, in_ignored, rules = pending.pop()
            items = self._list(folder)
            names = {item.name for item in items}
            if ".git" in names:  # the root, or a repository inside it with rules of its own
                self._ignored |= self._ignored_by_git(folder)
            if ".gridignore" in names:
                rules = (*rules, (folder, _read_rules(os.path.join(self._root, folder, ".gridignore"))))
            for item in items:
                path = os.path.join(folder, item.name)
                is_folder = item.is_dir(follow_symlinks=False)
                if self._left_out(path, is_folder, rules):
                    continue
                if not is_folder:
                    self._add_file(path, item)
                elif self._is_linked(path, in_ignored):
                    self._link(path)
                else:
                    self.entries.append(Entry(path, is_folder=True))
                    pending.append((path, in_ignored or path in self._ignored, rules))

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as items:
                return sorted(items, key=lambda item: item.name)
        except OSError as error:
            if not folder:
                raise GridError(f"The folder {self._root} cannot be read: {error.strerror}.") from None
            self.warnings.append(f"{folder}/ cannot be read and is left empty: {error.strerror}.")
            return []

    def _left_out(self, path: str, is_folder: bool, rules: Rules) -> bool:
        if os.path.basename(path) == ".git" or os.path.join(self._root, path) == self._home:
            return True
        for folder, spec in reversed(rules):  # the innermost file that speaks of it decides, as with git
            inner = path[len(folder) + 1 :] if folder else path
            decided = spec.check_file(f"{inner}/" if is_folder else inner).include
            if decided is not None:
                return decided
        return False

    def _add_file(self, path: str, item: os.DirEntry[str]) -> None:
        """A file or a symlink; sockets, pipes and devices are nothing to copy."""
        try:
            info = item.stat(follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                self.entries.append(Entry(path, target=self._target(path)))
                return
        except FileNotFoundError:
            return
        if not stat.S_ISREG(info.st_mode):
            return
        if path in self._ignored and info.st_size > self._settings.link_file:
            self._link(path)
            return
        self.entries.append(Entry(path, info.st_size))
        self.bytes += info.st_size
        if self.bytes > self._settings.copy_limit:
            self._deadline = self._deadline or time.monotonic() + _PATIENCE
            self.gave_up = time.monotonic() > self._deadline

    def _target(self, path: str) -> str:
        """Where the symlink leads; one that leaves the root on a relative way is made absolute, to lead there still."""
        folder, target = os.path.dirname(path), os.readlink(os.path.join(self._root, path))
        if os.path.isabs(target):
            return target
        leaves = os.path.normpath(os.path.join(folder, target)).split("/")[0] == ".."
        return os.path.join(self._root, folder, target) if leaves else target

    def _link(self, path: str) -> None:
        self.entries.append(Entry(path, target=os.path.join(self._root, path)))
        self.linked.append(path)

    def _is_linked(self, folder: str, in_ignored: bool) -> bool:
        if f"{self._workdir}/".startswith(f"{folder}/"):
            return False
        if os.path.basename(folder) == DOWNLOADS:
            return True  # there to be read; copied, it would make every run's copy larger than the one before
        if not (in_ignored or folder in self._ignored):
            return False
        full = os.path.join(self._root, folder)
        if os.path.basename(folder) == "node_modules" or os.path.lexists(os.path.join(full, "pyvenv.cfg")):
            return True
        return not in_ignored and self._is_large(full)  # what lies in a small folder is small

    def _is_large(self, folder: str) -> bool:
        files = size = 0
        for inner, _, names in os.walk(folder):
            for name in names:
                files += 1
                try:
                    size += os.lstat(os.path.join(inner, name)).st_size
                except FileNotFoundError:
                    continue
            if files > self._settings.link_folder_files or size > self._settings.link_folder:
                return True
        return False

    def _ignored_by_git(self, folder: str) -> set[str]:
        listing = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        done = git(os.path.join(self._root, folder), *listing)
        if done.returncode:
            reason = os.fsdecode(done.stderr).strip().split("\n")[0]
            self.warnings.append(f"What git ignores is not known, so all of it is copied ({reason}).")
            return set()
        names = os.fsdecode(done.stdout).split("\0")
        return {os.path.join(folder, name.rstrip("/")) for name in names if name}


def list_all(root: str) -> list[Entry]:
    """Every folder, file and symlink of `root`, a folder before what it holds. Raises OSError."""
    entries: list[Entry] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(root, folder)) as items:
            for item in items:
                path = os.path.join(folder, item.name)
                if item.is_symlink():
                    entries.append(Entry(path, target=os.readlink(item.path)))
                elif item.is_dir():
                    entries.append(Entry(path, is_folder=True))
                    pending.append(path)
                elif item.is_file():
                    entries.append(Entry(path, item.stat().st_size))
    return entries


def git(folder: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """What git answers in `folder`, whatever repository the caller's environment names; status 127 without git."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", folder, *args]
    try:
        return subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, b"", os.fsencode(f"git: {error.strerror}"))


def _read_rules(path: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # slow to load, and few projects have such a file

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return GitIgnoreSpec.from_lines(file.read().split("\n"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", "It takes the patterns of .gitignore."
        ) from None
