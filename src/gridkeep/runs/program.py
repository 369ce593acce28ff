"""What the SCRIPT of `grid run` is: a file of Python, of the shell, a program of PATH, or one by its path.

Only looks at files; the environment is the submitter's. A script inside the folder that is copied is named relative to
where it starts, so that the copy is run and not the original.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from gridkeep.errors import GridError, NotFound


@dataclass(frozen=True, slots=True)
class Program:
    """`argv` starts it in the folder that corresponds to the submitter's; `inside` is the script's path below the root."""

    argv: list[str]
    inside: str | None = None


def resolve(script: str, *, cwd: str, root: str, environ: Mapping[str, str]) -> Program:
    """Finds what `script` means to someone who stands in `cwd`, below `root`.

    Raises NotFound, or GridError for a folder or a file that cannot be run.
    """
    path = environ.get("PATH", os.defpath)
    full = os.path.join(cwd, script)
    suffix = os.path.splitext(script)[1]
    if suffix in (".py", ".sh") and os.path.isfile(full):
        word, inside = _word(script, cwd, root)
        runner = [_python(path, cwd)] if suffix == ".py" else _shell(full, path, cwd)
        return Program([*runner, word], inside)
    if os.path.dirname(script):
        if os.path.isfile(full):
            return _executable(script, full, cwd, root)
    elif command := _which(script, path, cwd):
        return Program([command])
    if script and os.path.isdir(full):
        raise GridError(f"{script} is a folder.", "Name the script in it that is to be run.")
    if os.path.isfile(full):
        return _executable(script, full, cwd, root)
    raise NotFound(f"{script} does not exist", _advice(script, cwd, path))


def _executable(script: str, full: str, cwd: str, root: str) -> Program:
    if not os.access(full, os.X_OK):
        raise GridError(
            f"{script} is not executable.",
            f"Make it so with `chmod +x {script}`, or name what runs it before it.",
        )
    word, inside = _word(script, cwd, root)
    return Program([word if "/" in word else f"./{word}"], inside)


def _word(script: str, cwd: str, root: str) -> tuple[str, str | None]:
    """How the script is named to the program that runs it, and its path below the root if it lies there."""
    folder, name = os.path.split(os.path.join(cwd, script))
    full = os.path.join(os.path.realpath(folder), name)
    inside = os.path.relpath(full, root)
    if inside.split("/")[0] == "..":
        return full, None
    word = os.path.relpath(full, os.path.realpath(cwd))
    return f"./{word}" if word.startswith("-") else word, inside


def _python(path: str, cwd: str) -> str:
    return _which("python", path, cwd) or _which("python3", path, cwd) or sys.executable


def _shell(full: str, path: str, cwd: str) -> list[str]:
    """The words of its `#!`, split as the kernel splits them, else `sh`."""
    try:
        with open(full, "rb") as file:
            first = file.readline(4096)
    except OSError as error:
        raise GridError(f"{full} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if first.startswith(b"#!") and (words := os.fsdecode(first[2:]).strip().split(None, 1)):
        if not os.access(words[0], os.X_OK):
            raise NotFound(f"{words[0]} does not exist", f"It is what the first line of {full} asks for.")
        return words
    return [_which("sh", path, cwd) or "/bin/sh"]


def _which(name: str, path: str, cwd: str) -> str | None:
    """The absolute path of a command; relative entries of PATH count from `cwd`."""
    entries = (os.path.join(cwd, entry) for entry in path.split(os.pathsep))
    return shutil.which(name, path=os.pathsep.join(entries)) if name else None


def _advice(script: str, cwd: str, path: str) -> str:
    folder, name = os.path.split(script)
    candidates = _names(os.path.join(cwd, folder))
    if not folder and not os.path.splitext(name)[1]:
        for entry in path.split(os.pathsep):
            candidates += _names(entry)
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.7)
    if near:
        return f"Did you mean {os.path.join(folder, near[0])}?"
    return "Name a .py or .sh file, a command of PATH, or an executable by its path."


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []
