"""Paths longer than PATH_MAX, which no call can be passed and the kernel does not tell: named in full by the C shim, said
to be lost by the Python one."""

from __future__ import annotations

import os

DEPTH, NAME = 30, "d" * 200
SCRIPT = f"""
import os
for _ in range({DEPTH}):
    os.mkdir({NAME!r})
    os.chdir({NAME!r})
open("a", "w").close()
os.rename("a", "b")
os.symlink("b", "c")
with open("c", "a") as file:
    file.write("new")
os.mkdir("e")
os.chdir("e")
with open("../b", "a") as file:
    file.write("more")
os.rename("../e", "../f")
os.chdir("..")
os.truncate("b", 1)
os.unlink("b")
"""
CALLS = ["open a", "rename a b", "symlink c", "open b", "open b", "rename e f", "truncate b", "unlink b"]


def test_a_path_over_path_max(bench):
    losses = 0 if bench.mode == "c" else len(CALLS)
    try:
        seen = bench.py(SCRIPT, lost=losses)
    finally:
        flatten(bench.work)
    if bench.mode != "c":
        assert all("over PATH_MAX" in loss for loss in seen.losses)
        return
    deep = f"{NAME}/" * DEPTH
    assert [call.replace(deep, "") for call in seen.calls] == CALLS
    assert f"{deep}a" in seen.files


def flatten(top: os.PathLike[str]) -> None:
    """Removes what cannot be named from above: what lies in a folder is lifted out of it, and the folder removed."""
    folder = os.open(top, os.O_RDONLY)
    try:
        while NAME in os.listdir(folder):
            below = os.open(NAME, os.O_RDONLY, dir_fd=folder)
            for name in os.listdir(below):
                os.rename(name, f"{name}-above", src_dir_fd=below, dst_dir_fd=folder)
            os.close(below)
            os.rmdir(NAME, dir_fd=folder)
            if f"{NAME}-above" in os.listdir(folder):
                os.rename(f"{NAME}-above", NAME, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
