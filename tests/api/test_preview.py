"""Previews: of whom and of what there is one, and what the server spends on files of any size."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, ArtifactState, new_ulid
from gridkeep.preview.render import PREFIX
from tests.api.serving import Served
from tests.api.test_archive import peak
from tests.unit.made import keep, make_run
from tests.unit.preview.test_render import png


def kept(served: Served, path: bytes, content: bytes, **more: Any) -> Artifact:
    """One file of a new run."""
    [experiment] = make_run(served.context, f"p-{new_ulid()}", ["completed"])[1]
    made = replace(keep(served.context, experiment, path, content), **more)
    served.context.catalog.record_artifacts(experiment.experiment_id, [made])
    return made


def huge(served: Served, path: bytes, begins: bytes, size: int) -> Artifact:
    """A file with a hole: it takes no space."""
    made = kept(served, path, begins, size=size, sha256="0" * 64)
    os.truncate(Path(served.context.home.store) / (made.key or ""), size)
    return made


def look(served: Served, artifact: Artifact) -> httpx.Response:
    return served.get(f"/v1/artifacts/{artifact.artifact_id}/preview")


def test_a_text_to_the_letter(served: Served) -> None:
    made = kept(served, b"out/note.txt", "Grüße\n".encode())
    answer = look(served, made)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "artifact_id": made.artifact_id,
        "mime_type": "text/plain",
        "file_size": 8,
        "kind": "text",
        "cut": False,
        "text": "Grüße\n",
        "rows": None,
        "width": None,
        "height": None,
        "reason": None,
        "signed_url": None,
    }


def test_each_kind_shows_what_it_is(served: Served) -> None:
    table = look(served, kept(served, b"a.csv", b"x,y\n1,2\n")).json()
    assert (table["kind"], table["rows"]) == ("table", [["x", "y"], ["1", "2"]])
    assert look(served, kept(served, b"a.json", b'{"a": 1}')).json()["kind"] == "json"
    image = look(served, kept(served, b"a.png", png(640, 480))).json()
    assert (image["kind"], image["width"], image["height"]) == ("image", 640, 480)
    assert httpx.get(image["signed_url"]).content == png(640, 480)
    assert look(served, kept(served, b"empty", b"")).json()["text"] == ""
    for name in (b"x.bin", b"no-name-\xff"):
        nothing = look(served, kept(served, name, b"\0\1\2")).json()
        assert (nothing["kind"], nothing["signed_url"]) == ("none", None) and nothing["reason"]
    page = look(served, kept(served, b"a.html", b"<script>alert(1)</script>")).json()
    assert (page["kind"], page["text"]) == ("text", "<script>alert(1)</script>")


def test_of_what_is_not_there_there_is_none(served: Served) -> None:
    for artifact_id in ("art_x", "art_" + "0" * 26, "%2e%2e"):
        assert served.get(f"/v1/artifacts/{artifact_id}/preview").status_code == 404
    for state in (ArtifactState.REMOVED, ArtifactState.PENDING, ArtifactState.MISSING):
        gone = kept(served, b"x.txt", b"1", sha256=None, state=state, reason="as it was")
        answer = look(served, gone)
        assert answer.status_code == 409 and f"it is {state} (as it was)" in answer.json()["detail"]
    last = kept(served, b"x.txt", b"kept", state=ArtifactState.REMOVED)  # it has the bytes that it had last
    assert look(served, last).json()["text"] == "kept"
    lost = kept(served, b"x.txt", b"12345")
    (Path(served.context.home.store) / (lost.key or "")).unlink()
    assert look(served, lost).status_code == 503
    deleted = kept(served, b"x.txt", b"1")
    served.context.catalog.begin_delete([deleted.experiment_id])
    assert look(served, deleted).status_code == 404


@pytest.mark.parametrize("other", [b"other", b"12", b""])
def test_other_bytes_than_those_recorded_are_not_shown(served: Served, other: bytes) -> None:
    made = kept(served, b"x.txt", b"12345")
    (Path(served.context.home.store) / (made.key or "")).write_bytes(other)
    answer = look(served, made)
    assert answer.status_code in (502, 503) and "detail" in answer.json()


def test_who_may_read_may_look_and_nobody_else(served: Served) -> None:
    made = kept(served, b"x.txt", b"1")
    path = f"/v1/artifacts/{made.artifact_id}/preview"
    assert served.client(Role.READ, user="bob").get(path).json()["text"] == "1"
    url = served.get(f"/v1/artifacts/{made.artifact_id}/signed-url").json()["signed_url"]
    for refused in (path, f"{path}?{url.partition('?')[2]}"):  # a signature is one of the content
        assert served.client(None).get(refused).status_code == 403


def test_files_of_any_size_take_little(own_server: Served) -> None:
    """50 GB of a table, of zeros and of JSON without an end, a ZIP that would unpack to much, an image too large to draw."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    files = [
        (huge(own_server, b"a.csv", b"1,2\n" * PREFIX, 50 * 10**9), "table", True),
        (huge(own_server, b"a.txt", b"", 50 * 10**9), "none", False),
        (huge(own_server, b"a.json", b"[" * 2 * PREFIX, 50 * 10**9), "json", True),
        (huge(own_server, b"a.mp4", b"", 50 * 10**9), "video", False),
        (kept(own_server, b"deep.json", b'{"a":' * 2_000_000), "json", True),
        (kept(own_server, b"bomb.zip", bomb.getvalue()), "none", False),
        (kept(own_server, b"bomb.png", png(100_000, 100_000)), "image", False),
    ]
    look(own_server, files[0][0])
    before = peak(own_server)
    for artifact, kind, cut in files:
        answer = look(own_server, artifact)
        shape = answer.json()
        assert (answer.status_code, shape["kind"], shape["cut"]) == (200, kind, cut), artifact.path
        assert len(answer.content) < 2 * PREFIX
        assert answer.elapsed.total_seconds() < 5
    assert shape["signed_url"] is None and "100,000 × 100,000" in shape["reason"]
    assert peak(own_server) - before < 16e6
