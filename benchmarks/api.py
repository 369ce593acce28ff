"""How fast `grid serve` answers, and what it takes: listings, signed URLs, the bytes of a large file, a ZIP of many.

    python benchmarks/api.py [--seconds 5] [--rounds 3] [--rows 1000000] [--gib 2] [--json]

The server has one core of the machine, this program another. Beside it, on the same core and in turn: a bare Starlette
handler that encodes the same rows with the same encoder; and nginx for the large file, where there is one on PATH
(`apt-get install nginx-light`). The store is local.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from report import Figure, in_turn, medians, report

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.access import make_key
from gridkeep.runs.context import Context, open_context
from gridkeep.stores.keys import artifact_key

GRID = str(Path(sys.executable).parent / "grid")
MIB = 2**20
SMALL = 10_000  # files of a ZIP
HUNDRED = "/v1/runs/hundred/artifacts"
BARE = """
import sys
import orjson, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
rows = orjson.loads(open(sys.argv[1], "rb").read())
app = Starlette(routes=[Route("/", lambda request: Response(orjson.dumps(rows), media_type="application/json"))])
uvicorn.run(app, port=int(sys.argv[2]), http="httptools", loop="uvloop", log_level="error", access_log=False)
"""
NGINX = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log /dev/null;
events {{}}
{user}http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round of requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="of the run whose first page is asked for"
    )
    parser.add_argument("--gib", type=float, default=2.0, help="size of the large file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    with tempfile.TemporaryDirectory(prefix="gridkeep-bench-") as folder:
        with open_context({"GRIDKEEP_HOME": f"{folder}/home"}, start_engine=False) as context:
            large = fill(context, options.rows, int(options.gib * 2**30))
            _, key = make_key(context.catalog, name="bench", role=Role.READ, owner=context.user)
        figures, samples = measured(Path(folder), key, large, cores[0], options)
    report("api", figures, samples, as_json=options.json)


# --------------------------------------------------------------------------------------------------------------- what is


def fill(context: Context, rows: int, size: int) -> Artifact:
    """Runs `hundred`, `hundred-thousand`, `million` of so many rows; `small` of many files that are there; `large` of one,
    which is returned."""
    for name, count in (("hundred", 100), ("hundred-thousand", 100_000), ("million", rows)):
        experiment = add_run(context, name)
        for start in range(0, count, 5000):
            made = [
                row(experiment, f"out/part-{i:07}.json".encode(), i)
                for i in range(start, min(count, start + 5000))
            ]
            context.catalog.record_artifacts(experiment.experiment_id, made)
    experiment = add_run(context, "small")
    made = [small_file(context, experiment, i) for i in range(SMALL)]
    context.catalog.record_artifacts(experiment.experiment_id, made)
    experiment = add_run(context, "large")
    artifact = row(experiment, b"large.bin", size)
    path, digest, block = Path(context.home.store, artifact.key or ""), hashlib.sha256(), os.urandom(MIB)
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
            digest.update(block)
    artifact = row(experiment, b"large.bin", size // MIB * MIB, digest.hexdigest())
    context.catalog.record_artifacts(experiment.experiment_id, [artifact])
    return artifact


def small_file(context: Context, experiment: Experiment, number: int) -> Artifact:
    content = os.urandom(2048).hex().encode()
    path = f"out/{number % 100:02}/part-{number:05}.txt".encode()
    artifact = row(experiment, path, len(content), hashlib.sha256(content).hexdigest())
    file = Path(context.home.store, artifact.key or "")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return artifact


def add_run(context: Context, name: str) -> Experiment:
    spec = RunSpec(argv=["python", "train.py"], display="train.py", workdir="", root="/project")
    run = Run(
        run_id=f"wr_{new_ulid()}",
        name=name,
        kind="script",
        cluster="local",
        created_by=context.user,
        created_at=time.time(),
        spec=spec,
    )
    experiment = Experiment(
        experiment_id=new_ulid(),
        run_id=run.run_id,
        run=name,
        index=0,
        state=State.COMPLETED,
        finished_at=time.time(),
    )
    context.catalog.create_run(run, [experiment])
    return experiment


def row(experiment: Experiment, path: bytes, size: int, sha256: str | None = None) -> Artifact:
    return Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path,
        state=ArtifactState.STORED,
        size=size,
        sha256=sha256 or f"{size:064x}",
        mtime_ns=time.time_ns(),
        mode=0o100644,
        key=artifact_key(experiment.experiment_id, path),
    )


# -------------------------------------------------------------------------------------------------------------- measuring


def measured(
    folder: Path, key: str, large: Artifact, core: int, options: argparse.Namespace
) -> tuple[list[Figure], dict[str, list[float]]]:
    with served(folder / "home", core) as (port, pid):
        ask = Server(port, key)
        (folder / "rows.json").write_bytes(ask.get(HUNDRED))
        first, array = "/v1/runs/million/artifacts?limit=100", "/v1/runs/hundred-thousand/artifacts"
        content, archive = f"/v1/artifacts/{large.artifact_id}/content", "/v1/runs/small/archive"
        with bare(folder, core) as other, nginx(folder, core) as third:
            jobs: dict[str, Callable[[], float]] = {
                LISTING: lambda: rate(ask, HUNDRED, options.seconds),
                LISTING_CPU: lambda: rate(ask, HUNDRED, options.seconds, lambda: processor_time(pid)),
                BARE_LISTING: lambda: rate(Server(other, ""), "/", options.seconds),
                FIRST_PAGE: lambda: 1000 * took(ask, first),
                SIGNING: lambda: signing(ask),
                "100,000 artifacts as one array, s": lambda: took(ask, array),
                FILE: lambda: speed(ask, content),
                f"ZIP of {SMALL:,} files of 4 kB, s": lambda: took(ask, archive),
            }
            if third:
                jobs[NGINX_FILE] = lambda: speed(Server(third, ""), f"/home/store/{large.key}")
            else:
                print(
                    "nginx is not installed: the large file has nothing to be held against", file=sys.stderr
                )
            before = resident(pid)
            samples = in_turn(jobs, options.rounds)
            paths = {"array": array, "large file": content, "ZIP": archive}
            peaks = {what: peak(pid, ask, path) for what, path in paths.items()}
    median = medians(samples)
    figures = [Figure(name, median[name], "", **BOUNDS.get(name, {})) for name in jobs]
    figures.append(Figure("listing beside bare Starlette", beside(samples, LISTING, BARE_LISTING), "x"))
    if NGINX_FILE in samples:
        figures.append(Figure("large file beside nginx", beside(samples, FILE, NGINX_FILE), "x"))
    figures += [
        Figure(f"memory for the {what}, beyond that of the start", (most - before) / MIB, "MiB", at_most=64)
        for what, most in peaks.items()
    ]
    return figures, samples


LISTING = "100 artifacts with signed URLs, requests/s"
LISTING_CPU = "the same by its processor time alone, requests/s"  # whatever else the machine does
BARE_LISTING = "100 artifacts, bare Starlette, requests/s"
FIRST_PAGE = "first page of the largest run, ms"
SIGNING = "10,000 signed URLs, s"
FILE = "large file, MB/s"
NGINX_FILE = "large file, nginx, MB/s"
BOUNDS: dict[str, dict[str, float]] = {
    LISTING: {"at_least": 500},
    FIRST_PAGE: {"at_most": 20},
    SIGNING: {"at_most": 1},
    FILE: {"at_least": 500},
}


def beside(samples: dict[str, list[float]], one: str, other: str) -> float:
    """The median of their ratios, round by round."""
    return statistics.median(a / b for a, b in zip(samples[one], samples[other], strict=True))


@dataclass(frozen=True)
class Server:
    """Whom to ask."""

    port: int
    key: str

    def connect(self) -> Connection:
        return Connection(self)

    def get(self, path: str, body: bytes = b"") -> bytes:
        return b"".join(self.connect().pieces(path, body))


class Connection:
    """One that is kept alive."""

    def __init__(self, server: Server) -> None:
        self._key = server.key
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._file = self._socket.makefile("rb", buffering=MIB)

    def pieces(self, path: str, body: bytes = b"") -> Iterator[bytes]:
        """The body of the answer."""
        self.ask(path, body)
        return self.answer()

    def ask(self, path: str, body: bytes = b"") -> None:
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {self._key}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)

    def answer(self) -> Iterator[bytes]:
        status, length = self._file.readline(), -1
        if b" 200 " not in status:
            raise SystemExit(f"{status!r}")
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if length < 0:
            while size := int(self._file.readline(), 16):
                yield self._file.read(size)
                self._file.readline()
            self._file.readline()
        while length > 0:
            piece = self._file.read(min(length, MIB))
            length -= len(piece)
            yield piece


def rate(server: Server, path: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> float:
    """Answers a second. Of two connections one always waits for its answer, so that the server is never idle."""
    connections, count = [server.connect(), server.connect()], 0
    end, begun = time.monotonic() + seconds, clock()
    for connection in connections:
        connection.ask(path)
    while time.monotonic() < end:
        connection = connections[count % 2]
        for _ in connection.answer():
            pass
        connection.ask(path)
        count += 1
    rate = count / (clock() - begun)
    for connection in connections:
        for _ in connection.answer():
            pass
    return rate


def processor_time(pid: int) -> float:
    """Seconds that the process has had so far (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def took(server: Server, path: str) -> float:
    begun = time.monotonic()
    server.get(path)
    return time.monotonic() - begun


def signing(server: Server) -> float:
    ids: list[str] = []
    while len(ids) < 10_000:
        after = ids[-1] if ids else ""
        page = json.loads(server.get(f"/v1/runs/hundred-thousand/artifacts?limit=1000&cursor={after}"))
        ids += [each["artifact_id"] for each in page]
    body = json.dumps({"artifact_ids": ids}).encode()
    begun = time.monotonic()
    server.get("/v1/artifacts/signed-urls", body)
    return time.monotonic() - begun


def speed(server: Server, path: str) -> float:
    begun = time.monotonic()
    size = sum(map(len, server.connect().pieces(path)))
    return size / 1e6 / (time.monotonic() - begun)


def peak(pid: int, server: Server, path: str) -> int:
    """The most memory, in bytes, that the process has while it answers."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    took(server, path)
    return resident(pid, "VmHWM")


def resident(pid: int, which: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(which))


# ---------------------------------------------------------------------------------------------------------------- servers


@contextmanager
def served(home: Path, core: int) -> Iterator[tuple[int, int]]:
    """Port and process of a `grid serve`."""
    with process([GRID, "serve", "--port", "0"], core, GRIDKEEP_HOME=str(home)) as server:
        assert server.stdout is not None
        yield urlsplit(server.stdout.readline().decode()).port or 0, server.pid


@contextmanager
def bare(folder: Path, core: int) -> Iterator[int]:
    port = free_port()
    with process([sys.executable, "-c", BARE, str(folder / "rows.json"), str(port)], core):
        wait_for(port)
        yield port


@contextmanager
def nginx(folder: Path, core: int) -> Iterator[int]:
    """0 where there is none."""
    program = shutil.which("nginx")
    if program is None:
        yield 0
        return
    port = free_port()
    user = "user root;\n" if os.geteuid() == 0 else ""  # the folder is ours alone
    (folder / "nginx.conf").write_text(NGINX.format(root=folder, port=port, user=user))
    with process([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], core):
        wait_for(port)
        yield port


@contextmanager
def process(command: list[str], core: int, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield server
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
