"""ZIP archives: what is in them, that they are whole or visibly not, and what they cost."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, new_ulid, path_from_json
from gridkeep.runs.archive import make_zip, parts_of
from gridkeep.stores.keys import artifact_key, manifest_key
from gridkeep.supervisor import manifest
from tests.api.serving import Served
from tests.support import wait_for
from tests.unit.made import keep, make_run, quiet_home


def unzipped(answer: httpx.Response) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    opened = zipfile.ZipFile(io.BytesIO(answer.content))
    assert opened.testzip() is None
    return opened


def contents(answer: httpx.Response) -> dict[str, bytes]:
    with unzipped(answer) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def lines(text: bytes) -> list[JSON]:
    return [json.loads(line) for line in text.splitlines()]


def complete(served: Served, experiment: Experiment, *artifacts: Artifact) -> bytes:
    """Puts the manifest where the supervisor would; its bytes."""
    run = served.context.catalog.run(experiment.run)
    assert run is not None
    header = manifest.make_header(run, experiment, files=0, size=0, missing=0, ignored=0, removed=0)
    out = io.BytesIO()
    digest = manifest.write(out, header, artifacts)
    served.context.store("local").put(manifest_key(experiment.experiment_id), io.BytesIO(out.getvalue()))
    served.context.catalog.update_experiment(experiment.experiment_id, manifest_sha256=digest)
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------------ what is in it


def test_a_run_has_the_layout_of_a_download_and_the_manifests_of_the_store(served: Served) -> None:
    _, experiments = make_run(served.context, "zip-run", ["completed", "completed"])
    expected: dict[str, bytes] = {}
    for experiment in experiments:
        text = f"of {experiment.name}".encode()
        made = [keep(served.context, experiment, path, text) for path in (b"_abs/tmp/x", b"out/a.txt")]
        folder = f"zip-run/{experiment.name}"
        expected |= {f"{folder}/out/a.txt": text, f"{folder}/_abs/tmp/x": text}
        expected[f"{folder}.manifest.jsonl"] = complete(served, experiment, *made)
    answer = served.get("/v1/runs/zip-run/archive")
    assert contents(answer) == expected
    assert answer.headers["content-disposition"] == 'attachment; filename="zip-run.zip"'
    assert served.client().head("/v1/runs/zip-run/archive").headers["content-type"] == "application/zip"


def test_names_modes_and_times_survive(served: Served) -> None:
    [experiment] = make_run(served.context, "zip-names", ["completed"])[1]
    paths = [
        "Bücher/€ 100%.csv".encode(),
        b"a b&c",
        b"new\nline",
        b"back\\slash",
        b"not utf-8 \xff",
        b"x" * 250,
    ]
    made = [keep(served.context, experiment, path, path) for path in paths]
    made[1] = replace(made[1], mode=0o4755, mtime_ns=1_700_000_001_500_000_000)
    made[2] = replace(made[2], mtime_ns=-(2**62))
    made[3] = replace(made[3], mtime_ns=2**63 - 1)
    served.context.catalog.record_artifacts(experiment.experiment_id, made)
    with unzipped(served.get("/v1/experiments/zip-names-exp0/archive")) as opened:
        listed = lines(opened.read("zip-names-exp0.manifest.jsonl"))[1:]
        by_path = {
            path_from_json(line): line["key"].partition("/artifacts/")[2] for line in listed
        }  # the manifest tells what each is called
        assert set(by_path) == set(paths)
        for path in paths:
            assert opened.read(f"zip-names-exp0/{by_path[path]}") == path
        assert by_path[paths[0]] == paths[0].decode()
        assert by_path[paths[4]] == f"_enc/{hashlib.sha256(paths[4]).hexdigest()}"
        info = opened.getinfo("zip-names-exp0/a b&c")
        assert stat.S_IMODE(info.external_attr >> 16) == 0o755
        assert datetime(*info.date_time, tzinfo=UTC).timestamp() == pytest.approx(1_700_000_001, abs=2)


def test_what_is_not_there_is_named(served: Served) -> None:
    [experiment] = make_run(served.context, "zip-live", ["running"])[1]
    kept = keep(served.context, experiment, b"kept", b"1")
    removed = replace(keep(served.context, experiment, b"removed", b"2"), state=ArtifactState.REMOVED)
    growing = replace(
        kept,
        artifact_id=f"art_{new_ulid()}",
        path=b"growing",
        state=ArtifactState.GROWING,
        sha256=None,
        key=None,
    )
    lost = replace(
        growing, artifact_id=f"art_{new_ulid()}", path=None, state=ArtifactState.MISSING, reason="lost"
    )
    served.context.catalog.record_artifacts(experiment.experiment_id, [removed, growing, lost])
    found = contents(served.get("/v1/experiments/zip-live-exp0/archive"))
    text = found.pop("zip-live-exp0.manifest.jsonl")
    assert found == {"zip-live-exp0/kept": b"1"}
    header, *listed = lines(text)
    assert header["state"] == "running" and header["totals"]["files"] == header["totals"]["missing"] == 1
    assert {(line["path"], line["state"], line["reason"]) for line in listed} == {
        ("kept", "stored", None),
        ("removed", "removed", None),
        ("growing", "growing", None),
        (None, "missing", "lost"),
    }


def test_an_archive_of_a_run_that_writes_on_agrees_with_its_manifest(served: Served) -> None:
    """A file that is rewritten all the time is in it as its manifest says, or not at all."""
    [experiment] = make_run(served.context, "zip-busy", ["running"])[1]
    artifacts = [keep(served.context, experiment, b"%d" % number, b"0") for number in range(3)]
    keep(served.context, experiment, b"large", os.urandom(3_000_000))
    enough = threading.Event()

    def rewrite() -> None:
        catalog, store = served.context.catalog, served.context.store("local")
        for version in itertools.count():
            for artifact in artifacts:
                if enough.is_set():
                    return
                content = b"%d" % version * 1000
                away = replace(artifact, state=ArtifactState.PENDING, sha256=None)  # as the supervisor does
                catalog.record_artifacts(experiment.experiment_id, [away])
                store.put(artifact.key or "", io.BytesIO(content))
                digest = hashlib.sha256(content).hexdigest()
                now = replace(artifact, size=len(content), sha256=digest)
                catalog.record_artifacts(experiment.experiment_id, [now])

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(rewrite)
        try:
            for _ in range(10):
                found = contents(served.get("/v1/runs/zip-busy/archive"))
                listed = lines(found.pop("zip-busy/zip-busy-exp0.manifest.jsonl"))[1:]
                assert len(listed) == 4
                assert {
                    f"zip-busy/zip-busy-exp0/{line['path']}": line["sha256"]
                    for line in listed
                    if line["sha256"]
                } == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
        finally:
            enough.set()
        writer.result()


def test_a_folder_and_nothing_beside_it(served: Served) -> None:
    [experiment] = make_run(served.context, "zip-folder", ["completed"])[1]
    for path in (b"out/a", b"out/deep/b", b"out2/c", b"outer", b"dir\xff/d"):
        keep(served.context, experiment, path, path)
    complete(served, experiment)

    def names(path: bytes) -> list[str]:
        return list(contents(served.get(f"/v1/experiments/zip-folder-exp0/archive?path={quote(path)}")))

    of = "zip-folder-exp0"
    assert names(b"out") == names(b"out/") == [f"{of}/out/a", f"{of}/out/deep/b", f"{of}.manifest.jsonl"]
    assert names(b"out/deep/b") == [f"{of}/out/deep/b", f"{of}.manifest.jsonl"]
    assert len(names(b"dir\xff")) == 2
    for where in ("ou", "out/../outer", "../x", "%00", "out/a/"):
        assert served.get(f"/v1/experiments/{of}/archive?path={where}").status_code == 404


def test_a_selection_of_experiments_and_files(served: Served) -> None:
    one, two, three = make_run(served.context, "zip-some", ["completed"] * 3)[1]
    first, _ = (keep(served.context, one, path, path) for path in (b"a", b"b"))
    for path in (b"a", b"b"):
        keep(served.context, two, path, path)
    keep(served.context, three, b"a", b"a")
    wanted = {"artifact_ids": [first.artifact_id], "experiments": [two.name]}
    answers = [
        served.post("/v1/archive", json=wanted),
        served.get(
            f"/v1/archive?artifact_id={first.artifact_id}&experiment={two.name}&experiment={two.name}"
        ),
    ]
    for answer in answers:
        found = contents(answer)
        assert lines(found.pop("zip-some-exp0.manifest.jsonl"))[0]["totals"]["files"] == 1
        assert found.pop("zip-some-exp1.manifest.jsonl")
        assert found == {"zip-some-exp0/a": b"a", "zip-some-exp1/a": b"a", "zip-some-exp1/b": b"b"}
    for nothing in ({}, {"artifact_ids": ["art_x"]}, {"experiments": ["zip-some-exp9"]}):
        assert served.post("/v1/archive", json=nothing).status_code == 404


def test_readers_may_have_it_and_strangers_not(served: Served) -> None:
    make_run(served.context, "zip-empty", ["completed"])
    paths = ["/v1/runs/zip-empty/archive", "/v1/experiments/zip-empty-exp0/archive"]
    for path in [*paths, "/v1/archive?experiment=zip-empty-exp0"]:
        assert served.client(None).get(path).status_code == 403
        assert next(iter(contents(served.client(Role.READ, user="ann").get(path)))).endswith(
            ".manifest.jsonl"
        )
    for path in ("/v1/runs/nothing/archive", "/v1/experiments/nothing-exp0/archive"):
        assert served.get(path).status_code == 404


# ----------------------------------------------------------------------------------------------------------- whole, or not


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_an_archive_with_other_bytes_never_arrives_whole(served: Served, size: int, damage: str) -> None:
    [experiment] = make_run(served.context, f"zip-{damage}-{size}", ["completed"])[1]
    keep(served.context, experiment, b"a", os.urandom(2_000_000))  # more than what an answer begins with
    made = keep(served.context, experiment, b"b", bytes(size))
    place = Path(served.context.home.store) / (made.key or "")
    harm: dict[str, Callable[[], object]] = {
        "changed": lambda: place.write_bytes(b"x" * size),
        "shorter": lambda: place.write_bytes(bytes(size - 1)),
        "gone": place.unlink,
    }
    harm[damage]()
    with pytest.raises(httpx.RemoteProtocolError):
        served.get(f"/v1/experiments/{experiment.name}/archive")


def test_of_an_object_that_has_grown_no_more_is_read_than_was_recorded(own_server: Served) -> None:
    [experiment] = make_run(own_server.context, "zip-grown", ["completed"])[1]
    for name in (b"empty", b"small"):
        made = keep(own_server.context, experiment, name, b"" if name == b"empty" else name)
        os.truncate(Path(own_server.context.home.store) / (made.key or ""), 1 << 36)
    before = peak(own_server)
    with zipfile.ZipFile(io.BytesIO(own_server.get("/v1/runs/zip-grown/archive").content)) as opened:
        read = {name.rpartition("/")[2]: opened.read(name) for name in opened.namelist()}
    assert (read["empty"], read["small"]) == (b"", b"small")
    assert peak(own_server) - before < 16_000_000


def test_what_fails_before_anything_was_sent_is_said(served: Served) -> None:
    [experiment] = make_run(served.context, "zip-words", ["completed"])[1]
    made = keep(served.context, experiment, b"a", b"1")
    (Path(served.context.home.store) / (made.key or "")).unlink()
    answer = served.get("/v1/runs/zip-words/archive")
    assert answer.status_code == 503 and made.artifact_id in answer.json()["detail"]


def test_a_client_that_goes_away_stops_the_work(own_server: Served) -> None:
    [experiment] = make_run(own_server.context, "zip-gone", ["completed"])[1]
    made = keep(own_server.context, experiment, b"big.bin", b"")
    place = Path(own_server.context.home.store) / (made.key or "")
    with open(place, "r+b") as file:
        file.truncate(1 << 36)
    huge = replace(made, size=1 << 36, sha256="0" * 64)
    own_server.context.catalog.record_artifacts(experiment.experiment_id, [huge])
    port = urlsplit(own_server.url).port
    with socket.create_connection(("127.0.0.1", port)) as impatient:
        head = f"GET /v1/runs/zip-gone/archive HTTP/1.1\r\nhost: localhost\r\nx-api-key: {own_server.key()}\r\n\r\n"
        impatient.sendall(head.encode())
        assert impatient.recv(100).startswith(b"HTTP/1.1 200")
        assert is_open(own_server, place)
    wait_for(lambda: not is_open(own_server, place), what="the file to be closed")


def is_open(served: Served, path: Path) -> bool:
    folder = f"/proc/{served.process.pid}/fd"
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:
            continue
    return str(path) in found


def test_ten_thousand_files_in_flat_memory(own_server: Served, tmp_path: Path) -> None:
    [few] = make_run(own_server.context, "zip-few", ["completed"])[1]
    [many] = make_run(own_server.context, "zip-many", ["completed"])[1]
    for experiment, count in ((few, 2_000), (many, 10_000)):
        own_server.context.catalog.record_artifacts(
            experiment.experiment_id, [written(own_server, experiment, number) for number in range(count)]
        )
    fetch(own_server, "zip-few", tmp_path / "few.zip")
    before = peak(own_server)
    fetch(own_server, "zip-many", tmp_path / "many.zip")
    assert peak(own_server) - before < 24_000_000  # of 82 MB
    with zipfile.ZipFile(tmp_path / "many.zip") as opened:
        assert len(opened.namelist()) == 10_001
        assert opened.testzip() is None
        assert len(lines(opened.read("zip-many/zip-many-exp0.manifest.jsonl"))) == 10_001
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-tqq", tmp_path / "many.zip"], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def written(served: Served, experiment: Experiment, number: int) -> Artifact:
    """A file of 8 kB, put where the store has it."""
    path, content = f"out/{number % 100}/file-{number}.bin".encode(), f"{number:08}".encode() * 1024
    key = artifact_key(experiment.experiment_id, path)
    place = Path(served.context.home.store) / key
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path,
        state=ArtifactState.STORED,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        key=key,
    )


def fetch(served: Served, run: str, to: Path) -> None:
    with served.client().stream("GET", f"/v1/runs/{run}/archive") as answer, open(to, "wb") as file:
        for piece in answer.iter_bytes():
            file.write(piece)


def peak(served: Served) -> int:
    """The most memory, in bytes, that the server has had."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.long
