"""The shape of the code base, as far as `lint-imports` does not see it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gridkeep

SOURCE = Path(gridkeep.__file__).parent
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))

SLOW = {
    "asyncio",
    "email",
    "fastapi",
    "http",
    "pathspec",
    "pydoc",
    "rich",
    "sqlite3",
    "urllib.request",
    "yaml",
}


def imported_by(*args: str, home: Path) -> set[str]:
    """The modules that are loaded when `grid ARGS` has ended."""
    program = (
        "import sys\nfrom gridkeep.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env={"GRIDKEEP_HOME": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_help_and_status_start_fast(home: Path) -> None:
    assert not imported_by("--help", home=home) & SLOW
    assert not imported_by("status", home=home) & SLOW - {"sqlite3"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_what_it_is_for_and_is_read_in_one_sitting(module: Path) -> None:
    text = (SOURCE / module).read_text()
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 450
