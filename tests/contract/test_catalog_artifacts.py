"""What every catalog must do with artifacts: the rows, the totals, the pages. See `test_catalog`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridkeep.errors import Conflict
from gridkeep.model import (
    Artifact,
    ArtifactState,
    new_ulid,
)
from tests.contract.catalog_worker import stored
from tests.contract.catalogs import again, submit, totals


def test_an_artifact_comes_back_as_it_was_recorded(catalog):
    [experiment] = submit(catalog)
    full = Artifact(
        artifact_id="art_1",
        experiment_id=experiment.experiment_id,
        path=bytes(range(1, 256)),
        state=ArtifactState.REMOVED,
        type="screenshot_action",
        size=2**40,
        sha256="a" * 64,
        mtime_ns=-5,
        mode=0o100755,
        reason="removed by the run: é\udcff",
        key="experiments/u/artifacts/é %&",
        etag='"e"',
        count=12345,
    )
    bare = Artifact(
        artifact_id="art_2", experiment_id=experiment.experiment_id, path=None, state=ArtifactState.MISSING
    )
    folder = replace(bare, artifact_id="art_3", path=b"")  # the root, standing for what was ignored in it
    catalog.record_artifacts(experiment.experiment_id, [full, bare, folder])
    found = {each.artifact_id: each for each in catalog.artifacts(experiment.experiment_id)}
    assert [found[f"art_{i}"].change for i in (1, 2, 3)] == [2, 3, 4]
    assert replace(found["art_1"], change=0) == replace(full, reason="removed by the run: é\ufffd")
    assert replace(found["art_2"], change=0) == bare
    assert replace(found["art_3"], change=0) == folder
    assert catalog.artifact("art_1") == found["art_1"]
    assert catalog.artifact("art_9") is None


def test_a_time_beyond_what_a_column_holds_stops_nothing(catalog):
    [experiment] = submit(catalog)
    far = replace(stored(experiment.experiment_id, b"x"), mtime_ns=2**64)
    catalog.record_artifacts(experiment.experiment_id, [far])
    [found] = catalog.artifacts(experiment.experiment_id)
    assert found.mtime_ns == 2**63 - 1


paths = st.one_of(
    st.none(), st.binary(max_size=3), st.sampled_from([b"a", b"a/x", b"ab", b"a-", b"a/", b"b/c/d"])
)
states = st.sampled_from(list(ArtifactState))
artifact_values = st.tuples(
    paths, states, st.sampled_from(["file", "screenshot", "recording"]), st.booleans()
)
batches = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 15), artifact_values), max_size=12), st.sets(st.integers(0, 15))
    ),
    max_size=6,
)
examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def make(experiment_id: str, number: int, values: tuple[bytes | None, ArtifactState, str, bool]) -> Artifact:
    path, state, kind, has_bytes = values
    return Artifact(
        artifact_id=f"art_{experiment_id}{number:02d}",
        experiment_id=experiment_id,
        path=path,
        state=state,
        type=kind,
        size=number if number % 3 else None,
        sha256="0" * 64 if has_bytes else None,
    )


@examples
@given(batches)
def test_totals_are_the_sums_of_the_rows(catalog, batches):
    [experiment] = submit(catalog, f"r{new_ulid()}")
    ulid = experiment.experiment_id
    model: dict[str, Artifact] = {}
    for new, forget in batches:
        artifacts = [make(ulid, number, values) for number, values in new]
        dropped = [f"art_{ulid}{number:02d}" for number in forget]
        for _ in range(2):  # idempotent
            catalog.record_artifacts(ulid, artifacts, dropped)
        model |= {each.artifact_id: each for each in artifacts}
        for artifact_id in dropped:
            model.pop(artifact_id, None)
        kept = [each for each in model.values() if each.downloadable and each.state != "removed"]
        assert totals(again(catalog, experiment)) == (
            len(kept),
            sum(each.size or 0 for each in kept),
            sum(each.state == "missing" for each in model.values()),
            sum(each.state == "growing" for each in model.values()),
        )
    assert {replace(each, change=0) for each in catalog.artifacts(ulid)} == set(model.values())


@examples
@given(
    st.lists(artifact_values, max_size=30),
    st.none() | st.sets(states),
    st.none() | st.sets(st.sampled_from(["file", "screenshot", "recording", "other"])),
    st.none() | st.sampled_from([b"", b"a", b"a/", b"a/x", b"b", b"b/c", b"\xff"]) | st.binary(max_size=2),
    st.integers(1, 5),
)
def test_pages_of_any_filter_have_all_once_and_in_order(catalog, values, states, types, under, limit):
    [experiment] = submit(catalog, f"r{new_ulid()}")
    ulid = experiment.experiment_id
    catalog.record_artifacts(ulid, [make(ulid, i, value) for i, value in enumerate(values)])
    folder = (under or b"").rstrip(b"/")

    def wanted(each: Artifact) -> bool:
        path = each.path or b""
        inside = not folder or path == folder or path.startswith(folder + b"/")
        return inside and (states is None or each.state in states) and (types is None or each.type in types)

    expected = sorted(
        (each for each in catalog.artifacts(ulid) if wanted(each)),
        key=lambda a: (a.path or b"", a.artifact_id),
    )
    assert catalog.artifacts(ulid, states=states, types=types, under=under) == expected
    seen: list[Artifact] = []
    after = None
    while page := catalog.artifacts(
        ulid, after=after, limit=limit, states=states and iter(states), types=types, under=under
    ):
        assert len(page) <= limit
        seen += page
        after = (page[-1].path or b"", page[-1].artifact_id)
    if states == set():
        assert catalog.artifacts(ulid, states=iter(())) == []
    assert seen == expected


def test_under_means_the_folder_and_not_its_namesakes(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    names = [b"a", b"a/x", b"a/y/z", b"ab", b"a-b", b"a b", b"a\0", b"a.txt", b"a0", b"b/a"]
    catalog.record_artifacts(ulid, [stored(ulid, name) for name in names])
    assert [each.path for each in catalog.artifacts(ulid, under=b"a")] == [b"a", b"a/x", b"a/y/z"]
    assert [each.path for each in catalog.artifacts(ulid, under=b"a/y")] == [b"a/y/z"]


def test_paging_goes_on_while_rows_are_added(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    first = {f"{i:03d}".encode() for i in range(0, 200, 2)}
    catalog.record_artifacts(ulid, [stored(ulid, path) for path in first])
    seen: list[bytes] = []
    after, late = None, 1
    while page := catalog.artifacts(ulid, after=after, limit=7):
        seen += [each.path for each in page]
        after = (page[-1].path, page[-1].artifact_id)
        catalog.record_artifacts(ulid, [stored(ulid, f"{late:03d}".encode())])
        late = (late + 38) % 199 // 2 * 2 + 1
    assert seen == sorted(set(seen)), "in order, none twice"
    assert first <= set(seen)


def test_an_artifact_is_found_by_its_path(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    lost = Artifact(artifact_id="art_l", experiment_id=ulid, path=None, state=ArtifactState.MISSING)
    old = replace(stored(ulid, b"log\xff", artifact_id="art_z"), state=ArtifactState.REMOVED)
    new = stored(ulid, b"log\xff", artifact_id="art_a")
    catalog.record_artifacts(ulid, [new, lost])
    catalog.record_artifacts(ulid, [old])
    found = catalog.artifact_at(ulid, b"log\xff")
    assert found is not None and found.artifact_id == "art_a", "not the removed one, newer as its change is"
    assert catalog.artifact_at(ulid, b"log") is None
    assert catalog.artifact_at(ulid, b"") is None, "a loss without a path is at no path"
    assert catalog.artifact_at(new_ulid(), b"log\xff") is None


def test_an_artifact_can_move(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    catalog.record_artifacts(ulid, [stored(ulid, b"a.tmp", artifact_id="art_1", size=3)])
    catalog.record_artifacts(ulid, [stored(ulid, b"a", artifact_id="art_1", size=4)])
    assert catalog.artifact_at(ulid, b"a.tmp") is None
    assert [each.path for each in catalog.artifacts(ulid)] == [b"a"]
    assert totals(again(catalog, experiment)) == (1, 4, 0, 0)


def test_experiments_do_not_share_artifacts(catalog):
    one, other = submit(catalog, "a", 2)
    catalog.record_artifacts(one.experiment_id, [stored(one.experiment_id, b"x", artifact_id="art_1")])
    with pytest.raises(Conflict):
        catalog.record_artifacts(
            other.experiment_id, [stored(other.experiment_id, b"y", artifact_id="art_1")]
        )
    with pytest.raises(Conflict):
        catalog.record_artifacts(other.experiment_id, [], ["art_1"])
    assert [each.path for each in catalog.artifacts(one.experiment_id)] == [b"x"]
    assert totals(again(catalog, one)) == (1, 1, 0, 0)
    assert totals(again(catalog, other)) == (0, 0, 0, 0)


def test_a_large_batch_is_recorded_at_once(catalog):
    [experiment] = submit(catalog)
    ulid = experiment.experiment_id
    files = [stored(ulid, f"{i:05d}".encode(), size=i) for i in range(5_000)]
    catalog.record_artifacts(ulid, files)
    catalog.record_artifacts(ulid, files, [each.artifact_id for each in files[4_000:]])
    assert totals(again(catalog, experiment)) == (4_000, sum(range(4_000)), 0, 0)
    assert len(catalog.artifacts(ulid)) == 4_000
