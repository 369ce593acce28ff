"""The build hook and htmx: taken from the wheel that the build requires when it is what it should be, else done without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gridkeep.web import pages

PROJECT = Path(__file__).parents[3]
HTMX = "gridkeep/web/static/htmx.min.js"
GENUINE = PROJECT / "src" / HTMX


def built(tmp_path: Path, htmx: bytes | None) -> tuple[list[str], str]:
    """What is in a wheel that is built where the required wheel brings these bytes, and what the build said."""
    project, required = tmp_path / "project", tmp_path / "required"
    shutil.copytree(PROJECT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, project)
    if htmx is not None:
        folder = required / "django_htmx/static/django_htmx"
        folder.mkdir(parents=True)
        (required / "django_htmx/__init__.py").write_text("raise ImportError('is not to be imported')")
        (folder / "htmx-2.min.js").write_bytes(htmx)
    done = subprocess.run(
        [sys.executable, "-c", "from hatchling.build import build_wheel; build_wheel('.')"],
        cwd=project,
        env={"PATH": os.environ["PATH"], "CC": "false", "PYTHONPATH": str(required)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = project.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist(), done.stdout + done.stderr


@pytest.mark.skipif(not GENUINE.exists(), reason="installed without htmx")
def test_a_wheel_brings_htmx_once(tmp_path: Path) -> None:
    names, said = built(tmp_path, GENUINE.read_bytes())
    assert names.count(HTMX) == 1
    assert "without htmx" not in said


@pytest.mark.parametrize("htmx", [None, b"alert('another')"])
def test_another_file_is_not_taken(tmp_path: Path, htmx: bytes | None) -> None:
    names, said = built(tmp_path, htmx)
    assert HTMX not in names
    assert "without htmx" in said
    for name in ("app.js", "app.css", "theme.js"):
        assert f"gridkeep/web/static/{name}" in names
    assert "gridkeep/web/templates/base.html" in names


def test_static_files_are_those_and_no_other() -> None:
    for name in ("../pages.py", "..", "", ".css", "/etc/passwd", "templates", "a/app.css", "app.css\0"):
        assert pages.static(name) is None
    style = pages.static("app.css")
    assert style is not None
    assert style.media.startswith("text/css")
    assert pages.static_url("app.css") == f"/static/{style.version}/app.css"
    assert pages.static_url("nothing.js") is None
