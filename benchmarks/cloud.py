"""Up to an S3 store and down again, beside s5cmd, rclone and the AWS CLI: one large file, and 10,000 small ones.

    python benchmarks/cloud.py [--rounds 5] [--only large|small] [--mlflow PYTHON] [--json]

Each round has a fresh server on loopback (tests/services.py) and a fresh bucket; the peers go in turn, whichever of them are
on the PATH. Up: Gridkeep is what a supervisor does with files that are ready, from its first read to the store's last
confirmation, hashing every byte (it is there before its files: its start is not counted); the others are whole commands.
Down: `grid artifacts`, which verifies every byte, against whole commands. Extra memory: the most that the process had over
what it had before its first file. MLflow's client (`--mlflow`: an interpreter that has it and boto3) goes once: it is slow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homes import GRID, PEAK
from report import Figure, report

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.services import Service, make_bucket, s3_server

BUCKET = "bench"
WORKER = Path(__file__).with_name("cloud_worker.py")
FORMS = {"large": (1, 2 * 2**30), "small": (10_000, 10 * 2**10)}  # files, bytes of each
ROOM = {"large": 50.0, "small": 200.0}  # MiB of extra memory
MLFLOW_UP = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository(sys.argv[2]).log_artifacts(sys.argv[1])
"""
MLFLOW_DOWN = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository(sys.argv[2]).download_artifacts("", sys.argv[1])
"""
PEERS: dict[str, tuple[list[str], list[str]]] = {  # commands up and down, {local} and {prefix} filled in
    "s5cmd": (["cp", "{local}/", "s3://{prefix}/"], ["cp", "s3://{prefix}/*", "{local}/"]),
    "rclone": (
        ["copy", "{local}", ":s3,env_auth,provider=Other:{prefix}", "--transfers=16", "--s3-no-check-bucket"],
        ["copy", ":s3,env_auth,provider=Other:{prefix}", "{local}", "--transfers=16"],
    ),
    "aws": (
        [
            "s3",
            "cp",
            "--recursive",
            "--only-show-errors",
            "--endpoint-url={endpoint}",
            "{local}",
            "s3://{prefix}/",
        ],
        [
            "s3",
            "cp",
            "--recursive",
            "--only-show-errors",
            "--endpoint-url={endpoint}",
            "s3://{prefix}/",
            "{local}",
        ],
    ),
    "mlflow": (
        ["-c", MLFLOW_UP, "{local}", "s3://{prefix}"],
        ["-c", MLFLOW_DOWN, "{local}", "s3://{prefix}"],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=FORMS)
    parser.add_argument("--mlflow", metavar="PYTHON", help="an interpreter that has mlflow and boto3")
    parser.add_argument("--dir", default=None, help="a folder on the disk to use")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    peers = {name: found for name in PEERS if name != "mlflow" and (found := shutil.which(name))}
    print(f"peers: {', '.join(peers)}", file=sys.stderr)
    figures: list[Figure] = []
    samples: dict[str, list[float]] = {}
    for form in [options.only] if options.only else FORMS:
        with tempfile.TemporaryDirectory(prefix="gridkeep-bench-", dir=options.dir) as folder:
            bench = Bench(Path(folder), form, peers)
            for number in range(options.rounds):
                bench.play(number, options.mlflow if number == 0 else None)
        figures += bench.figures()
        samples |= bench.samples
    report("cloud", figures, samples, as_json=options.json)


class Bench:
    """One form of files, up and down."""

    def __init__(self, folder: Path, form: str, peers: dict[str, str]) -> None:
        self._folder = folder
        self._form = form
        self._peers = peers
        self._source = folder / "source"
        self._files, size = FORMS[form]
        self.samples: dict[str, list[float]] = {}
        for number in range(self._files):
            place = self._source / f"part-{number % 100:02}"
            place.mkdir(parents=True, exist_ok=True)
            with (place / f"{number:06}.bin").open("wb") as file:
                for start in range(0, size, 2**20):
                    file.write(os.urandom(min(2**20, size - start)))

    def play(self, number: int, mlflow: str | None) -> None:
        with self._server(number) as server:
            self._environ = os.environ | server.environ
            self._environ.pop("AWS_CA_BUNDLE", None)  # rclone cannot have it, and there is no TLS on loopback
            self._environ["RCLONE_S3_ENDPOINT"] = server.endpoint
            self._environ["S3_ENDPOINT_URL"] = self._environ["MLFLOW_S3_ENDPOINT_URL"] = server.endpoint
            turns = ["gridkeep", *self._peers, *(["mlflow"] if mlflow else [])]
            for name in turns if number % 2 == 0 else reversed(turns):
                os.sync()
                target = self._folder / f"down-{number}-{name}"
                if name == "gridkeep":
                    self._gridkeep(number, server, target)
                else:
                    self._peer(name, self._peers.get(name) or mlflow or "", target)
                self._check(target)
                self._forget(target)

    def figures(self) -> list[Figure]:
        found = {name: statistics.median(values) for name, values in self.samples.items()}
        figures = [Figure(name, value, "MiB" if "extra" in name else "s") for name, value in found.items()]
        for way in ("up", "down"):
            ours = found[f"{self._form}, {way}: gridkeep"]
            for peer in (*self._peers, "mlflow"):
                if (theirs := found.get(f"{self._form}, {way}: {peer}")) is not None:
                    most = (
                        0.1
                        if peer == "mlflow" and self._form == "small"
                        else None
                        if peer == "mlflow"
                        else 1.1
                    )
                    what = f"{self._form}, {way}: time as a part of {peer}'s"
                    figures.append(Figure(what, ours / theirs, "x", at_most=most))
            extra = found[f"{self._form}, {way}: extra memory"]
            what = f"{self._form}, {way}: extra memory of gridkeep"
            figures.append(Figure(what, extra, "MiB", at_most=ROOM[self._form]))
        return figures

    @contextmanager
    def _server(self, number: int) -> Iterator[Service]:
        place = self._folder / f"server-{number}"
        with s3_server(place) as server:
            make_bucket(server, BUCKET)
            yield server
        shutil.rmtree(place)

    def _gridkeep(self, number: int, server: Service, target: Path) -> None:
        home = self._folder / f"home-{number}"
        self._environ["GRIDKEEP_HOME"] = str(home)
        store = [f"s3://{BUCKET}/kept", server.endpoint]
        told = json.loads(self._run(sys.executable, str(WORKER), str(self._source), *store))
        self._add("gridkeep", "up", told["seconds"])
        self.samples.setdefault(f"{self._form}, up: extra memory", []).append(told["extra_mib"])
        self._note("gridkeep", "down", GRID, "artifacts", "bench", "--download_dir", str(target))
        peak = int(
            self._run(sys.executable, "-c", PEAK, GRID, "artifacts", "bench", "--download_dir", f"{target}2")
        )
        base = int(self._run(sys.executable, "-c", PEAK, GRID, "artifacts", "bench", "--json"))
        self.samples.setdefault(f"{self._form}, down: extra memory", []).append((peak - base) / 1024)
        self._forget(Path(f"{target}2"))
        shutil.rmtree(home)

    def _peer(self, name: str, program: str, target: Path) -> None:
        up, down = PEERS[name]
        for way, words, local in (("up", up, self._source), ("down", down, target)):
            local.mkdir(exist_ok=True)
            filled = (
                word.replace("{local}", str(local))
                .replace("{prefix}", f"{BUCKET}/{name}")
                .replace("{endpoint}", self._environ["S3_ENDPOINT_URL"])
                for word in words
            )
            self._note(name, way, program, *filled)

    def _note(self, name: str, way: str, *command: str) -> None:
        began = time.perf_counter()
        self._run(*command)
        self._add(name, way, time.perf_counter() - began)

    def _add(self, name: str, way: str, seconds: float) -> None:
        print(f"  {self._form}, {way}, {name}: {seconds:.2f} s", file=sys.stderr)
        self.samples.setdefault(f"{self._form}, {way}: {name}", []).append(seconds)

    def _forget(self, target: Path) -> None:
        """Small files stay to the end: deleting them would make the next peer's slower (homes.py says why)."""
        if self._form == "large":
            shutil.rmtree(target)

    def _check(self, target: Path) -> None:
        """A download that lacks a file does not count."""
        found = [file for file in target.rglob("*.bin") if file.is_file()]
        assert len(found) == self._files, f"{len(found)} of {self._files} files came"

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


if __name__ == "__main__":
    main()