@pytest.mark.timeout(900)
def test_more_than_an_old_zip_can_hold(tmp_path: Path) -> None:
    """A file of 4.5 GB, and more files than two bytes can count: `zipfile` and `unzip` read both."""
    with quiet_home(tmp_path / "home") as context:
        run, [huge, many] = make_run(context, "zip-64", ["completed"] * 2)
        made = keep(context, huge, b"zeros.csv", b"")
        size, zeros = 4_500_000_000, hashlib.sha256()
        with open(Path(context.home.store) / (made.key or ""), "r+b") as file:
            file.truncate(size)
            while piece := file.read(2**20):
                zeros.update(piece)
        context.catalog.record_artifacts(
            huge.experiment_id, [replace(made, size=size, sha256=zeros.hexdigest())]
        )
        one = keep(context, many, b"one", b"1")
        place = Path(context.home.store) / (one.key or "")
        for number in range(70_000):
            place.with_name(f"{number}").write_bytes(b"1")
        each = [
            replace(one, artifact_id=f"art_{new_ulid()}", path=b"%d" % n, key=f"{(one.key or '')[:-3]}{n}")
            for n in range(70_000)
        ]
        context.catalog.record_artifacts(many.experiment_id, each)
        with open(tmp_path / "64.zip", "wb") as out:
            out.writelines(make_zip(context, parts_of(context, run, None, None)))
    with zipfile.ZipFile(tmp_path / "64.zip") as opened:
        assert len(opened.infolist()) == 70_004
        assert opened.getinfo("zip-64/zip-64-exp0/zeros.csv").file_size == size
        assert opened.testzip() is None
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-tqq", tmp_path / "64.zip"], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
