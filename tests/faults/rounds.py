"""Rounds of random work under random blows: `python -m tests.faults.rounds --rounds 1000 --seed 1 --jobs 2`.

Each round has a home of its own and follows from its seed alone; `--replay SEED` runs one again. A round that went wrong
leaves its folder and says where. Timing is the machine's, so a replay hits nearby, not always the same instruction.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from gridkeep.catalog.sqlite import open_catalog
from gridkeep.model import Experiment
from tests.faults import disks, killer
from tests.faults.oracle import Finding, Oracle, Told, read_logs
from tests.support import Grid, end_processes_of, environment, processes_of

BIN = Path(sys.executable).parent
WRITER = Path(__file__).with_name("writer.py")
PATIENCE = 120.0  # seconds after the last blow in which an experiment must be final
KINDS = ("lost", "wrong", "stuck", "false completed", "left behind", "disagreement")
_ASK_EVERY = 2.0  # seconds between two commands of the user who waits


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

    def line(self) -> str:
        hits = ", ".join(f"{kind} ×{count}" for kind, count in self.blows.items()) or "none"
        return f"{self.seed}: {self.state}, {self.files} files, {hits}, {self.seconds:.1f} s"


def play(seed: str, root: Path, library: Path | None = None) -> Round:
    """One round in the folder `root`; in one of five the calls to the store fail now and then, if there is a `library`
    for that."""
    result, began = Round(seed), time.monotonic()
    chance = random.Random(seed)
    grid, faults = new_grid(root), root / "faults"
    hurt = grid
    if chance.random() < 0.2 and library is not None:
        hurt = grid.with_env(
            **disks.failing(library, grid.home / "store", faults, chance, 0.005), GRIDKEEP_RETRY_MAX="1s"
        )
    try:
        _submit(hurt, root, chance, result)
        if chance.random() < 0.1:
            _delete(hurt, chance, result)
            return result
        if not result.findings:
            _strike_and_wait(hurt, chance, result)
        if faults.exists():
            result.blows["failed call to the store"] = faults.read_bytes().count(b"\n")
        if not result.findings:
            _judge(grid, root, result)
    except AssertionError as error:
        result.findings.append(Finding("disagreement", f"a command failed: {error}"))
    finally:
        end_processes_of(root)
        result.seconds = time.monotonic() - began
    return result


def new_grid(root: Path) -> Grid:
    """A home, a project with the writer in it, and folders for what lies outside."""
    for part in ("project", "user", "outside", "oplog"):
        (root / part).mkdir(parents=True)
    shutil.copy(WRITER, root / "project")
    (root / "project/inputs").mkdir()
    for number in range(5):
        (root / f"project/inputs/{number}").write_bytes(b"input\n" * number)
    env = environment(root / "home", root / "user", f"{BIN}:{os.environ['PATH']}")
    env |= {"GRIDKEEP_LINGER": "2s", "GRIDKEEP_KILL_GRACE": "1s", "GRIDKEEP_GROWING_INTERVAL": "1s"}
    return Grid((str(BIN / "grid"),), root / "home", root / "project", env)


# ------------------------------------------------------------------------------------------------------ what is done


def _submit(grid: Grid, root: Path, chance: random.Random, result: Round) -> None:
    words: list[str | Path] = ["run", "--name", "r", "--exclude", "oplog/", "--strategy", "none"]
    if chance.random() < 0.15:
        words.append("--auto_resume")
    operations, pause = chance.choice([15, 40, 80]), chance.choice([0.005, 0.02, 0.05])
    words += ["writer.py", chance.randbytes(4).hex(), root / "outside", root / "oplog"]
    words += ["--operations", str(operations), "--pause", str(pause)]
    if chance.random() < 0.15:
        submitter = grid.start(*words)
        time.sleep(chance.uniform(0, 1.2))
        submitter.kill()
        submitter.communicate()
        result.blows["kill submit"] += 1
        if grid("status", "r", code=None).returncode == 0:
            return
        # A killed check of the store may leave its probe, which a later one takes away.
        objects = [
            path for path in (grid.home / "store").rglob("*") if path.is_file() and "_probe" not in path.parts
        ]
        if objects:
            result.findings.append(Finding("disagreement", f"no run, and in the store {objects}"))
    grid(*words)


def _strike_and_wait(grid: Grid, chance: random.Random, result: Round) -> None:
    for blow in killer.plan(chance):
        killer.wait_for_moment(grid.home, blow, lambda: final(grid) is not None)
        if killer.strike(grid.home, blow):
            result.blows[blow.kind] += 1
        time.sleep(chance.uniform(0, 0.3))
        grid("status")
    if chance.random() < 0.1:
        grid("stop", "run", "r", code=None)  # it may have ended
        result.blows["stopped by its owner"] += 1
    _wait_until_final(grid, result)


def _delete(grid: Grid, chance: random.Random, result: Round) -> None:
    """Deletes the run while it goes on, is struck, or has ended; the command that does so may be killed too."""
    result.state = "deleted"
    time.sleep(chance.uniform(0, 3))
    command = grid.start("delete", "run", "r", "--yes", "--force")
    for blow in killer.plan(chance):
        time.sleep(min(blow.delay, 0.4))
        if killer.strike(grid.home, blow):
            result.blows[blow.kind] += 1
    if chance.random() < 0.5:
        command.kill()
        result.blows["kill delete"] += 1
    command.communicate()
    deadline = time.monotonic() + PATIENCE
    while _known(grid):
        if time.monotonic() > deadline:
            result.findings.append(Finding("stuck", "it is not deleted"))
            return
        grid(
            "delete", "run", "r", "--yes", "--force", code=None
        )  # nothing more to be done, if it has been begun
        grid("status")
    if not _gone(grid.home, 15):
        result.findings.append(Finding("left behind", f"processes {_commands(grid.home)}"))
    store = [path for path in (grid.home / "store").rglob("*") if path.is_file()]
    result.findings += [Finding("left behind", f"{path}") for path in store + held(grid.home)]


def _known(grid: Grid) -> bool:
    """Whether the catalog still has anything of the run."""
    catalog = open_catalog(str(grid.home / "catalog.db"))
    try:
        return catalog.run("r") is not None or bool(catalog.deleting())
    finally:
        catalog.close()


def _wait_until_final(grid: Grid, result: Round) -> None:
    deadline, asked = time.monotonic() + PATIENCE, 0.0
    while (experiment := final(grid)) is None:
        if time.monotonic() > deadline:
            one = grid.json("status", "r")[0]
            result.findings.append(Finding("stuck", f"{one['state']}, waiting for {one['waiting_for']}"))
            return
        if time.monotonic() - asked > _ASK_EVERY:
            asked = time.monotonic()
            grid("status")
        time.sleep(0.05)
    result.state = f"{experiment.state} ({experiment.outcome}: {experiment.reason})"
    if not _gone(grid.home, 15):
        result.findings.append(Finding("left behind", f"processes {_commands(grid.home)}"))


def final(grid: Grid) -> Experiment | None:
    """The round's experiment, once it has ended."""
    catalog = open_catalog(str(grid.home / "catalog.db"))
    try:
        experiment = catalog.experiment("r-exp0")
    finally:
        catalog.close()
    return None if experiment is None or experiment.state.active else experiment


