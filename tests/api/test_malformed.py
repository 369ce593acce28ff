"""Requests as nobody should make them: huge, slow, broken. The server says no, and goes on."""

from __future__ import annotations

import socket
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.api.serving import Served

MIB = 2**20


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(served.url).port or 0), timeout=20)


def said(served: Served, request: bytes) -> bytes:
    """All that is answered until the server closes, or has nothing more to say."""
    with closing(connect(served)) as connection:
        try:
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        connection.settimeout(2)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def head(served: Served, line: str, *more: str) -> bytes:
    return "\r\n".join([line, "host: localhost", f"x-api-key: {served.key()}", *more, "", ""]).encode()


def well(served: Served) -> None:
    """It still serves, and nothing went wrong inside."""
    assert served.get("/v1/runs").status_code == 200
    assert "Traceback" not in served.log.read_text() and '"status":500' not in served.log.read_text()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nbroken header\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /login HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-api-key: " + b"a" * 200_000 + b"\r\n\r\n",
        bytes(range(256)) * 100,
        b"\x16\x03\x01\x02\x00\x01\x00",  # the beginning of TLS
    ],
    ids=range(13),
)
def test_what_is_no_request_of_ours(served: Served, request_bytes: bytes) -> None:
    answer = said(served, request_bytes)
    assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:200]
    well(served)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs/%ff%fe",
        "/v1/runs/%00",
        "/v1/artifacts/%ff/content",
        "/v1/runs/%zz",
        "/v1/runs/a%2fb",
        "//v1/runs",
        "/v1/../login",
    ],
)
def test_strange_addresses(served: Served, path: str) -> None:
    answer = said(served, head(served, f"GET {path} HTTP/1.1", "connection: close"))
    assert answer.split(b" ")[1] in (b"404", b"400", b"422"), answer[:200]
    well(served)


def test_a_huge_body_is_refused_before_it_is_read(served: Served) -> None:
    request = head(served, "POST /v1/artifacts/signed-urls HTTP/1.1", f"content-length: {2**40}")
    assert b" 413 " in said(served, request)
    well(served)


def test_one_of_unknown_length_ends_at_the_limit(served: Served) -> None:
    chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
    request = head(served, "POST /v1/artifacts/signed-urls HTTP/1.1", "transfer-encoding: chunked")
    answer = said(served, request + chunk * 20 + b"0\r\n\r\n")
    assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:200]
    well(served)


def test_many_who_say_nothing_hold_nobody_up(served: Served) -> None:
    silent = [connect(served) for _ in range(300)]
    for number, connection in enumerate(silent):
        connection.sendall(b"GET /v1/runs HTTP/1.1\r\nhost: localhost\r\n"[: number % 40 + 1])
    well(served)
    for connection in silent:
        connection.close()


def test_many_requests_on_one_connection_in_one_go(served: Served) -> None:
    request = head(served, "GET /v1/runs HTTP/1.1")
    answer = said(served, request * 200)
    assert answer.count(b"HTTP/1.1 200") == 200
    well(served)
