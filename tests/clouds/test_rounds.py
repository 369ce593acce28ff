"""The short form of the rounds, with seeds that stay the same.

The long form: `pytest -m long tests/clouds`, or `python -m tests.clouds.rounds --rounds 100 --seed N --jobs 2`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.clouds import rounds
from tests.services import Service

SHORT = ["short/0"]


@pytest.mark.parametrize("seed", SHORT)
def test_nothing_is_lost_whatever_the_weather(seed: str, s3: Service, tmp_path: Path) -> None:
    result = rounds.play(seed, s3, tmp_path / "round")
    print(result.line())
    assert not result.wrong, f"replay with: python -m tests.clouds.rounds --replay {seed}\n{result.wrong}"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_lost_for_long(s3: Service, tmp_path: Path) -> None:
    seed = os.urandom(4).hex()
    for number in range(50):
        test_nothing_is_lost_whatever_the_weather(f"{seed}/{number}", s3, tmp_path / str(number))
