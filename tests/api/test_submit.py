"""Starting runs over HTTP: a script with its source, sent before; what is refused; that it is kept as any other."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.runs.uploads import drop_old
from tests.api.serving import Served, serving
from tests.support import wait_for

SCRIPT = b"import os, sys\nopen('out.txt', 'w').write(sys.argv[-1])\nprint(sorted(os.environ))\n"


def tar(files: dict[str, bytes], *, mode: str = "w:gz", **more: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            for attribute, value in more.items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def send(served: Served, content: bytes, name: str = "bundle.tar.gz", **who: Any) -> dict[str, Any]:
    answer = served.client(**who).post("/v1/upload_file", files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    shape: dict[str, Any] = answer.json()
    return shape


def run(served: Served, **body: Any) -> httpx.Response:
    return served.post("/v1/run/scripts", json=body)


@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_script_runs_from_its_bundle_and_is_kept(own_server: Served, pack: Any) -> None:
    own_server.release_engine()
    source = send(own_server, pack({"pkg/__init__.py": b"", "train.py": SCRIPT}))
    answer = run(
        own_server,
        command="train.py",
        args=["--lr", "[1,2]"],
        name="sent",
        source=source["s3_uri"],
        env={"MINE": "1"},
    )
    assert answer.status_code == 201, answer.text
    shape = answer.json()
    assert (shape["name"], shape["experiments"], shape["created_by"]) == ("sent", 2, own_server.context.user)
    wait_for(lambda: own_server.get("/v1/runs/sent").json()["status"] == "completed", 60, what="its end")
    shapes = own_server.get("/v1/runs/sent/artifacts").json()
    assert {(each["experiment"], each["path"]) for each in shapes} == {
        ("sent-exp0", "out.txt"),
        ("sent-exp1", "out.txt"),
    }
    assert {httpx.get(each["signed_url"]).text for each in shapes} == {"1", "2"}
    names = own_server.get("/v1/experiments/sent-exp0/logs").text
    assert "'MINE'" in names and "'PATH'" in names and "GRIDKEEP_HOME" not in names
    manifest = own_server.get("/v1/experiments/sent-exp0/manifest")
    assert manifest.status_code == 200 and '"path":"out.txt"' in manifest.text
    assert not [name for name in os.listdir(own_server.context.home.uploads) if name.startswith(".")]


def test_a_command_of_path_needs_no_source(served: Served) -> None:
    shape = run(served, command="true", name="plain").json()
    assert shape["status"] == "queued"
    assert "exists" in run(served, command="true", name="plain").json()["detail"]
    assert run(served, command="true", name="plain").status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": ""},
        {"command": "true", "in_place": True},
        {"command": "true", "cpus": 0},
        {"command": "true", "strategy": "guess"},
        {"command": "true", "env": {"A=B": "x"}},
        {"command": "true", "args": "x"},
        {"command": "true", "timeout": -1},
        {"command": "true", "memory": "much"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_told_by_its_field(served: Served, body: dict[str, Any]) -> None:
    answer = run(served, **body)
    assert answer.status_code == 422 and answer.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"command": "no-such-program"}, 404, "does not exist"),
        ({"command": "true", "name": "No Name"}, 400, "name"),
        ({"command": "true", "source": "0" * 26}, 404, "no upload"),
        ({"command": "true", "source": "../../etc"}, 404, "no upload"),
        ({"command": "true", "cluster": "moon"}, 404, "no cluster"),
        ({"command": "true", "args": ["--x", "range(10**9)"], "strategy": "random_search"}, 400, ""),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_words(
    served: Served, body: dict[str, Any], status: int, words: str
) -> None:
    answer = run(served, **body)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    "bundle",
    [
        b"",
        b"no archive",
        tar({"a": b"x" * 1000})[:200],
        tar({"../../evil": b"x"}),
        tar({"/etc/evil": b"x"}),
        tar({"link": b""}, type=tarfile.SYMTYPE, linkname="/etc"),
        tar({"device": b""}, type=tarfile.CHRTYPE),
        tar({".git/config": b"x"}),
        tar({"venv/pyvenv.cfg": b"x"}),
        zipped({".git/config": b"x"}),
        zipped({"a": b"x"})[:-30],
    ],
    ids=range(11),
)
def test_a_bad_bundle_is_refused_and_leaves_nothing(served: Served, bundle: bytes) -> None:
    answer = run(served, command="true", source=send(served, bundle)["upload_id"])
    if answer.status_code == 201:  # an absolute name is taken as one below the folder
        assert not Path("/etc/evil").exists()
    else:
        assert answer.status_code == 400 and "bundle" in answer.json()["detail"], answer.text
    assert not Path(served.context.home.path, "evil").exists()
    assert not [name for name in os.listdir(served.context.home.uploads) if name.startswith(".")]


def test_names_of_a_zip_stay_below(served: Served) -> None:
    source = send(served, zipped({"../../evil.py": b"", "/x/../y.py": b"", "a.py": b""}))["upload_id"]
    run(served, command="a.py", source=source)
    assert not list(Path(served.context.home.path).parent.rglob("evil.py")) or all(
        "work" in path.parts for path in Path(served.context.home.path).parent.rglob("evil.py")
    )


def test_an_upload_comes_back_to_its_sender_only_by_its_url(served: Served) -> None:
    shape = send(served, b"hello", name="a/b \u00fc.txt")
    assert (shape["filename"], shape["file_size"]) == ("b \u00fc.txt", 5)
    answer = httpx.get(shape["presigned_url"])
    assert answer.content == b"hello" and answer.headers["content-disposition"].startswith("attachment")
    assert httpx.get(shape["presigned_url"] + "x").status_code == 403
    assert served.get(f"/v1/uploads/{shape['upload_id']}").status_code == 403
    other = served.client(Role.WRITE, user="ann").post(
        "/v1/run/scripts", json={"command": "true", "source": shape["upload_id"]}
    )
    assert other.status_code == 403 and "another's" in other.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\n" + b"A: " + b"b" * 50_000, "multipart/form-data; boundary=x"),
        (b"{}", "application/json"),
        (b"x", "multipart/form-data"),
        (b"x", ""),
    ],
    ids=range(8),
)
def test_what_is_no_form_is_refused_and_leaves_nothing(served: Served, content: bytes, kind: str) -> None:
    Path(served.context.home.uploads).mkdir(exist_ok=True)
    before = set(os.listdir(served.context.home.uploads))
    answer = served.post("/v1/upload_file", content=content, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert set(os.listdir(served.context.home.uploads)) == before


def test_what_is_over_a_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    with serving(tmp_path, env={"GRIDKEEP_UPLOAD_LIMIT": "1MB", "GRIDKEEP_COPY_LIMIT": "1MB"}) as served:
        answer = served.post("/v1/upload_file", files={"file": ("x", bytes(2_000_000))})
        assert answer.status_code == 400 and "1000000 bytes" in answer.json()["detail"]
        assert os.listdir(served.context.home.uploads) == []
        for bomb in (zipped({"a": bytes(1 << 26)}), tar({"a": bytes(1 << 26)})):
            answer = run(served, command="true", source=send(served, bomb)["upload_id"])
            assert answer.status_code == 400 and "1000000 bytes" in answer.json()["detail"]


def test_strangers_send_nothing(served: Served) -> None:
    for client in (served.client(None), served.client(Role.READ)):
        assert client.post("/v1/upload_file", files={"file": b"x"}).status_code == 403
        assert client.post("/v1/run/scripts", json={"command": "true"}).status_code == 403
        assert client.post("/v1/run/tasks", json={"prompt": "x"}).status_code == 403


def test_old_uploads_are_dropped(served: Served) -> None:
    old, young = send(served, b"1"), send(served, b"2")
    folder = Path(served.context.home.uploads, old["upload_id"])
    os.utime(folder, (time.time() - 8 * 86400,) * 2)
    drop_old(served.context.home)
    assert not folder.exists() and Path(served.context.home.uploads, young["upload_id"]).exists()


def test_a_browser_run_says_what_is_missing(served: Served) -> None:
    answer = served.post("/v1/run/tasks", json={"prompt": "Find the price", "engine": "skyvern-2.0"})
    assert answer.status_code == 501 and "gridkeep[browser]" in answer.json()["detail"]
    assert served.post("/v1/run/tasks", json={}).status_code == 422
