"""The manifest comes back as it was written, in any pieces, and says where it is damaged."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.errors import StoreError
from gridkeep.model import Artifact, ArtifactState, Experiment, Run, RunSpec, State
from gridkeep.supervisor import manifest

RUN = Run(
    run_id="wr_01jd0000000000000000000000",
    name="my-run",
    kind="script",
    cluster="local",
    created_by="ada",
    created_at=1.0,
    spec=RunSpec(argv=["python"], display="x.py", workdir="", root="/p"),
)
EXPERIMENT = Experiment(
    experiment_id="01jd0000000000000000000001",
    run_id=RUN.run_id,
    run="my-run",
    index=3,
    state=State.FAILED,
    outcome="exit",
    reason="exit code 3",
    exit_code=3,
    attempt=2,
    started_at=1_700_000_000.25,
    finished_at=1_700_000_100.0,
    capture={"mode": "c", "lost": 0},
)
HEADER = manifest.make_header(RUN, EXPERIMENT, files=2, size=7, missing=1, ignored=4, removed=0)
STORED = Artifact(
    artifact_id="art_1",
    experiment_id=EXPERIMENT.experiment_id,
    path=b"out/a.txt",
    state=ArtifactState.STORED,
    size=7,
    sha256="ab" * 32,
    mtime_ns=1_700_000_000_123_456_789,
    mode=0o100755,
    key=f"experiments/{EXPERIMENT.experiment_id}/artifacts/out/a.txt",
    etag='"e"',
)


def written(*artifacts: Artifact) -> bytes:
    out = io.BytesIO()
    digest = manifest.write(out, HEADER, iter(artifacts))
    assert digest == hashlib.sha256(out.getvalue()).hexdigest()
    return out.getvalue()


def test_the_lines() -> None:
    header, line = map(json.loads, written(STORED).splitlines())
    assert header == {
        "format": 1,
        "experiment": "my-run-exp3",
        "experiment_id": EXPERIMENT.experiment_id,
        "run": "my-run",
        "run_id": RUN.run_id,
        "attempt": 2,
        "capture": {"mode": "c", "lost": 0},
        "started_at": "2023-11-14T22:13:20.250000Z",
        "finished_at": "2023-11-14T22:15:00.000000Z",
        "state": "failed",
        "outcome": "exit",
        "reason": "exit code 3",
        "exit_code": 3,
        "totals": {"files": 2, "bytes": 7, "missing": 1, "ignored": 4, "removed": 0},
    }
    assert line == {
        "path": "out/a.txt",
        "key": STORED.key,
        "type": "file",
        "size": 7,
        "sha256": "ab" * 32,
        "mtime": "2023-11-14T22:13:20.123457Z",
        "mtime_ns": 1_700_000_000_123_456_789,
        "mode": 0o100755,
        "state": "stored",
        "reason": None,
        "etag": '"e"',
        "artifact_id": "art_1",
    }


def fit(path: bytes) -> bool:
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))


artifacts = st.builds(
    lambda path, state, count: replace(STORED, path=path, state=state, count=count, reason="é\n"),
    st.none() | st.binary(max_size=20).filter(fit),
    st.sampled_from(ArtifactState),
    st.integers(1, 3),
)


@given(st.lists(artifacts, max_size=5), st.integers(1, 50))
def test_it_comes_back_in_pieces_of_any_size(listed: list[Artifact], size: int) -> None:
    text = written(*listed)
    assert text.count(b"\n") == 1 + len(listed)
    header, found = manifest.read(text[at : at + size] for at in range(0, len(text), size))
    assert header == HEADER
    assert list(found) == listed


def test_it_is_read_as_it_comes() -> None:
    """A million lines need no memory: what has not been asked for has not been read."""
    read = 0

    def lines() -> Iterator[bytes]:
        nonlocal read
        for line in written(*[STORED] * 50).splitlines(keepends=True):
            read += 1
            yield line

    _, found = manifest.read(lines())
    assert read == 1
    next(found)
    assert read == 2


OTHERS = "experiments/01jd0000000000000000000002/artifacts/secret"
SIZES: list[Any] = [-1, 2**63, "7", 7.5, True, None, []]
STRANGE: list[dict[str, Any]] = [
    *(
        {"path": path}
        for path in (b"../up", b"a/../../up", b"/etc/passwd", b"a//b", b".", b"", b"a\0b", b"a/")
    ),
    *({"key": key} for key in (OTHERS, "/etc/passwd", f"{STORED.key}/../../x", "", "experiments", None)),
    *({"artifact_id": one} for one in ("", "../x", "art_", "ART_1", None, 7)),
    *({"size": size} for size in SIZES),
    *({"sha256": digest} for digest in ("", "AB" * 32, "ab" * 33, 7)),
    *({"mtime_ns": -(2**64)}, {"mode": -1}, {"mode": "0755"}, {"count": 0}, {"count": None}),
    *({"type": None}, {"type": 1}, {"reason": {"a": 1}}, {"etag": 5}),
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"nonsense\n", "line 1"),
        (b"[]\n", "line 1"),
        (b'{"format": 2}\n', "format 2"),
        (b'{"format": 1}\n', "whose it is"),
        (written(STORED)[:-40], "line 2"),
        (written() + b"{}\n", "line 2"),
        (written(STORED) + b"\xff\n", "line 3"),
        (written(STORED).replace(b'"stored"', b'"kept"'), "line 2"),
        *((written(replace(STORED, **strange)), "line 2") for strange in STRANGE),
    ],
)
def test_damage_is_said(text: bytes, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        _, found = manifest.read([text])
        list(found)
