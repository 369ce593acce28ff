"""What is wrong with the machine while a round is played: its clock, its disks, programs that die at any call, a restart.

All but the restart by a preloaded library of the project's own (`faulty.c`). Nothing outside the round's folder notices.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gridkeep.capture.session import Session
from tests.faults.disks import preloading
from tests.support import Grid, end_processes_of

OURS = ("gridkeep.supervisor", "gridkeep.runs.dispatcher")
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Weather:
    """Of one round. `grid`: whoever works in it is hurt, but commands end as they should; `mortal`: the command itself
    may die. `excused`: a command may fail with an explained error."""

    grid: Grid
    mortal: Grid
    log: Path
    excused: bool = False

    def count(self, blows: Counter[str]) -> None:
        """Adds what came of it."""
        if "FAULTY_CLOCK" in self.grid.env:
            blows["wrong clock"] += 1
        if self.log.exists():
            for line in self.log.read_text().splitlines():
                call, _, what = line.partition(" ")
                blows[f"died at a call: {call}" if what == "death" else f"failed call: {what}"] += 1


def forecast(grid: Grid, root: Path, chance: random.Random, library: Path | None) -> Weather:
    """Fair in half of the rounds: else one kind of fault, the wrong clock, or both."""
    home, log = grid.home, root / "faults"
    clock = {"FAULTY_CLOCK": str(chance.randrange(1, 1 << 31))} if chance.random() < 0.25 else {}
    kind, seed = chance.random(), chance.randrange(1 << 31)
    if library is None:
        return Weather(grid, grid, log)
    set_by = preloading(library, log, seed)
    grid = grid.with_env(**set_by, **clock) if clock or kind < 0.45 else grid
    if kind < 0.12:
        hurt = grid.with_env(
            FAULTY_PROGRAM=OURS[0],
            FAULTY_PATHS=str(home / "store"),
            FAULTY_CHANCE="0.005",
            GRIDKEEP_RETRY_MAX="1s",
        )
        return Weather(hurt, hurt, log)
    if kind < 0.24:
        hurt = grid.with_env(
            FAULTY_PROGRAM=":".join((*OURS, "grid", "gridkeep-shim")),
            FAULTY_PATHS=f"{home / 'journal'}:{home / 'catalog.db'}:{home / 'work'}",
            FAULTY_CHANCE="0.003",
        )
        return Weather(hurt, hurt, log, excused=True)
    if kind < 0.45:
        lives = root / "life"
        for number in range(chance.randint(1, 4)):
            Path(f"{lives}.{number}").touch()
        hurt = grid.with_env(
            FAULTY_PROGRAM=":".join(OURS),
            FAULTY_PATHS=str(home),
            FAULTY_LIVES=str(lives),
            FAULTY_DEATH="0.003",
        )
        return Weather(
            hurt, hurt.with_env(FAULTY_PROGRAM=":".join((*OURS, "grid")), FAULTY_DEATH="0.02"), log
        )
    return Weather(grid, grid, log)


# ----------------------------------------------------------------------------------------------------------- a restart


def memory_of(root: Path) -> Path:
    """The round's folder in the machine's memory."""
    return MEMORY / f"gridkeep-{root.name}-{os.getpid()}"


def restart(grid: Grid, root: Path) -> bool:
    """The machine goes down and comes up again: every process of the round is killed, and what they had in memory is
    gone. Tells whether a script was lost by that: it had begun, and nobody noted its end."""
    end_processes_of(root)
    shutil.rmtree(memory_of(root), ignore_errors=True)
    for pattern in ("*-shm", "journal/*/*-shm", "journal/*/capture-*/shared"):
        for path in grid.home.glob(pattern):
            path.unlink()
    folders = sorted(grid.home.glob("journal/*/capture-*"), key=lambda path: int(path.name[8:]))
    last = Session(str(folders[-1])) if folders else None
    return last is not None and last.started() is not None and last.ending() is None
