"""`grid` called in this process, in a home in which no engine starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gridkeep.cli.main import main
from gridkeep.runs.context import Context
from tests.unit.made import quiet_home


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def context(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setenv("GRIDKEEP_HOME", str(home))
    with quiet_home(home) as context:
        yield context


@pytest.fixture
def call(context: Context, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """`call("status", "--json")` -> its exit status and what it printed."""

    def call(*words: str) -> Answer:
        code = main(list(words))
        out, err = capfdbinary.readouterr()
        return Answer(code, out.decode(), err.decode())

    return call
