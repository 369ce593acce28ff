"""Rounds of random faults between a run and its bucket: `python -m tests.clouds.rounds --rounds 100 --seed 1 --jobs 2`.

Each round has a home, a bucket and a proxy of its own and follows from its seed alone; `--replay SEED` runs one again.
All faults of `proxy` are mixed, the server goes away, supervisors and engines are killed. A round that went wrong leaves
its home and says where.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from gridkeep.model import ArtifactState
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, check_stored, gone, looked_up, proven
from tests.clouds.proxy import Act, Proxy, Rule
from tests.e2e.support import contents, engines, save, supervisors
from tests.services import Service, make_bucket, s3_server
from tests.support import Grid, end_processes_of, environment

BIN = Path(sys.executable).parent
MIB = 1 << 20
SECONDS = (3.0, 9.0)  # of bad weather
MENU: list[tuple[Act, float]] = [
    (faults.reset_before, 0.3),
    (faults.reset_after, 0.3),
    (faults.SLOW_DOWN, 0.5),
    (faults.INTERNAL, 0.3),
    (faults.TOO_MANY, 0.3),
    (faults.TIMED_OUT, 0.2),
    (faults.EXPIRED, 0.1),
    (faults.DENIED, 0.1),
    (faults.NO_BUCKET, 0.1),
    (faults.cut_request(1000), 0.3),
    (faults.cut_request(5 * MIB + 11), 0.5),
    (faults.cut_answer(0), 0.3),
    (faults.cut_answer(100), 0.3),
    (faults.hang, 0.1),
    (faults.hang_after, 0.1),
    (faults.delay(0.5), 0.3),
    (faults.slow(8 * MIB), 0.5),
]
WRITER = """
import hashlib, os, random, sys, time
chance = random.Random(sys.argv[1])
def write(name, size):
    with open(name, "wb") as file:
        file.write(chance.randbytes(size))
for number in range(40):
    write(f"small-{number}", chance.choice([0, 1, 1000, 70_000, 1_048_577]))
    if chance.random() < 0.3:
        write(f"small-{chance.randrange(number + 1)}", chance.randrange(2000))
    if chance.random() < 0.1:
        os.rename(f"small-{number}", f"renamed-{number}")
        write(f"small-{number}", 10)
    if chance.random() < 0.1:
        os.remove(f"small-{number}")
        write(f"small-{number}", 20)
    if number in (5, 25):
        write(f"large-{number}", chance.randrange(9 << 20, 40 << 20))
    with open("log", "a") as log:
        log.write(f"{number}\\n" * 500)
    time.sleep(chance.uniform(0, 0.15))
with open("large-25", "r+b") as file:
    file.seek(12345)
    file.write(b"changed")
