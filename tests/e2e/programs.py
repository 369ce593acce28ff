"""Runs a real program twice, plainly and through `grid run`, and compares what it left on disk with what was kept.

Knows nothing of any program. A program is a text for `sh -e`; it writes in its working folder, in $OUT, $TMPDIR and $HOME.
The oracle is the disk: the folders outside the working folder stay, and of the working folder, which under `grid run`
is a copy that goes away, the shell that ran the program prints the hashes as its last act.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import downloaded, listed, save
from tests.support import Grid

Hashes = dict[str, str]  # path → SHA-256

OUTSIDE = (
    "@/"  # before the path of a file outside the working folder: stands for the place that the program ran in
)
RULES = ("__pycache__", ".git")
_MARK = "--- what is left ---"
_OBSERVED = f"""\
pwd
sh -e ./program.sh
code=$?
printf '\\n%s\\n' '{_MARK}'
find . -type f -exec sha256sum --zero {{}} +
exit $code
"""


def need(*commands: str) -> None:
    """Skips the test where one of them is missing; in CI, where scripts/install-system-packages has run, it fails."""
    missing = [
        command for command in commands if shutil.which(command) is None and not os.path.exists(command)
    ]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"scripts/install-system-packages has not brought {missing}")
    if missing:
        pytest.skip(f"not here: {missing}; scripts/install-system-packages brings them")


@dataclass(frozen=True)
class Ended:
    """What a program did: `files` has those of the working folder by relative path, others behind OUTSIDE."""

    exit_code: int
    output: str  # the place's path as `@`, the working folder's as `.`
    files: Hashes


@dataclass(frozen=True)
class Trial:
    """A program that has been run both ways and was found to be the same, and kept whole."""

    plain: Ended
    captured: Ended
    kept: dict[str, bytes]  # what a download brought
    artifacts: dict[str, dict[str, Any]]  # all that is listed, in every state, by path
    record: dict[str, Any]  # `capture` of the experiment


def run_both_ways(
    grid: Grid,
    program: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    same: Callable[[str], str] = str,
    varying: str = r"\Z.",
    mode: str = "c",
    private: int = 0,
) -> Trial:
    """Fails unless both ways end alike and all that the captured one wrote is stored, downloads, and is verified.

    `files`: what lies in the working folder beforehand, beside what is there. `same`: what of the output has to be the
    same. `varying`: a regular expression for paths that differ from run to run. `private`: how many losses are named
    (what lies on a mount of the program's own).
    """
    for name, content in {**(files or {}), "program.sh": program, "observed.sh": _OBSERVED}.items():
        save(grid, content, name)
    given = _hashes(grid.cwd)
    plain = _plainly(grid)
    captured, record = _captured(grid, mode)
    artifacts = {_named(grid, path): each for path, each in listed(grid, "run").items() if each["path"]}
    printed = f"{plain.output}\n=== under capture ===\n{captured.output}"
    assert (plain.exit_code, captured.exit_code) == (0, 0), printed
    assert same(captured.output) == same(plain.output), printed
    difference = _constant(captured.files, varying) ^ _constant(plain.files, varying)
    assert not difference, f"only one way leaves {sorted(difference)}"
    kept = _check_kept(grid, captured.files, given, artifacts)
    grid("verify", "--deep", "run")
    _check_record(record, mode, private)
    return Trial(plain, captured, kept, artifacts, record)


# ----------------------------------------------------------------------------------------------------- the two ways


def _plainly(grid: Grid) -> Ended:
    place = grid.cwd.parent / "plain"
    shutil.copytree(grid.cwd, place / "project", symlinks=True)
    _make_outside(place, grid.uid)
    if grid.uid is not None:
        subprocess.run(["chown", "-R", f"{grid.uid}:{grid.uid}", place], check=True)
    done = subprocess.run(
        ["sh", "observed.sh"],
        cwd=place / "project",
        env={**grid.env, **_variables(place), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        user=grid.uid,
        group=grid.uid,
        extra_groups=None if grid.uid is None else [],
    )
    return _ended(done.returncode, done.stdout, place)


def _captured(grid: Grid, mode: str) -> tuple[Ended, dict[str, Any]]:
    place = grid.cwd.parent
    _make_outside(place, grid.uid)
    grid = grid.with_env(**_variables(place))
    if mode != "c":
        grid = grid.with_env(GRIDKEEP_CAPTURE=mode)
    grid("run", "--name", "run", "observed.sh")
    (experiment,) = grid.finished("run", timeout=240)
    log = grid("logs", "run").stdout_bytes
    return _ended(experiment["exit_code"], log, place), experiment["capture"]


def _make_outside(place: Path, uid: int | None) -> None:
    for name in ("out", "tmp", "user"):
        (place / name).mkdir(exist_ok=True)
        if uid is not None:
            os.chown(place / name, uid, uid)


def _variables(place: Path) -> dict[str, str]:
    return {"HOME": str(place / "user"), "OUT": str(place / "out"), "TMPDIR": str(place / "tmp")}


def _ended(exit_code: int, log: bytes, place: Path) -> Ended:
    printed, found, left = log.decode(errors="replace").partition(f"\n{_MARK}\n")
    assert found, printed
    work, _, output = printed.partition("\n")
    entries = (entry.split("  ./", 1) for entry in left.split("\0") if "  ./" in entry)
    files = {path: value for value, path in entries}
    for name in ("out", "tmp", "user"):
        files |= {f"{OUTSIDE}{name}/{path}": value for path, value in _hashes(place / name).items()}
    return Ended(exit_code, output.replace(work, ".").replace(str(place), "@"), files)


def _hashes(folder: Path) -> Hashes:
    """Of the regular files below it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _constant(files: Hashes, varying: str) -> set[str]:
    return {path for path in files if not re.search(varying, path)}


# -------------------------------------------------------------------------------------------------- what was kept


def _named(grid: Grid, path: str) -> str:
    """An artifact's path as in `Ended.files`; that of a file elsewhere stays as it is."""
    inside = f"_abs{grid.cwd.parent}/"
    return OUTSIDE + path.removeprefix(inside) if path.startswith(inside) else path


def _rule(path: str) -> str | None:
    """By which rule a file is not kept."""
    if path.startswith(f"{OUTSIDE}user/.cache/"):
        return "cache"
    return next((part for part in path.split("/") if part in RULES), None)


def _check_record(record: dict[str, Any], mode: str, private: int) -> None:
    assert record["mode"] == mode, record
    seen = {name: record[name] for name in ("lost", "unreadable", "swept")}
    assert seen == {"lost": private, "unreadable": private, "swept": 0}, record
    assert "terminated" not in record, record


def _check_kept(
    grid: Grid, left: Hashes, given: Hashes, artifacts: dict[str, dict[str, Any]]
) -> dict[str, bytes]:
    """All that is left on disk, without what was there before, is stored, and nothing else is; gives the download."""
    written = {path: value for path, value in left.items() if given.get(path) != value}
    expected = {path: value for path, value in written.items() if _rule(path) is None}
    assert expected, "a program that leaves nothing proves nothing"

    of_state: dict[str, dict[str, Any]] = {}
    for path, each in artifacts.items():
        of_state.setdefault(each["state"], {})[path] = each
    assert set(of_state) <= {"stored", "removed", "ignored"}, of_state.keys()
    assert {path: each["sha256"] for path, each in of_state["stored"].items()} == expected
    assert not of_state.get("removed", {}).keys() & left.keys()

    ignored = {path: each["reason"] for path, each in of_state.get("ignored", {}).items()}
    assert ignored.keys() >= written.keys() - expected.keys()
    for path, reason in ignored.items():
        assert reason == _rule(path) or reason.startswith("symbolic link"), (path, reason)

    kept = {_named(grid, os.fsdecode(path)): value for path, value in downloaded(grid, "run-exp0").items()}
    assert {path: hashlib.sha256(value).hexdigest() for path, value in kept.items()} == expected
    return kept
