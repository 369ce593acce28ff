"""What tests of commands need besides a home: scripts to run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_script(project: Path) -> Callable[..., Path]:
    """Writes a script into the project: `write_script("print(1)", name="train.py")` gives its path."""

    def write(text: str, name: str = "script.py") -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write
