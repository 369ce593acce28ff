"""`grid doctor`, `grid completion`, `grid --help`: what works here, and what there is."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.support import ran
from tests.support import Grid


def test_it_says_what_works_here_and_why(any_user: Grid) -> None:
    shown = any_user("doctor").stdout
    assert f"home         ok  {any_user.home}" in shown
    assert "seccomp user notification works here" in shown
    assert f"store local  ok  file://{any_user.home}/store/" in shown
    for word in ("python", "catalog", "engine", "ffmpeg", "browser"):
        assert any(line.startswith(word) for line in shown.splitlines()), shown


def test_settings_with_value_and_source(grid: Grid) -> None:
    grid("status")
    (grid.home / "config.toml").write_text('quiet = "2s"\nparallel = 3\n')
    env = {"GRIDKEEP_PARALLEL": "2", "GRIDKEEP_SYNC_TIMEOUT": "24h", "GRIDKEEP_CAPTURE": "python"}
    lines = grid("doctor", "--settings", env=env).stdout.splitlines()
    found = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert found["parallel"] == ["2", "GRIDKEEP_PARALLEL"]
    assert found["quiet"] == ["2s", str(grid.home / "config.toml")]
    assert found["capture"] == ["python", "GRIDKEEP_CAPTURE"]
    assert found["sync_timeout"][-1] == "GRIDKEEP_SYNC_TIMEOUT"
    assert found["linger"] == ["10s", "default"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(grid: Grid, shell: str) -> None:
    assert "grid" in grid("completion", shell).stdout


def test_completion_in_bash(grid: Grid) -> None:
    ran(grid, "", name="my-run")

    def completed(line: str) -> list[str]:
        text = f"""
            eval "$(grid completion bash)"
            COMP_WORDS=({line}) COMP_CWORD=$(( {len(line.split())} - {0 if line.endswith(" ") else 1} ))
            _grid_completion grid
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            ["bash", "-c", text], cwd=grid.cwd, env=grid.env, capture_output=True, text=True
        )
        return done.stdout.split()

    assert completed("grid art") == ["artifacts"]
    assert completed("grid artifacts my") == ["my-run", "my-run-exp0"]
    assert "--follow" in completed("grid artifacts --fo")


def test_help_names_every_command(grid: Grid) -> None:
    shown = grid("--help").stdout
    for command in (
        *("run", "stop", "status", "history", "logs", "ls", "cat", "artifacts", "verify", "delete"),
        *("doctor", "completion"),
    ):
        assert f"\n  {command} " in shown
        assert grid(command, "--help").stdout.startswith(f"Usage: grid {command}")
    assert grid("--version").stdout.startswith("grid, version ")
    assert not grid.home.exists(), "asking for help makes no home"
