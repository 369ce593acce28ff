"""The build hook: with a compiler an installation has the C shim, without one it does without; a release insists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gridkeep.capture.calls import ARCHES, build_filter

PROJECT = Path(__file__).parents[3]
SHIM = "gridkeep/capture/native/gridkeep-shim"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project as it would come out of version control, to be built in."""
    copy = tmp_path / "project"
    shutil.copytree(
        PROJECT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "gridkeep-shim")
    )
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, copy)
    return copy


def build(project: Path, kind: str = "wheel", **environ: str) -> subprocess.CompletedProcess[str]:
    """What pip and uv do with the project, without their downloads: `kind` is wheel or editable."""
    text = f"from hatchling.build import build_{kind}; build_{kind}('dist')"
    (project / "dist").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=project,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=50,
    )


def wheel(project: Path) -> Path:
    (path,) = (project / "dist").glob("*.whl")
    return path


def mode_of(package: Path, tmp_path: Path) -> tuple[str, str]:
    """(the mode of a run, what it printed) with the Gridkeep that lies in a folder."""
    text = """
import sys, time
from gridkeep.capture.session import Launch, Session
folder = sys.argv[1]
session = Session(folder + "/session")
session.start(Launch(argv=["/bin/sh", "-c", "echo seen > a; cat a"], env={}, cwd=folder, output=folder + "/log",
    capture="auto", linger=1, kill_grace=1))
while session.end() is None or session.alive():
    time.sleep(0.005)
assert session.counters()["records"] == 1, session.end()
print(session.end()["mode"], open(folder + "/log").read())
"""
    folder = tmp_path / "run"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", text, folder],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    mode, printed = done.stdout.split()
    return mode, printed


@needs_compiler
def test_a_wheel_brings_the_shim(project: Path, tmp_path: Path) -> None:
    done = build(project, CC="cc", CFLAGS="-Werror", GRIDKEEP_REQUIRE_NATIVE="1")
    assert done.returncode == 0, done.stderr
    assert "-py3-none-linux_" in wheel(project).name
    with zipfile.ZipFile(wheel(project)) as archive:
        shim = archive.getinfo(SHIM)
        assert shim.external_attr >> 16 & 0o111 == 0o111, "it cannot be executed"
        assert [name for name in archive.namelist() if "native/" in name] == [SHIM]
        archive.extractall(tmp_path / "installed")
    (tmp_path / "installed" / SHIM).chmod(0o755)  # as installers do; zipfile does not
    assert mode_of(tmp_path / "installed", tmp_path) == ("c", "seen")


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_python_does_it(project: Path, tmp_path: Path, compiler: str) -> None:
    done = build(project, CC=compiler)
    assert done.returncode == 0, done.stderr
    assert "without its C shim" in done.stderr + done.stdout
    assert wheel(project).name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel(project)) as archive:
        assert not [name for name in archive.namelist() if "native/" in name]
        archive.extractall(tmp_path / "installed")
    assert mode_of(tmp_path / "installed", tmp_path) == ("python", "seen")


def test_a_release_without_a_compiler_is_refused(project: Path) -> None:
    done = build(project, CC="false", GRIDKEEP_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "The C shim cannot be compiled" in done.stderr
    assert not list((project / "dist").iterdir())


@needs_compiler
def test_an_editable_installation_has_it_beside_the_sources(project: Path, tmp_path: Path) -> None:
    shim = project / "src" / SHIM
    for environ, mode in (({"CC": "cc"}, "c"), ({"CC": "false"}, "python")):
        assert build(project, "editable", **environ).returncode == 0
        assert shim.exists() == (mode == "c"), "an old one stays"
        (tmp_path / mode).mkdir()
        assert mode_of(project / "src", tmp_path / mode) == (mode, "seen")


@needs_compiler
@pytest.mark.parametrize("machine", ARCHES)
def test_its_filter_is_that_of_the_python_shim(project: Path, machine: str) -> None:
    """For each architecture: the tables are written down twice, and tested against the kernel's headers once."""
    assert build(project, "editable", CC="cc", CFLAGS="-O0").returncode == 0
    done = subprocess.run([project / "src" / SHIM, "--filter", machine], capture_output=True, check=True)
    assert done.stdout == build_filter(machine)
