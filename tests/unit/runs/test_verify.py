"""Verification finds each thing that is not as the manifest says, and nothing where all is well."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.model import Artifact, ArtifactState, Experiment, Run, new_ulid
from gridkeep.runs.context import Context
from gridkeep.runs.verify import Verification, verify
from gridkeep.stores.keys import artifacts_prefix, manifest_key
from gridkeep.supervisor import manifest
from gridkeep.supervisor.record import put_record
from tests.unit.made import keep, make_run, quiet_home

CONTENTS = {b"a.txt": b"alpha", b"out/b\n.bin": b"beta", b"_abs/tmp/\xff": b"gamma", b"empty": b""}


@pytest.fixture
def context(home: Path) -> Iterator[Context]:
    with quiet_home(home) as context:
        yield context


def write_manifest(
    context: Context, run: Run, experiment: Experiment, artifacts: list[Artifact]
) -> Experiment:
    """What the supervisor does last of all."""
    put_record(context.store("local"), run, experiment)
    out = io.BytesIO()
    header = manifest.make_header(
        run, experiment, files=len(artifacts), size=0, missing=1, ignored=0, removed=0
    )
    digest = manifest.write(out, header, sorted(artifacts, key=lambda artifact: artifact.path or b""))
    out.seek(0)
    context.store("local").put(manifest_key(experiment.experiment_id), out)
    return dataclasses.replace(experiment, manifest_sha256=digest)


@pytest.fixture
def kept(context: Context) -> tuple[Experiment, dict[bytes, Artifact]]:
    run, [experiment] = make_run(context, "my-run", ["completed"])
    found = {path: keep(context, experiment, path, content) for path, content in CONTENTS.items()}
    lost = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=b"lost",
        state=ArtifactState.MISSING,
        reason="disk full",
    )
    return write_manifest(context, run, experiment, [*found.values(), lost]), found


def checked(context: Context, experiment: Experiment, *, deep: bool = False) -> Verification:
    return verify(context.store("local"), experiment, deep=deep, jobs=3)


@pytest.mark.parametrize("deep", [False, True])
def test_all_is_well(context: Context, kept: tuple[Experiment, dict[bytes, Artifact]], deep: bool) -> None:
    result = checked(context, kept[0], deep=deep)
    assert (result.ok, result.verified, result.total, result.missing, result.differences) == (
        True,
        4,
        4,
        1,
        [],
    )


def test_each_difference_by_name(context: Context, kept: tuple[Experiment, dict[bytes, Artifact]]) -> None:
    experiment, found = kept
    root = context.home.store
    os.unlink(os.path.join(root, found[b"_abs/tmp/\xff"].key or ""))
    Path(root, found[b"empty"].key or "").write_bytes(b"no more")
    Path(root, found[b"a.txt"].key or "").write_bytes(b"alphA")
    context.store("local").put(artifacts_prefix(experiment.experiment_id) + "x/extra", io.BytesIO(b"12"))
    shallow = checked(context, experiment)
    assert (shallow.verified, shallow.total) == (2, 4)
    assert [(each.problem, each.path) for each in shallow.differences] == [
        ("missing", b"_abs/tmp/\xff"),
        ("size", b"empty"),
        ("extra", None),
    ]
    assert (shallow.differences[2].key or "").endswith("/x/extra")
    deep = checked(context, experiment, deep=True)
    assert (deep.verified, deep.total) == (1, 4)
    [bytes_] = [each for each in deep.differences if each.problem == "bytes"]
    assert bytes_.path == b"a.txt"
    assert hashlib.sha256(b"alphA").hexdigest() in bytes_.detail
    assert deep.to_json()["differences"][0]["path_b64"]


def test_a_manifest_that_was_changed_proves_nothing(
    context: Context, kept: tuple[Experiment, dict[bytes, Artifact]]
) -> None:
    experiment, _ = kept
    place = Path(context.home.store, manifest_key(experiment.experiment_id))
    place.write_bytes(place.read_bytes().replace(b"a.txt", b"b.txt"))
    result = checked(context, experiment)
    assert (result.verified, [each.problem for each in result.differences]) == (0, ["manifest"])
    place.unlink()
    assert "not in the store" in checked(context, experiment).differences[0].detail


def test_any_changed_field_of_the_manifest_is_found(
    context: Context, kept: tuple[Experiment, dict[bytes, Artifact]]
) -> None:
    experiment, _ = kept
    place = Path(context.home.store, manifest_key(experiment.experiment_id))
    good = place.read_bytes()
    lines = good.splitlines()
    changes = 0
    for at, line in enumerate(lines):
        shape = json.loads(line)
        for name, value in shape.items():
            changed = json.dumps({**shape, name: 7 if value != 7 else 8}).encode()
            place.write_bytes(b"\n".join([*lines[:at], changed, *lines[at + 1 :], b""]))
            assert [each.problem for each in checked(context, experiment).differences] == ["manifest"], name
            changes += 1
    assert changes > 60
    place.write_bytes(good)
    assert checked(context, experiment).ok


def test_a_damaged_manifest_without_a_record_of_its_hash_is_said(
    context: Context, kept: tuple[Experiment, dict[bytes, Artifact]]
) -> None:
    experiment = dataclasses.replace(kept[0], manifest_sha256=None)
    place = Path(context.home.store, manifest_key(experiment.experiment_id))
    assert checked(context, experiment).ok
    place.write_bytes(place.read_bytes()[:-30])
    assert [each.problem for each in checked(context, experiment).differences] == ["manifest"]


@pytest.mark.parametrize("state", ["queued", "running", "syncing"])
def test_what_is_not_finished_is_not_proven(context: Context, state: str) -> None:
    _, [experiment] = make_run(context, "my-run", [state])
    result = checked(context, experiment)
    assert not result.ok
    assert result.differences[0].problem == "unfinished"


def test_what_never_started_has_nothing_to_prove(context: Context) -> None:
    _, [experiment] = make_run(context, "my-run", ["stopped"])
    assert checked(context, dataclasses.replace(experiment, started_at=None)).ok
    assert not checked(context, experiment).ok