def _gone(home: Path, patience: float) -> bool:
    """Whether no process of the home is left, soon."""
    deadline = time.monotonic() + patience
    while processes_of(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _commands(home: Path) -> list[bytes]:
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(home)]


# ------------------------------------------------------------------------------------------------------- what is found


def _judge(grid: Grid, root: Path, result: Round) -> None:
    told = read_logs(root / "oplog")
    oracle = Oracle(grid, "r-exp0", told, root / "outside", root / "downloads")
    result.files = oracle.experiment.artifacts
    result.unknown = sum(one.path is None for one in oracle.artifacts)
    result.findings += _outcome(oracle.experiment, told, result.blows)
    result.findings += oracle.findings()
    result.findings += _leftovers(grid, oracle.experiment)


def _outcome(experiment: Experiment, told: Told, blows: Counter[str]) -> list[Finding]:
    said = f"{experiment.state}, {experiment.outcome}, {experiment.reason}; the script says {told.ends}"
    if experiment.state == "completed" and told.ends[-1:] != [0]:
        return [Finding("false completed", said)]
    # What can end a script, or hide how it ended.
    harmful = [
        kind for kind in blows if any(word in kind for word in ("script", "child", "shim", "all", "owner"))
    ]
    if not harmful and experiment.state != "completed":
        return [Finding("disagreement", f"nothing hurt the script, and it is {said}")]
    if experiment.state == "failed" and not experiment.reason:
        return [Finding("disagreement", f"no reason: {said}")]
    return []


