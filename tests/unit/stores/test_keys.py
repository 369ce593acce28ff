"""Keys: plain where they can be, one for each path, and never outside `artifacts/`."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.stores.keys import artifact_key, artifacts_prefix, encoded_key, is_shifted, listed_path

ULID = "01jd0000000000000000000000"
PREFIX = f"experiments/{ULID}/artifacts/"


@pytest.mark.parametrize(
    "path",
    [
        b"a.txt",
        b"out/100% & <b>.txt",
        "é/日本/😀".encode(),
        b"_abs/tmp/x",
        b"n" * 240,
        b".hidden",
        b"_absolute",
        b"x/_abs_work",
    ],
)
def test_plain(path: bytes) -> None:
    assert artifact_key(ULID, path) == PREFIX + path.decode()


@pytest.mark.parametrize(
    "path",
    [
        b"a\nb",
        b"a\x7f",
        b"a\x00",
        "a\x85b".encode(),
        b"a\\b",
        b"\xff",
        b"n" * 241,
        b"d/" + b"n" * 241 + b"/x",
        b"/".join([b"d" * 100] * 10),
        b"_abs_work",
        b"_abs_work/x",
        b"_enc_work_work/x",
        b"_enc/x",
        b"..",
        b"a/../b",
        b"./a",
        b"a//b",
        b"",
    ],
)
def test_encoded(path: bytes) -> None:
    assert (
        artifact_key(ULID, path)
        == f"{PREFIX}_enc/{hashlib.sha256(path).hexdigest()}"
        == encoded_key(ULID, path)
    )


def test_the_limit_counts_the_prefix_of_the_store() -> None:
    path = b"/".join([b"d" * 99] * 10)[: 1000 - len(PREFIX)].rstrip(b"/")
    assert artifact_key(ULID, path) == PREFIX + path.decode()
    assert artifact_key(ULID, path, prefix="team/é/") == encoded_key(ULID, path)


@pytest.mark.parametrize(
    ("relative", "listed"),
    [
        (b"a/_abs", b"a/_abs"),
        (b"_abs", b"_abs_work"),
        (b"_abs/x", b"_abs_work/x"),
        (b"_enc/x", b"_enc_work/x"),
        (b"_abs_work/x", b"_abs_work_work/x"),
        (b"_absx", b"_absx"),
    ],
)
def test_listed_paths(relative: bytes, listed: bytes) -> None:
    assert listed_path(relative) == listed
    assert is_shifted(listed) == (relative != listed)


tops = st.sampled_from([b"_abs", b"_enc", b"_abs_work", b"_enc_work", b"_abs_work_work", b"_absent", b"a"])
relatives = st.builds(b"/".join, st.tuples(tops, st.binary(min_size=1, max_size=5)) | st.tuples(tops))


@given(relatives, relatives)
def test_no_two_paths_are_listed_alike_or_share_a_key(one: bytes, other: bytes) -> None:
    listed = {listed_path(one), listed_path(other)}
    assert len(listed) == len({one, other})
    assert len({artifact_key(ULID, path) for path in listed}) == len(listed)
    # nor is one taken for a file from outside the working directory
    assert not any(path == b"_abs" or path.startswith((b"_abs/", b"_enc/")) for path in listed)


@given(st.binary(max_size=300), st.text(max_size=10))
def test_a_key_stays_in_its_folder_and_under_the_limit(path: bytes, prefix: str) -> None:
    key = artifact_key(ULID, path, prefix=prefix)
    assert key.startswith(artifacts_prefix(ULID))
    assert len((prefix + key).encode()) <= 1000
    assert not {"", ".", ".."} & set(key.split("/"))
