"""The README is true: its first command does the main job in a fresh clone, and its names lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import end_processes_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a stranger gets: the last commit, nothing that lies around here."""
    path = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", path], check=True)
    return path


def test_the_two_commands_do_all_the_set_up() -> None:
    assert COMMANDS == ["scripts/hello", "scripts/test"]


def test_ci_runs_the_command_that_the_readme_names() -> None:
    words = [
        line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert words[-1] == f"exec {COMMANDS[1]}"


@pytest.mark.timeout(300)
def test_the_first_command_keeps_every_file_of_the_example(clone: Path, tmp_path: Path) -> None:
    home, user_home = tmp_path / "home", tmp_path / "user"
    user_home.mkdir()
    # uv's and pip's caches stay those of the machine: this is about a fresh checkout, not about the network.
    caches = {"UV_CACHE_DIR": uv_cache(), "PIP_CACHE_DIR": os.path.expanduser("~/.cache/pip")}
    kept = {
        name: value for name, value in os.environ.items() if not re.match("GRID|VIRTUAL_ENV$|PYTHON", name)
    }
    try:
        done = subprocess.run(
            ["sh", "-c", COMMANDS[0]],
            cwd=clone,
            env={**kept, **caches, "HOME": str(user_home), "GRIDKEEP_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        end_processes_of(home)
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert "epoch 10/10" in said

    ((run, files),) = downloads(clone / "grid_artifacts").items()
    assert run.startswith("hello-")
    inside = {path for path in files if not path.startswith("_abs/")}
    assert inside == {
        "checkpoints/best.json",
        "checkpoints/last.json",
        "examples/hello_input.txt",
        "outputs/plots/100% of it & more.svg",
        *(f"outputs/plots/by epoch/{epoch:03}.svg" for epoch in range(1, 11)),
        "outputs/predictions.csv",
        "outputs/train.log",
    }
    (outside,) = files.keys() - inside
    assert re.fullmatch(r"_abs/.*/hello-[^/]+/gradient\.txt", outside)
    assert files["outputs/train.log"].count(b"\n") == 10
    assert json.loads(files["checkpoints/last.json"])["epoch"] == 10
    assert b"# fitted" in files["examples/hello_input.txt"]
    assert b"# fitted" not in (clone / "examples/hello_input.txt").read_bytes(), (
        "the checkout itself was changed"
    )


def downloads(folder: Path) -> dict[str, dict[str, bytes]]:
    """Run -> path -> bytes of what lies in a download folder with runs of one experiment."""
    return {
        run.name: {
            str(path.relative_to(run / f"{run.name}-exp0")): path.read_bytes()
            for path in run.rglob("*")
            if path.is_file()
        }
        for run in folder.iterdir()
        if not run.name.startswith(".")
    }


def uv_cache() -> str:
    done = subprocess.run([ROOT / "scripts/uv", "cache", "dir"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
