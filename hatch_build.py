"""What is made whenever Gridkeep is installed or a wheel of it is built: the C shim (src/gridkeep/capture/native), and htmx
for the web pages, which is taken from a wheel that the build requires (pyproject.toml) and checked by its hash.

Without either the installation succeeds all the same: capture then uses the shim in Python, and the pages work without
htmx, with whole pages where it would fetch parts. Reads from the environment: CC (default `cc`; `false` does without),
CFLAGS, LDFLAGS, and GRIDKEEP_REQUIRE_NATIVE=1, which makes a shim that cannot be compiled an error (for releases).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/gridkeep/capture/native")
NAME = "gridkeep-shim"  # as in capture/session.py
HTMX = Path("src/gridkeep/web/static/htmx.min.js")
HTMX_SHA256 = "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de"  # of htmx 2.0.10
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


class Made(BuildHookInterface):  # type: ignore[type-arg]
    """An editable installation finds what was made beside its sources; a wheel brings it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        sources = Path(self.root, FOLDER)
        htmx = _htmx()
        if htmx is None:
            self.app.display_warning(
                "Gridkeep is installed without htmx: its web pages work, with less ease."
            )
        if version == "editable":
            if htmx is not None:
                shutil.copyfile(htmx, Path(self.root, HTMX))
            self._compile(sources, sources / NAME)
            return
        if htmx is not None:
            build_data["force_include"][str(htmx)] = str(HTMX.relative_to("src"))
        self._temporary = tempfile.TemporaryDirectory(prefix="gridkeep-build-")
        target = Path(self._temporary.name, NAME)
        if self._compile(sources, target):
            build_data["force_include"][str(target)] = f"gridkeep/capture/native/{NAME}"
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"  # one program for every Python

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_temporary"):
            self._temporary.cleanup()

    def _compile(self, folder: Path, target: Path) -> bool:
        """Whether `target` is now the shim as its sources have it. Else it is not there."""
        new = target.with_suffix(".new")  # runs that go on keep the one they have
        if trouble := _compile(folder, new):
            target.unlink(missing_ok=True)
            if os.environ.get("GRIDKEEP_REQUIRE_NATIVE") == "1":
                raise RuntimeError(f"The C shim cannot be compiled: {trouble}")
            self.app.display_warning(f"Gridkeep is installed without its C shim: {trouble}")
            return False
        new.replace(target)
        return True


def _htmx() -> Path | None:
    """The file in the wheel that the build requires, if it is there and what it should be."""
    found = importlib.util.find_spec("django_htmx")  # is not imported: only its files are of use
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "static/django_htmx/htmx-2.min.js")
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == HTMX_SHA256:
            return file
    return None


def _compile(folder: Path, target: Path) -> str | None:
    """What went wrong, if anything."""
    if sys.platform != "linux":
        return "it is for Linux only"
    compiler, flags, linking = (
        shlex.split(os.environ.get(name, default))
        for name, default in (("CC", "cc"), ("CFLAGS", ""), ("LDFLAGS", ""))
    )
    sources = sorted(map(str, folder.glob("*.c")))
    command = [*compiler, *FLAGS, *flags, *sources, "-o", str(target), *linking]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return None if done.returncode == 0 else done.stderr.strip() or f"{shlex.join(compiler)} failed"
