"""What is done in a round: a run is begun, struck, waited for or deleted, and what must come of it is noted."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gridkeep.catalog.database import MIGRATIONS
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Experiment
from tests.faults import killer
from tests.faults.oracle import Finding
from tests.faults.weather import Weather, memory_of, restart
from tests.support import Grid, processes_of

PATIENCE = 120.0  # seconds after the last blow in which an experiment must be final
_ASK_EVERY = 2.0  # seconds between two commands of the user who waits
_TRIES = 20  # of a command that the weather may let fail


@dataclass
class Round:
    """What came of one."""

    seed: str
    blows: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    state: str = ""
    folder: Path | None = None  # kept when something was found
    files: int = 0
    unknown: int = 0  # losses of unknown path, named as such
    seconds: float = 0.0
    resumes: bool = False  # begun with --auto_resume
    lost_script: bool = False  # the machine went down under it

    def line(self) -> str:
        hits = ", ".join(f"{kind} ×{count}" for kind, count in self.blows.items()) or "none"
        return f"{self.seed}: {self.state}, {self.files} files, {hits}, {self.seconds:.1f} s"

    def find(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, text))


# ------------------------------------------------------------------------------------------------------- its beginning


def first_steps(weather: Weather, chance: random.Random, result: Round) -> None:
    """In some rounds the first commands of all, which make the catalog or bring it to its newest version, are killed."""
    if chance.random() > 0.2:
        return
    home = weather.grid.home
    match chance.choice(["nothing", "empty", "old"]):
        case "empty":
            (home / "store").mkdir(parents=True)
            (home / "catalog.db").touch(0o600)
        case "old":
            (home / "store").mkdir(parents=True)
            old_catalog(home / "catalog.db")
    for _ in range(chance.randint(1, 4)):
        command = weather.mortal.start("status")
        until = time.monotonic() + 2
        written = chance.choice(["catalog.db", "catalog.db-wal", "catalog.db-shm"])
        while not (home / written).exists() and command.poll() is None and time.monotonic() < until:
            pass
        time.sleep(chance.choice([0, chance.uniform(0, 0.01), chance.uniform(0, 0.1)]))
        result.blows["kill migration"] += command.poll() is None
        command.kill()
        command.communicate()
    ask(weather, "status")


def old_catalog(path: Path) -> None:
    """As the first version made it."""
    first = min(Path(MIGRATIONS).glob("*.sql"))
    database = sqlite3.connect(path)
    database.executescript(f"BEGIN; {first.read_text()} PRAGMA user_version = 1; COMMIT")
    database.close()


def submit(weather: Weather, root: Path, chance: random.Random, result: Round) -> None:
    """Begins the run; its submission may be killed, and is done again then where it left no run."""
    grid = weather.grid
    words: list[str | Path] = ["run", "--name", "r", "--exclude", "oplog/", "--strategy", "none"]
    if chance.random() < 0.2:
        words.append("--auto_resume")
        result.resumes = True
    operations, pause = chance.choice([15, 40, 80]), chance.choice([0.005, 0.02, 0.05])
    words += ["writer.py", chance.randbytes(4).hex(), root / "outside", root / "oplog"]
    words += ["--operations", str(operations), "--pause", str(pause)]
    if chance.random() < 0.3:
        memory = memory_of(root)
        memory.mkdir()
        words += ["--memory", memory]
    if chance.random() < 0.2 or weather.mortal is not grid:
        submitter = weather.mortal.start(*words)
        event = chance.choice([None, "submitting", "copying", "environment", "kept"])
        wait = chance.uniform(0, 1.2) if event is None else chance.choice([0, chance.uniform(0, 0.05)])
        blow = killer.Blow((), event, wait)
        killer.wait_for_moment(grid.home, blow, lambda: submitter.poll() is not None)
        result.blows["kill submit"] += submitter.poll() is None
        submitter.kill()
        submitter.communicate()
        if ask(weather, "status", "r", may_fail=True) == 0:
            return
        if strays := [path for path in _objects(grid.home) if ".tmp" not in path.parts]:
            result.find("disagreement", f"no run, and in the store {strays}")
    for _ in range(_TRIES if weather.excused else 1):
        if (
            ask(weather, *words, may_fail=weather.excused) == 0
            or ask(weather, "status", "r", may_fail=True) == 0
        ):
            return
    result.find("disagreement", "it cannot be submitted")


def ask(weather: Weather, *words: str | Path, may_fail: bool = False) -> int:
    """A command in this weather, which may fail with an explained error where that is excused; its exit status."""
    for _ in range(_TRIES):
        done = weather.grid(*words, code=None)
        if done.returncode == 0 or may_fail:
            break
        assert weather.excused, str(done)
    return done.returncode


# ------------------------------------------------------------------------------------------------------------- its way


def strike_and_wait(weather: Weather, root: Path, chance: random.Random, result: Round) -> None:
    grid = weather.grid
    blows = killer.plan(chance)
    goes_down = chance.choice(range(len(blows))) if chance.random() < 0.15 else None
    for number, blow in enumerate(blows):
        killer.wait_for_moment(grid.home, blow, lambda: final(grid) is not None)
        if number == goes_down:
            result.lost_script = restart(grid, root) and final(grid) is None
            result.blows["restart of the machine"] += 1
        elif killer.strike(grid.home, blow):
            result.blows[blow.kind] += 1
        time.sleep(chance.uniform(0, 0.3))
        ask(weather, "status")
    if goes_down is None and chance.random() < 0.1:
        ask(weather, "stop", "run", "r", may_fail=True)  # it may have ended
        result.blows["stopped by its owner"] += 1
    _wait_until_final(weather, result)


def _wait_until_final(weather: Weather, result: Round) -> None:
    grid, asked = weather.grid, 0.0
    deadline = time.monotonic() + PATIENCE
    while (experiment := final(grid)) is None:
        if time.monotonic() > deadline:
            one = grid.json("status", "r")[0]
            result.find("stuck", f"{one['state']}, waiting for {one['waiting_for']}")
            return
        if time.monotonic() - asked > _ASK_EVERY:
            asked = time.monotonic()
            ask(weather, "status")
        time.sleep(0.05)
    result.state = f"{experiment.state} ({experiment.outcome}: {experiment.reason})"
    if not gone(grid.home, 15):
        result.find("left behind", f"processes {_commands(grid.home)}")


def delete(weather: Weather, chance: random.Random, result: Round) -> None:
    """Deletes the run while it goes on, is struck, or has ended; the command that does so may be killed too."""
    grid, words = weather.grid, ("delete", "run", "r", "--yes", "--force")
    result.state = "deleted"
    time.sleep(chance.uniform(0, 3))
    command = weather.mortal.start(*words)
    for blow in killer.plan(chance):
        time.sleep(min(blow.delay, 0.4))
        if killer.strike(grid.home, blow):
            result.blows[blow.kind] += 1
    if chance.random() < 0.6:
        blow = killer.Blow((), chance.choice([None, "deleting"]), chance.choice([0, chance.uniform(0, 0.05)]))
        killer.wait_for_moment(grid.home, blow, lambda: command.poll() is not None)
        result.blows["kill delete"] += command.poll() is None
        command.kill()
    command.communicate()
    deadline = time.monotonic() + PATIENCE
    while _known(grid):
        if time.monotonic() > deadline:
            result.find("stuck", "it is not deleted")
            return
        ask(weather, *words, may_fail=True)  # nothing more to be done, if it has been begun
        ask(weather, "status")
    if not gone(grid.home, 15):
        result.find("left behind", f"processes {_commands(grid.home)}")
    for path in _objects(grid.home) + held(grid.home):
        result.find("left behind", f"{path}")


def forget(root: Path) -> None:
    """What a round leaves outside its folder."""
    shutil.rmtree(memory_of(root), ignore_errors=True)


# ---------------------------------------------------------------------------------------------------- how it stands now


def final(grid: Grid) -> Experiment | None:
    """The round's experiment, once it has ended."""
    catalog = open_catalog(str(grid.home / "catalog.db"))
    try:
        experiment = catalog.experiment("r-exp0")
    finally:
        catalog.close()
    return None if experiment is None or experiment.state.active else experiment


def _known(grid: Grid) -> bool:
    """Whether the catalog still has anything of the run."""
    catalog = open_catalog(str(grid.home / "catalog.db"))
    try:
        return catalog.run("r") is not None or bool(catalog.deleting())
    finally:
        catalog.close()


def _objects(home: Path) -> list[Path]:
    """All files of the store, but for what a check of it that was killed left, which one an hour later takes away."""
    files = [path for path in (home / "store").rglob("*") if path.is_file()]
    return [path for path in files if "_probe" not in path.parts]


def held(home: Path) -> list[Path]:
    """Working copies, journals and marks of deletions that a home still has."""
    return [*home.glob("work/*"), *home.glob("journal/*"), *home.glob("deleting/*")]


def gone(home: Path, patience: float) -> bool:
    """Whether no process of the home is left, soon."""
    deadline = time.monotonic() + patience
    while processes_of(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _commands(home: Path) -> list[bytes]:
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(home)]
