"""`grid serve` as a process: where it listens, what it refuses, how it ends; and `grid key`, `grid login`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gridkeep.model import new_ulid
from tests.api.serving import Served, serving, start
from tests.support import Grid, wait_for
from tests.unit.made import keep, make_run


def test_it_ends_in_order_when_told_to(own_server: Served) -> None:
    assert own_server.get("/healthz").status_code == 200
    assert own_server.end(signal.SIGTERM) == 0


def test_what_is_under_way_is_finished_first(own_server: Served) -> None:
    with socket.create_connection(("127.0.0.1", int(own_server.url.rpartition(":")[2]))) as slow:
        slow.sendall(
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nSec-Fetch-Site: same-origin\r\n\r\n"
        )
        time.sleep(0.3)
        own_server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        slow.sendall(b"key=x")
        slow.settimeout(10)
        assert slow.recv(100).startswith(b"HTTP/1.1 403")
    assert own_server.process.wait(15) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "listen to keys"),
        (["--host", "::"], "listen to keys"),
        (["--tls-cert", "x.pem"], "needs both"),
        (["--url", "grid.example.org"], "is no address"),
        (["--host", "203.0.113.1", "--behind-proxy"], "cannot be served"),
    ],
)
def test_what_would_be_open_or_makes_no_sense_is_refused(grid: Grid, options: list[str], said: str) -> None:
    done = grid("serve", "--port", "0", *options, code=None)
    assert done.returncode in (1, 2) and said in done.stderr and done.stdout == ""


def test_behind_a_proxy_it_listens_to_all_and_knows_the_proxys_name(grid: Grid, tmp_path) -> None:
    options = ("--host", "0.0.0.0", "--behind-proxy", "--url", "https://grid.example.org/")
    server = start(tmp_path, *options, home=grid.home)
    try:
        assert server.login_link.startswith("https://grid.example.org/login?code=")
        [port] = wait_for(lambda: re.findall(r'"port":(\d+)', (tmp_path / "serve.log").read_text()))
        local = f"http://127.0.0.1:{port}"
        for host, status in (("grid.example.org", 200), ("192.0.2.7", 200), ("evil.example", 421)):
            assert httpx.get(f"{local}/healthz", headers={"host": host}).status_code == status
    finally:
        server.close()


def test_it_speaks_tls(grid: Grid, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, to make a certificate")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = start(tmp_path, "--tls-cert", certificate, "--tls-key", key, "--host", "0.0.0.0", home=grid.home)
    try:
        address = server.login_link.replace("0.0.0.0", "127.0.0.1")
        answer = httpx.get(address, verify=ssl.create_default_context(cafile=certificate))
        assert answer.status_code == 200 and "Secure" in answer.headers["set-cookie"]
    finally:
        server.close()
    missing = grid("serve", "--port", "0", "--tls-cert", "no.pem", "--tls-key", "no.pem", code=1)
    assert "no.pem" in missing.stderr


def test_a_download_under_way_is_finished_within_the_grace(own_server: Served) -> None:
    [experiment] = make_run(own_server.context, "large", ["completed"])[1]
    made = keep(own_server.context, experiment, b"x.bin", bytes(40_000_000))
    with own_server.client().stream("GET", f"/v1/artifacts/{made.artifact_id}/content") as answer:
        pieces = answer.iter_raw()
        size = len(next(pieces))
        own_server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(own_server), what="no more to be let in")
        size += sum(map(len, pieces))
    assert size == 40_000_000
    assert own_server.process.wait(15) == 0


@pytest.mark.parametrize("signals", [1, 2], ids=["after the grace", "at once when told twice"])
def test_who_is_still_being_served_then_is_cut_off_and_that_is_no_fault(tmp_path: Path, signals: int) -> None:
    grace = "1" if signals == 1 else "60"
    with serving(tmp_path, env={"GRIDKEEP_SHUTDOWN_GRACE": grace}) as served:
        _, [experiment] = make_run(served.context, "endless", ["running"])
        made = keep(served.context, experiment, b"x.bin", b"")
        os.truncate(Path(served.context.home.store) / (made.key or ""), 1 << 36)
        huge = replace(made, size=1 << 36, sha256="0" * 64)
        served.context.catalog.record_artifacts(experiment.experiment_id, [huge])
        _, [listed] = make_run(served.context, "listed", ["completed"])
        rows = [
            replace(made, artifact_id=f"art_{new_ulid()}", path=b"%d" % i, key="x") for i in range(20_000)
        ]
        served.context.catalog.record_artifacts(listed.experiment_id, rows)
        paths = [
            f"/v1/artifacts/{made.artifact_id}/content",
            "/v1/runs/endless/archive",
            "/v1/runs/listed/artifacts",
            "/v1/events",
            "/v1/experiments/endless-exp0/events",
        ]
        clients = [asking(served, path) for path in paths for _ in range(2)]
        reading = [threading.Thread(target=drained, args=(client,)) for client in clients[:4:2]]
        for thread in reading:  # the others do not read
            thread.start()
        for _ in range(signals):
            served.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refused(served), what="no more to be let in")
        assert served.process.wait(20) == 0
        for thread in reading:
            thread.join()
        assert all(drained(client) < 1 << 36 for client in clients)
        log = served.log.read_text()
        assert "raceback" not in log and '"error"' not in log, log


def test_what_hangs_is_given_up_and_that_is_no_fault(tmp_path: Path) -> None:
    with serving(tmp_path, env={"GRIDKEEP_SHUTDOWN_GRACE": "0.1"}) as served:
        make_run(served.context, "busy", ["completed"])
        client, catalog = served.client(), sqlite3.connect(served.context.home.catalog, isolation_level=None)
        assert client.get("/v1/runs").status_code == 200  # its use is noted
        catalog.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.post, "/v1/shares", json={"run_id": "busy"})
            wait_for(lambda: "requests_under_way 2.0" in served.get("/metrics").text, what="it to hang")
            served.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "Cancel 1 running" in served.log.read_text(), what="it to be given up")
            assert isinstance(waiting.exception(), httpx.RemoteProtocolError | httpx.ReadError)
        catalog.rollback()
        assert served.process.wait(20) == 0
        assert "given up" in served.log.read_text() and "raceback" not in served.log.read_text()


def asking(served: Served, path: str) -> socket.socket:
    """A client that has begun to get its answer."""
    client = socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])))
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {served.key()}\r\n\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def drained(client: socket.socket) -> int:
    """How many bytes came until the end."""
    size = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            size += len(piece)
    return size


def refused(served: Served) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_taken_port_is_named(grid: Grid) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = grid("serve", "--port", port, code=1)
    assert f"127.0.0.1:{port} cannot be served" in done.stderr and "Hint: " in done.stderr


def test_without_the_extra_it_says_what_to_install(grid: Grid, tmp_path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    done = grid("serve", code=1, env={"PYTHONPATH": str(tmp_path)})
    assert "uvicorn" in done.stderr and "gridkeep[server]" in done.stderr


def test_keys_are_made_listed_and_revoked(grid: Grid) -> None:
    made = grid("key", "create", "--name", "ci", "--role", "read")
    key = made.last_line
    assert re.fullmatch(r"gk_[0-9a-z]{12}_[\w-]{43}", key)
    [shape] = grid.json("key", "list")
    assert (shape["name"], shape["role"], shape["revoked_at"]) == ("ci", "read", None)
    assert key not in json.dumps(shape) and key not in grid("key", "list").stdout
    assert "exists already" in grid("key", "create", "--name", "ci", code=1).stderr
    grid("key", "revoke", "ci")
    assert grid.json("key", "list")[0]["revoked_at"]
    assert "no key ci" in grid("key", "revoke", "ci", code=1).stderr
    grid("key", "create", "--name", "ci")


def test_nothing_that_opens_a_door_is_kept(grid: Grid) -> None:
    key = grid("key", "create", "--name", "ci").last_line
    code = grid("login").last_line.partition("code=")[2]
    grid("key", "rotate")
    for file in grid.home.rglob("*"):
        if file.is_file():
            assert file.stat().st_mode & 0o077 == 0
            content = file.read_bytes()
            assert key.encode() not in content and key.split("_", 2)[2].encode() not in content
            assert code.encode() not in content


def test_a_login_link_of_the_home_or_of_a_key(served: Served, grid: Grid) -> None:
    mine = Grid(
        grid.command,
        served.log.parent / "home",
        grid.cwd,
        {**grid.env, "GRIDKEEP_HOME": str(served.log.parent / "home")},
    )
    for one in (mine, grid.with_env(GRID_API_KEY=served.key())):
        link = one("login", served.url).last_line
        assert link.startswith(f"{served.url}/login?code=")
        assert "set-cookie" in httpx.get(link).headers
    assert "not one of its keys" in grid.with_env(GRID_API_KEY="gk_x_y")("login", served.url, code=1).stderr
    assert (
        "cannot be reached" in grid.with_env(GRID_API_KEY="x")("login", "http://127.0.0.1:1", code=1).stderr
    )


def test_the_log_names_requests_and_no_secret(own_server: Served) -> None:
    key = own_server.key()
    own_server.client(None).get("/v1/runs?signature=hidden", headers={"x-api-key": key})
    httpx.get(own_server.login_link)

    def lines() -> list[dict[str, object]]:
        text = own_server.log.read_text().splitlines()
        return [shape for line in text if line.startswith("{") and "route" in (shape := json.loads(line))]

    wait_for(lambda: len(lines()) == 2)
    runs, login = lines()
    assert (runs["route"], runs["status"], runs["key"]) == ("/v1/runs", 200, key.split("_")[1])
    assert login["route"] == "/login"
    text = own_server.log.read_text()
    assert (
        "hidden" not in text and key not in text and own_server.login_link.partition("code=")[2] not in text
    )
