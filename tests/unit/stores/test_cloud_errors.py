"""What users are told when a bucket does not do what it should, by a server of the test's own or the real one."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gridkeep.errors import NoCredentials, ObjectMissing, StoreDenied, StoreError, StoreFull, StoreUnavailable
from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.base import Store
from tests.services import Service, free_ports

SECRET = "T0pSecretKey/abcdef"
pytestmark = pytest.mark.xdist_group("cloud")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def open_at(endpoint: str, uri: str = "s3://lab/x", timeout: float = 5) -> Store:
    return open_store(Cluster(name="c", engine="local", store=uri, endpoint=endpoint), timeout=timeout)


class Stub(ThreadingHTTPServer):
    """Gives the same answer to everything."""

    status, body, headers = 200, b"", {"x": "y"}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            stub = self.server
            assert isinstance(stub, Stub)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(stub.status)
            body = b"" if self.command == "HEAD" else stub.body
            for name, value in {**stub.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def error_of(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "AccessDenied", StoreDenied, "no right to write to"),
        (403, "InvalidAccessKeyId", StoreDenied, "does not accept the credentials"),
        (403, "SignatureDoesNotMatch", StoreDenied, "does not accept the credentials"),
        (403, "RequestTimeTooSkewed", StoreDenied, "clock is wrong"),
        (404, "NoSuchBucket", StoreDenied, "There is no bucket"),
        (400, "ExpiredToken", NoCredentials, "have expired"),
        (400, "AuthorizationHeaderMalformed", StoreDenied, "not in the region"),
        (503, "SlowDown", StoreUnavailable, "overloaded"),
        (500, "InternalError", StoreUnavailable, "overloaded"),
        (429, "TooManyRequests", StoreUnavailable, "overloaded"),
        (507, "InsufficientStorage", StoreFull, "is full"),
        (418, "Teapot", StoreError, "Teapot"),
    ],
)
def test_answers_in_words(stub: Stub, status: int, code: str, kind: type[StoreError], words: str) -> None:
    """The same whether obstore or boto3 was at it, in short time, and without any secret."""
    stub.status, stub.body = status, error_of(code)
    store = open_at(stub.endpoint)
    for size in (1, 3 << 20):
        began = time.monotonic()
        with pytest.raises(StoreError, match=words) as raised:
            store.put("a/b", io.BytesIO(b"x" * size))
        assert type(raised.value) is kind
        assert time.monotonic() - began < 15
        assert raised.value.__cause__ is None and raised.value.__suppress_context__
        for told in (raised.value.message, raised.value.hint or ""):
            assert SECRET not in told and "Signature=" not in told and "AKIATEST" not in told
        assert raised.value.hint


def test_the_endpoint_of_the_cluster_is_the_one(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, for small objects and large ones."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    stub.headers = {"ETag": '"1"'}
    store = open_at(stub.endpoint)
    for size in (1, 3 << 20):
        assert store.put("a", io.BytesIO(b"x" * size)).size == size


def test_the_right_region_is_named(stub: Stub) -> None:
    stub.status, stub.body = 301, error_of("PermanentRedirect")
    stub.headers = {"x-amz-bucket-region": "eu-central-1"}
    with pytest.raises(StoreDenied, match="eu-central-1"):
        open_at(stub.endpoint).check()
    with pytest.raises(StoreDenied, match="not in the region"):
        open_at(stub.endpoint).put("a", io.BytesIO(b"x"))
    stub.status = 400
    stub.body = error_of("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")
    stub.headers = {}
    with pytest.raises(StoreDenied, match="eu-west-3"):
        open_at(stub.endpoint).put("a", io.BytesIO(b"x"))


@pytest.mark.parametrize("uri", ["s3://lab/x", "gs://lab/x", "az://lab/x"])
def test_nobody_there(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "Z3JpZGtlZXA=")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    (port,) = free_ports(1)
    store = open_at(f"http://127.0.0.1:{port}", uri)
    for call in (lambda: store.put("a", io.BytesIO(b"x")), lambda: list(store.list("a/")), store.check):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            call()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.put("a", io.BytesIO(b"x" * (3 << 20)))


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(StoreUnavailable, match=r"not known|cannot be reached"):
        open_at("http://nowhere.invalid").head("a")


def test_no_tls_where_it_was_expected(stub: Stub) -> None:
    store = open_at(stub.endpoint.replace("http://", "https://"))
    for size in (1, 3 << 20):
        with pytest.raises(StoreUnavailable, match="secure connection") as raised:
            store.put("a", io.BytesIO(b"x" * size))
        assert "http://" in (raised.value.hint or "")


def test_a_server_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, ThreadPoolExecutor() as pool:
        store = open_at(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.5)
        began = time.monotonic()
        for size in (1, 3 << 20):
            answer = pool.submit(store.put, "a", io.BytesIO(b"x" * size))
            with pytest.raises(StoreUnavailable, match=r"did not answer in time|cannot be reached"):
                answer.result(60)
        assert time.monotonic() - began < 30


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_at(stub.endpoint)
    for size in (1, 3 << 20):
        with pytest.raises(StoreUnavailable, match="No credentials"):
            store.put("a", io.BytesIO(b"x" * size))


def test_renewed_credentials_are_found_in_their_file(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of a profile expires, the user logs in again, the process goes on."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()

    def write(key: str) -> None:
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
        (tmp_path / ".aws/credentials").write_text(text)

    write("OLD")
    seen: list[str] = []

    class Handler(Stub.Handler):
        def answer(self) -> None:
            seen.append(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
            expired = seen[-1] == "OLD"
            stub.status, stub.body = (400, error_of("ExpiredToken")) if expired else (200, b"")
            stub.headers = {"ETag": '"1"'}
            super().answer()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    stub.RequestHandlerClass = Handler
    store = open_at(stub.endpoint)
    with pytest.raises(NoCredentials, match="have expired"):
        store.put("a", io.BytesIO(b"x"))
    write("NEW")
    for size in (1, 3 << 20):
        store.put("a", io.BytesIO(b"x" * size))
    assert seen == ["OLD", "NEW", "NEW"]


# ----------------------------------------------------------------------------------------------- by the real server


def test_who_may_only_read_is_told(s3: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    open_at(s3.endpoint).put("a", io.BytesIO(b"x"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "readersecret")
    store = open_at(s3.endpoint)
    assert b"".join(store.get("a")) == b"x"
    with pytest.raises(StoreDenied, match="no right to write to"):
        store.check()
    with pytest.raises(StoreDenied, match="no right to delete from"):
        store.delete(["a"])
    with pytest.raises(StoreDenied, match="no right to write to"):
        store.put("b", io.BytesIO(b"x" * (40 << 20)))


def test_wrong_keys_and_no_bucket(s3: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreDenied, match="There is no bucket for s3://nowhere/"):
        open_at(s3.endpoint, "s3://nowhere").check()
    with pytest.raises(ObjectMissing):
        open_at(s3.endpoint).head("nothing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(StoreDenied, match=r"does not accept the credentials|no right"):
        open_at(s3.endpoint).check()
