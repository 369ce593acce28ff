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
from pathlib import Path

from gridkeep.model import Experiment
from tests.faults import acts, disks
from tests.faults.acts import Round
from tests.faults.oracle import Finding, Oracle, Told, read_logs
from tests.faults.weather import forecast, memory_of
from tests.support import Grid, end_processes_of, environment

BIN = Path(sys.executable).parent
WRITER = Path(__file__).with_name("writer.py")
KINDS = ("lost", "wrong", "stuck", "false completed", "left behind", "disagreement")
# What can end a script, or hide how it ended.
_HARMFUL = ("script", "child", "shim", "all", "owner", "restart", "failed call")


def play(seed: str, root: Path, library: Path | None = None) -> Round:
    """One round in the folder `root`; what needs the `library` is left out without one."""
    result, began = Round(seed), time.monotonic()
    chance = random.Random(seed)
    grid = new_grid(root)
    weather = forecast(grid, root, chance, library)
    try:
        acts.first_steps(weather, chance, result)
        acts.submit(weather, root, chance, result)
        if chance.random() < 0.1:
            acts.delete(weather, chance, result)
        elif not result.findings:
            acts.strike_and_wait(weather, root, chance, result)
            if not result.findings:
                _judge(grid, root, result)
    except AssertionError as error:
        result.find("disagreement", f"a command failed: {error}")
    finally:
        weather.count(result.blows)
        end_processes_of(root)
        acts.forget(root)
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


# ------------------------------------------------------------------------------------------------------- what is found


def _judge(grid: Grid, root: Path, result: Round) -> None:
    told = read_logs(root / "oplog")
    restarted = bool(result.blows["restart of the machine"])
    wiped = os.fsencode(memory_of(root)) if restarted else None
    oracle = Oracle(grid, "r-exp0", told, root / "outside", root / "downloads", wiped)
    result.files = oracle.experiment.artifacts
    result.unknown = sum(one.path is None for one in oracle.artifacts)
    result.findings += _outcome(oracle.experiment, told, result)
    result.findings += oracle.findings()
    result.findings += _leftovers(grid, oracle.experiment)


def _outcome(experiment: Experiment, told: Told, result: Round) -> list[Finding]:
    said = f"{experiment.state}, {experiment.outcome}, {experiment.reason}; the script says {told.ends}"
    if experiment.state == "completed" and told.ends[-1:] != [0]:
        return [Finding("false completed", said)]
    harmful = any(word in kind for kind in result.blows for word in _HARMFUL)
    if not harmful and experiment.state != "completed":
        return [Finding("disagreement", f"nothing hurt the script, and it is {said}")]
    if experiment.state == "failed" and not experiment.reason:
        return [Finding("disagreement", f"no reason: {said}")]
    if result.lost_script and result.resumes and experiment.attempt < 2:
        return [Finding("disagreement", f"it was to be started again, and is {said}")]
    if result.lost_script and not result.resumes and experiment.outcome != "lost":
        return [Finding("disagreement", f"its machine went down, and it is {said}")]
    return []


def _leftovers(grid: Grid, experiment: Experiment) -> list[Finding]:
    """What the home still holds of an experiment whose files are all in the store, once an engine has looked."""
    if acts.held(grid.home):
        grid("run", "--follow", "--name", "next", "true")
        acts.gone(grid.home, 15)
    left = acts.held(grid.home)
    if experiment.missing:  # what could not be stored stays where it is
        left = [path for path in left if path != grid.home / "work" / experiment.experiment_id]
    return [Finding("left behind", f"{path}") for path in left]


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
