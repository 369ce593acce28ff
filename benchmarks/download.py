"""Downloads of many small files: `grid artifacts` beside MLflow's own client, in turn, on this machine.

    python benchmarks/download.py [--files 10000] [--size 10KiB] [--rounds 5] [--json]

MLflow is measured twice: its client on artifacts in a local folder, and against its own tracking server on loopback,
as a team uses it. All begin a fresh process each round and download into an empty folder; Gridkeep hashes every byte,
MLflow none. MLflow lives in an environment of its own that is made below a temporary folder. It is no dependency.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.context import open_context
from gridkeep.settings import parse_size
from gridkeep.stores.keys import artifact_key

FOLDERS = 100
NAME = "bench-run"

LOG = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[2])
print(run.info.run_id)
"""
GET = """
import os, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
os.makedirs(sys.argv[3])
mlflow.artifacts.download_artifacts(run_id=sys.argv[2], dst_path=sys.argv[3])
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=parse_size, default=parse_size("10KiB"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mlflow", default="mlflow", help="what to install: mlflow, or a version of it")
    parser.add_argument(
        "--mlflow-python", help="an interpreter that has MLflow, instead of a new environment"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        result = measure(
            Path(folder), asked.files, asked.size, asked.rounds, asked.mlflow_python or asked.mlflow
        )
    print(json.dumps(result, indent=2) if asked.json else table(result))


def measure(folder: Path, files: int, size: int, rounds: int, mlflow: str) -> dict[str, object]:
    """Seconds of each round, with medians and ratios. `mlflow` is an interpreter that has it, or what to install."""
    source = folder / "source"
    make_files(source, files, size)
    home = folder / "home"
    keep(home, source)
    python = mlflow if os.path.sep in mlflow else install(folder / "venv", mlflow)
    local, version = (
        f"sqlite:///{folder}/local.db",
        run([python, "-c", "import mlflow; print(mlflow.__version__)"], {}),
    )
    seconds: dict[str, list[float]] = {}
    with server(python, folder) as remote:
        runs = {
            uri: run([python, "-c", LOG, uri, source], cwd=folder).splitlines()[-1] for uri in (local, remote)
        }
        clients: dict[str, Callable[[Path], object]] = {
            "gridkeep": lambda to: run(
                [Path(sys.executable).parent / "grid", "artifacts", NAME, "--download_dir", to],
                {"GRIDKEEP_HOME": str(home)},
            ),
            "mlflow client, local folder": lambda to: run(
                [python, "-c", GET, local, runs[local], to], cwd=folder
            ),
            "mlflow client, its server": lambda to: run(
                [python, "-c", GET, remote, runs[remote], to], cwd=folder
            ),
            "cp -r": lambda to: run(["cp", "-r", source, to]),
        }
        for turn in range(rounds):
            for name, client in clients.items():
                target = folder / f"to-{turn}"
                os.sync()
                began = time.perf_counter()
                client(target)
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                check(target, source, files)
                shutil.rmtree(target)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "files": files,
        "size": size,
        "rounds": rounds,
        "mlflow": version.strip(),
        "seconds": seconds,
        "median": medians,
        "times_gridkeep": {name: median / medians["gridkeep"] for name, median in medians.items()},
    }


def table(result: dict[str, object]) -> str:
    medians, ratios, seconds = result["median"], result["times_gridkeep"], result["seconds"]
    assert isinstance(medians, dict)
    assert isinstance(ratios, dict)
    assert isinstance(seconds, dict)
    lines = [
        f"{result['files']} files of {result['size']} bytes, median of {result['rounds']}, MLflow {result['mlflow']}",
        f"{'':30}{'median':>9}{'min':>9}{'max':>9}{'to grid':>9}",
    ]
    for name, median in medians.items():
        low, high = min(seconds[name]), max(seconds[name])
        lines.append(f"{name:30}{median:8.2f}s{low:8.2f}s{high:8.2f}s{ratios[name]:8.1f}×")
    return "\n".join(lines)


def make_files(folder: Path, files: int, size: int) -> None:
    for at in range(FOLDERS):
        (folder / f"part-{at:02}").mkdir(parents=True)
    for at in range(files):
        (folder / f"part-{at % FOLDERS:02}" / f"file-{at:06}.bin").write_bytes(os.urandom(size))


def keep(home: Path, source: Path) -> None:
    """What a run that wrote these files would leave in store and catalog."""
    with open_context({"GRIDKEEP_HOME": str(home)}, start_engine=False) as context:
        spec = RunSpec(argv=["python"], display="bench.py", workdir="", root="/")
        run_id, now = f"wr_{new_ulid()}", time.time()
        experiment = Experiment(
            experiment_id=new_ulid(), run_id=run_id, run=NAME, index=0, state=State.COMPLETED, created_at=now
        )
        made = Run(
            run_id=run_id,
            name=NAME,
            kind="script",
            cluster="local",
            created_by="b",
            created_at=now,
            spec=spec,
        )
        context.catalog.create_run(made, [experiment])
        store = context.store("local")

        def put(file: Path) -> Artifact:
            content, path = file.read_bytes(), os.fsencode(file.relative_to(source))
            key = artifact_key(experiment.experiment_id, path)
            store.put(key, io.BytesIO(content))
            return Artifact(
                artifact_id=f"art_{new_ulid()}",
                experiment_id=experiment.experiment_id,
                path=path,
                state=ArtifactState.STORED,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                mtime_ns=file.stat().st_mtime_ns,
                mode=file.stat().st_mode,
                key=key,
            )

        with ThreadPoolExecutor(16) as pool:
            files = (file for file in source.rglob("*") if file.is_file())
            context.catalog.record_artifacts(experiment.experiment_id, list(pool.map(put, files)))


def install(venv: Path, package: str) -> str:
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True, stdout=sys.stderr)
    return python


@contextmanager
def server(python: str, folder: Path) -> Iterator[str]:
    """MLflow's tracking server, which passes artifacts on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = [f"--backend-store-uri=sqlite:///{folder}/server.db", f"--artifacts-destination={folder}/served"]
    command = [python, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=2", *store]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit((folder / "server.log").read_text()) from None
                time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def check(target: Path, source: Path, files: int) -> None:
    """A download that lacks a file does not count."""
    found = [file for file in target.rglob("*.bin") if file.is_file()]
    assert len(found) == files, f"{len(found)} of {files} files came"
    some = found[:: max(1, files // 50)]
    assert all(file.read_bytes() == (source / file.parent.name / file.name).read_bytes() for file in some)


def run(command: list[str | Path], environ: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(command, env=os.environ | (environ or {}), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
