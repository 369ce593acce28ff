"""The bytes of artifacts: whole, in parts, safely labelled, never others than those recorded."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gridkeep.model import Artifact, ArtifactState, new_ulid
from tests.api.serving import Served
from tests.support import wait_for
from tests.unit.made import keep, make_run


def kept(served: Served, path: bytes, content: bytes, **more: object) -> Artifact:
    """One file of a new run."""
    [experiment] = make_run(served.context, f"r-{new_ulid()}", ["completed"])[1]
    made = keep(served.context, experiment, path, content)
    if more:
        made = replace(made, **more)  # type: ignore[arg-type]
        served.context.catalog.record_artifacts(experiment.experiment_id, [made])
    return made


def get(served: Served, artifact: Artifact, method: str = "GET", **how: object) -> httpx.Response:
    return served.client().request(method, f"/v1/artifacts/{artifact.artifact_id}/content", **how)  # type: ignore[arg-type]


def place(served: Served, artifact: Artifact) -> Path:
    return Path(served.context.home.store) / (artifact.key or "")


def test_the_whole_file(served: Served) -> None:
    content = os.urandom(3_500_000)
    made = kept(served, b"out/x.bin", content, mtime_ns=1_700_000_000_000_000_000)
    answer = get(served, made)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["etag"] == f'"{made.sha256}"'
    assert answer.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(content))
    head = get(served, made, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert (
        head.headers["content-length"] == str(len(content)) and head.headers["etag"] == answer.headers["etag"]
    )


def test_parts_put_together_are_the_whole(served: Served) -> None:
    content = os.urandom(2_500_000)
    made = kept(served, b"x.bin", content)
    pieces = []
    for start in range(0, len(content), 900_000):
        answer = get(
            served,
            made,
            headers={"range": f"bytes={start}-{start + 899_999}", "if-range": f'"{made.sha256}"'},
        )
        end = min(start + 900_000, len(content))
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
        pieces.append(answer.content)
    assert b"".join(pieces) == content


def test_what_is_not_there_or_not_new(served: Served) -> None:
    made = kept(served, b"x.txt", b"12345")
    beyond = get(served, made, headers={"range": "bytes=5-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */5")
    known = get(served, made, headers={"if-none-match": f'"{made.sha256}"'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", f'"{made.sha256}"')
    assert get(served, made, headers={"if-match": '"x"'}).status_code == 412


def test_an_empty_file(served: Served) -> None:
    made = kept(served, b"empty", b"")
    assert (get(served, made).status_code, get(served, made).content) == (200, b"")
    assert get(served, made, headers={"range": "bytes=0-"}).status_code == 416


def test_one_without_bytes_says_why(served: Served) -> None:
    made = kept(served, b"x", b"1", sha256=None, state=ArtifactState.MISSING, reason="changed while copied")
    answer = get(served, made)
    assert answer.status_code == 409 and "changed while copied" in answer.json()["detail"]


# --------------------------------------------------------------------------------------- bytes that are not those recorded


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_other_bytes_never_arrive_whole(served: Served, size: int) -> None:
    made = kept(served, b"x.bin", bytes(size))
    with open(place(served, made), "r+b") as file:
        file.write(b"x")
    with pytest.raises(httpx.RemoteProtocolError):
        get(served, made)
    place(served, made).write_bytes(bytes(size - 1))
    with pytest.raises(httpx.RemoteProtocolError):
        get(served, made)


def test_an_object_that_is_gone_is_said_so(served: Served) -> None:
    made = kept(served, b"x.bin", b"123")
    place(served, made).unlink()
    answer = get(served, made)
    assert answer.status_code == 503 and "not in the store" in answer.json()["detail"]


# ---------------------------------------------------------------------------------------------------------- safe headers


@pytest.mark.parametrize(
    ("name", "media", "shown"),
    [
        ("a.png", "image/png", True),
        ("a.mp4", "video/mp4", True),
        ("a.pdf", "application/pdf", True),
        ("a.txt", "text/plain; charset=utf-8", True),
        ("a.csv", "text/plain; charset=utf-8", True),
        ("a.json", "text/plain; charset=utf-8", True),
        ("a.js", "text/plain; charset=utf-8", True),
        ("a.css", "text/plain; charset=utf-8", True),
        ("a.html", "text/html; charset=utf-8", True),
        ("a.HTM", "text/html; charset=utf-8", True),
        ("a.svg", "image/svg+xml", True),
        ("a.xml", "text/xml; charset=utf-8", True),
        ("a.xhtml", "application/xhtml+xml", True),
        ("a.bin", "application/octet-stream", False),
        ("a.zip", "application/octet-stream", False),
        ("a.swf", "application/octet-stream", False),
        ("a.html.gz", "application/octet-stream", False),
        ("noending", "application/octet-stream", False),
    ],
)
def test_what_is_shown_is_shown_in_a_sandbox(served: Served, name: str, media: str, shown: bool) -> None:
    made = kept(served, f"out/{name}".encode(), b"<script>1</script>")
    headers = get(served, made).headers
    if name == "a.xml":
        assert headers["content-type"] in (media, "application/xml")
    else:
        assert headers["content-type"] == media
    kind = "inline" if shown else "attachment"
    assert headers["content-disposition"] == f'{kind}; filename="{name}"'
    assert headers["x-content-type-options"] == "nosniff"
    assert ("sandbox" in headers.get("content-security-policy", "")) == (name != "a.pdf")
    assert "allow-scripts" not in headers.get("content-security-policy", "")
    assert (
        get(served, made, params={"download": 1}).headers["content-disposition"]
        == f'attachment; filename="{name}"'
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"plain.txt", 'filename="plain.txt"'),
        ("Bücher €.txt".encode(), "filename=\"B_cher _.txt\"; filename*=UTF-8''B%C3%BCcher%20%E2%82%AC.txt"),
        (b'a"b\\c%41.txt', "filename=\"a_b_c_41.txt\"; filename*=UTF-8''a%22b%5Cc%2541.txt"),
        (
            b"a\r\nset-cookie: x.txt",
            "filename=\"a__set-cookie: x.txt\"; filename*=UTF-8''a%0D%0Aset-cookie%3A%20x.txt",
        ),
        (b"\xff.txt", "filename=\"_.txt\"; filename*=UTF-8''%EF%BF%BD.txt"),
    ],
)
def test_any_name_fits_into_the_header(served: Served, name: bytes, expected: str) -> None:
    assert (
        get(served, kept(served, b"out/" + name, b"1")).headers["content-disposition"]
        == f"inline; {expected}"
    )


# ------------------------------------------------------------------------------------------------------------- many, slow


def test_a_client_that_goes_away_stops_the_work(own_server: Served) -> None:
    made = kept(own_server, b"x.bin", b"")
    size = 1 << 36
    with open(place(own_server, made), "r+b") as file:
        file.truncate(size)
    own_server.context.catalog.record_artifacts(
        made.experiment_id, [replace(made, size=size, sha256="0" * 64)]
    )
    port = urlsplit(own_server.url).port
    with socket.create_connection(("127.0.0.1", port)) as impatient:
        head = f"GET /v1/artifacts/{made.artifact_id}/content HTTP/1.1\r\nhost: localhost\r\n"
        impatient.sendall(f"{head}x-api-key: {own_server.key()}\r\n\r\n".encode())
        assert impatient.recv(100).startswith(b"HTTP/1.1 200")
        assert open_files(own_server, place(own_server, made)) == 1
    wait_for(lambda: open_files(own_server, place(own_server, made)) == 0, what="the file to be closed")
    assert own_server.get("/healthz").status_code == 200


def open_files(served: Served, path: Path) -> int:
    folder = f"/proc/{served.process.pid}/fd"
    found = 0
    for name in os.listdir(folder):
        try:
            found += os.readlink(f"{folder}/{name}") == str(path)
        except FileNotFoundError:
            continue
    return found


def test_more_slow_readers_than_threads_hold_nobody_up(own_server: Served) -> None:
    made = kept(own_server, b"x.bin", bytes(30_000_000))
    url = own_server.get(f"/v1/artifacts/{made.artifact_id}/signed-url").json()["signed_url"]
    parts = urlsplit(url)
    readers = [socket.create_connection(("127.0.0.1", parts.port or 0)) for _ in range(60)]
    for reader in readers:
        reader.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert reader.recv(10)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.get(url).content == bytes(30_000_000), range(8)))
    assert all(answers)
    for reader in readers:
        reader.close()