"""


@dataclass
class Round:
    """What came of one."""

    seed: str
    seconds: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    files: int = 0
    wrong: str = ""
    folder: Path | None = None

    def line(self) -> str:
        blows = ", ".join(f"{kind} {count}" for kind, count in sorted(self.blows.items()))
        return f"{self.seed}: {'WRONG' if self.wrong else 'well'} in {self.seconds:.1f} s; {self.files} files; {blows}"


def play(seed: str, server: Service, root: Path) -> Round:
    """One round in the folder `root`, with a bucket of its own on `server`."""
    result, began = Round(seed), time.monotonic()
    chance = random.Random(seed)
    bucket = f"round-{hashlib.sha256(str(root).encode()).hexdigest()[:20]}"
    make_bucket(server, bucket)
    grid = _new_grid(root)
    try:
        with Proxy(server.endpoint, seed=seed) as proxy:
            place = Place(server, bucket, proxy)
            able = place.grid(grid)
            able("run", "--name", "r", "--strategy", "none", save(grid, WRITER, "writer.py"), seed)
            _weather(able, place, chance, result)
            able("status")  # whoever looks starts what is missing
            one = proven(able, place, "r", _written(root, seed))
            result.files = one.artifacts
            _download(able, place, chance, root / "target", result)
            gone(able)
            _count(proxy, result)
    except AssertionError:
        result.wrong = traceback.format_exc()[:20_000]
    finally:
        end_processes_of(root)
        result.seconds = time.monotonic() - began
    return result


def _new_grid(root: Path) -> Grid:
    for part in ("project", "user"):
        (root / part).mkdir(parents=True)
    env = environment(root / "home", root / "user", f"{BIN}:{os.environ['PATH']}")
    return Grid((str(BIN / "grid"),), root / "home", root / "project", env)


def _written(root: Path, seed: str) -> dict[str, str]:
    """What the writer leaves: found by running it without us, in a folder of its own."""
    folder = root / "plain"
    folder.mkdir()
    subprocess.run([sys.executable, root / "project/writer.py", seed], cwd=folder, check=True)
    found = {os.fsdecode(path): hashlib.sha256(data).hexdigest() for path, data in contents(folder).items()}
    shutil.rmtree(folder)
    return found


# --------------------------------------------------------------------------------------------------------- the weather


def _weather(able: Grid, place: Place, chance: random.Random, result: Round) -> None:
    """Faults come and go; now and then the server is away, somebody is killed, or we look whether what is called stored is
    there."""
    end = time.monotonic() + chance.uniform(*SECONDS)
    standing: list[Rule] = []
    while time.monotonic() < end:
        what = chance.random()
        if what < 0.5:
            act, most = chance.choice(MENU)
            method = chance.choice([None, "PUT", "PUT", "POST", "GET"])
            standing.append(place.proxy.strike(act, method=method, chance=chance.uniform(0.05, most)))
        elif what < 0.65 and standing:
            place.proxy.forgive(standing.pop(chance.randrange(len(standing))))
        elif what < 0.75:
            result.blows["away"] += 1
            with place.proxy.away():
                time.sleep(chance.uniform(0.1, 2.0))
        elif what < 0.85:
            _kill(supervisors(able) if chance.random() < 0.7 else engines(able) + supervisors(able), result)
            able("status")
        else:
            _look(able, place)
        time.sleep(chance.uniform(0, 0.6))
    place.proxy.forgive()


def _kill(pids: list[int], result: Round) -> None:
    for pid in pids:
        try:
            os.kill(pid, 9)
            result.blows["kill"] += 1
        except ProcessLookupError:
            continue


def _look(able: Grid, place: Place) -> None:
    """What was called stored before and after we looked has its bytes."""
    before = {one.artifact_id: one for one in looked_up(able, "r")[1] if one.state is ArtifactState.STORED}
    for one in random.Random(len(before)).sample(list(before.values()), min(5, len(before))):
        try:
            check_stored(place, [one])
        except Exception:  # it may have been replaced meanwhile, or removed
            now = {each.artifact_id: each for each in looked_up(able, "r")[1]}
            assert now.get(one.artifact_id) != one, traceback.format_exc()


def _download(able: Grid, place: Place, chance: random.Random, target: Path, result: Round) -> None:
    """Through faults, until it comes; what lies there under its name is right at any time."""
    wanted = {one.path: one.sha256 for one in looked_up(able, "r")[1] if one.state is ArtifactState.STORED}
    impatient = able.with_env(GRIDKEEP_DOWNLOAD_TIMEOUT="5s")
    for turn in range(3):
        if turn < 2:
            for act, most in chance.sample(MENU, 3):
                place.proxy.strike(act, method="GET", chance=chance.uniform(0, most))
        done = impatient("artifacts", "r-exp0", "--download_dir", target, code=None if turn < 2 else 0)
        place.proxy.forgive()
        found = {path: hashlib.sha256(data).hexdigest() for path, data in contents(target / "r-exp0").items()}
        found = {path: sha256 for path, sha256 in found.items() if not path.endswith(b".partial")}
        assert set(found.items()) <= set(wanted.items()), "a file is not what was recorded"
        assert done.returncode or found == wanted, "a file is not there, and nothing was said"
        result.blows["downloads that failed"] += done.returncode


def _count(proxy: Proxy, result: Round) -> None:
    result.blows.update(one.struck for one in proxy.seen if one.struck)


# ---------------------------------------------------------------------------------------------------------------- many


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clouds.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", default="1", help="of the whole series; printed with each round")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--replay", metavar="SEED", help="one round again, as `1/17`")
    args = parser.parse_args()
    seeds = [args.replay] if args.replay else [f"{args.seed}/{number}" for number in range(args.rounds)]
    folder = Path(tempfile.mkdtemp(prefix="gridkeep-clouds-"))
    blows: Counter[str] = Counter()
    wrong = files = 0
    with s3_server(folder / "s3") as server, ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(_one, seed, server, folder) for seed in seeds]
        for done in as_completed(waiting):
            result = done.result()
            blows += result.blows
            files += result.files
            wrong += bool(result.wrong)
            print(result.line(), flush=True)
            if result.wrong:
                print(result.wrong, f"kept in {result.folder}", sep="\n", flush=True)
    print(f"{len(seeds)} rounds, {files} files, {blows.total()} blows, {wrong} rounds went wrong")
    for kind, count in sorted(blows.items()):
        print(f"  {kind:<30} {count:>6,}")
    return bool(wrong)


def _one(seed: str, server: Service, folder: Path) -> Round:
    root = folder / seed.replace("/", "-")
    result = play(seed, server, root)
    if result.wrong:
        result.folder = root
    else:
        shutil.rmtree(root)
    return result


if __name__ == "__main__":
    sys.exit(main())