def _leftovers(grid: Grid, experiment: Experiment) -> list[Finding]:
    """What the home still holds of an experiment whose files are all in the store, once an engine has looked."""
    if held(grid.home):
        grid("run", "--follow", "--name", "next", "true")
        _gone(grid.home, 15)
    left = held(grid.home)
    if experiment.missing:  # what could not be stored stays where it is
        left = [path for path in left if path != grid.home / "work" / experiment.experiment_id]
    return [Finding("left behind", f"{path}") for path in left]


def held(home: Path) -> list[Path]:
    """Working copies and journals that a home still has."""
    return [*home.glob("work/*"), *home.glob("journal/*")]


# ---------------------------------------------------------------------------------------------------------------- many


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", default="1", help="of the whole series; printed with each round")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--replay", metavar="SEED", help="one round again, as `1/17`")
    parser.add_argument("--minutes", type=float, help="begin no round after so long")
    args = parser.parse_args()
    seeds = [args.replay] if args.replay else [f"{args.seed}/{number}" for number in range(args.rounds)]
    folder = Path(tempfile.mkdtemp(prefix="gridkeep-rounds-"))
    library = disks.build_faulty(folder)
    until = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
    results: list[Round] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(_one, seed, folder, library, until) for seed in seeds]
        for done in as_completed(waiting):
            if (result := done.result()) is not None:
                results.append(result)
                report(result)
    print(table(results))
    return any(result.findings for result in results)


def _one(seed: str, folder: Path, library: Path | None, until: float) -> Round | None:
    if time.monotonic() > until:
        return None
    root = folder / seed.replace("/", "-")
    result = play(seed, root, library)
    if result.findings:
        result.folder = root
    else:
        shutil.rmtree(root)
    return result


def report(result: Round) -> None:
    print(result.line(), flush=True)
    for finding in result.findings[:10]:
        print(f"    {finding.kind}: {finding.text}", flush=True)
    if result.folder:
        print(f"    kept in {result.folder}", flush=True)


def table(results: list[Round]) -> str:
    """The figures: rounds, blows by kind, and how many rounds had which finding."""
    blows: Counter[str] = sum((result.blows for result in results), Counter())
    ends = Counter(result.state.partition(" ")[0] or "none" for result in results)
    rows = [("rounds", len(results)), *((f"  {state}", count) for state, count in sorted(ends.items()))]
    rows += [("files checked", sum(result.files for result in results)), ("blows", blows.total())]
    rows += [(f"  {kind}", count) for kind, count in sorted(blows.items())]
    rows += [(kind, sum(any(f.kind == kind for f in one.findings) for one in results)) for kind in KINDS]
    rows += [("losses named without a path", sum(result.unknown for result in results))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {count:>8,}" for name, count in rows)


if __name__ == "__main__":
    sys.exit(main())
