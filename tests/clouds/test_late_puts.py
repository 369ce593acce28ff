"""A put that its writer has given up reaches the server later: it never takes the place of what was put after it.

One store in each cloud, with the proxy between; the proxy keeps the request and delivers it when the test says so.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gridkeep.errors import ObjectExists, StoreUnavailable
from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.base import Store
from tests.clouds import proxy as faults
from tests.clouds.judge import Place, check_stored, content, looked_up, proven, script
from tests.clouds.proxy import Proxy
from tests.e2e.support import submitted
from tests.services import Service
from tests.support import Grid, wait_for

pytestmark = pytest.mark.xdist_group("late")
MIB = 1 << 20
SMALL, WHOLE, PARTS = 1000, 3 * MIB, 9 * MIB  # on S3: in one request, too; in two parts
SIZES = pytest.mark.parametrize("size", [SMALL, WHOLE, PARTS], ids=["small", "whole", "parts"])
_serial = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """A place in a cloud behind a proxy."""

    kind: str
    uri: str
    endpoint: str
    proxy: Proxy

    def open(self) -> Store:
        """As a process that knows nothing of what was put."""
        return open_store(Cluster(name="c", engine="local", store=self.uri, endpoint=self.endpoint))

    def lose(self, store: Store, content: bytes) -> None:
        """A put of `k` of which no try, nor the abort of its upload, reaches the server before `deliver`."""
        end = "comp=blocklist" if self.kind == "az" else "uploadId="
        one_request = len(content) == SMALL or (self.kind == "s3" and len(content) == WHOLE)
        rules = [
            self.proxy.strike(faults.late, method="PUT", path=r"(/|%2F)k(\?|$)")
            if one_request
            else self.proxy.strike(faults.late, method="PUT" if self.kind == "az" else "POST", path=end)
        ]
        if self.kind == "s3":
            rules.append(self.proxy.strike(faults.reset_before, method="DELETE"))
        with pytest.raises(StoreUnavailable):
            store.put("k", io.BytesIO(content))
        self.proxy.forgive(*rules)
        assert len(self.proxy.held) > 1


@pytest.fixture
def services(s3: Service, gcs: Service, azure: Service) -> dict[str, Service]:
    """One of each cloud, each with a bucket `lab`."""
    return {"s3": s3, "gs": gcs, "az": azure}


@pytest.fixture(params=["s3", "gs", "az"])
def bucket(
    request: pytest.FixtureRequest, services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    kind, service = request.param, services[request.param]
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    uri = f"{kind}://lab/{next(_serial)}"
    with Proxy(service.endpoint, seed=uri) as proxy:
        yield Bucket(kind, uri, proxy.endpoint + urlsplit(service.endpoint).path, proxy)


def put(store: Store, content: bytes) -> None:
    info = store.put("k", io.BytesIO(content))
    assert store.head("k") == info


def content_of(store: Store) -> bytes:
    return b"".join(store.get("k"))


@SIZES
@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "another"])
def test_a_late_put_replaces_nothing_newer(bucket: Bucket, size: int, before: bool, restarted: bool) -> None:
    store, newest = bucket.open(), os.urandom(size)
    if before:
        put(store, os.urandom(size))
    bucket.lose(store, os.urandom(size))
    if restarted:
        store = bucket.open()
    put(store, newest)
    assert all(status >= 400 for status in bucket.proxy.deliver())
    assert content_of(store) == newest


@SIZES
@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
def test_a_late_put_that_comes_in_between_is_replaced(bucket: Bucket, size: int, before: bool) -> None:
    store, newest = bucket.open(), os.urandom(size)
    if before:
        put(store, os.urandom(size))
    bucket.lose(store, os.urandom(size))
    bucket.proxy.deliver()
    put(store, newest)
    assert content_of(store) == newest


@pytest.mark.parametrize("sizes", [(SMALL, PARTS), (PARTS, SMALL), (WHOLE, PARTS), (PARTS, WHOLE)])
def test_a_late_put_of_another_size(bucket: Bucket, sizes: tuple[int, int]) -> None:
    if bucket.kind == "az" and sizes[1] == SMALL:
        pytest.skip(
            "Azurite keeps the parts of an upload whose blob is put in one request; Azure forgets them"
        )
    store, newest = bucket.open(), os.urandom(sizes[1])
    bucket.lose(store, os.urandom(sizes[0]))
    put(store, newest)
    assert all(status >= 400 for status in bucket.proxy.deliver())
    assert content_of(store) == newest


def test_what_conditions_cost(bucket: Bucket) -> None:
    """Nothing for what is new, or written again by the same process; else one look and another try."""

    def requests(store: Store) -> list[str]:
        before = len(bucket.proxy.seen)
        store.put("k", io.BytesIO(os.urandom(SMALL)))
        return [one.method for one in bucket.proxy.seen[before:]]

    store = bucket.open()
    assert [requests(store) for _ in range(3)] == [["PUT"]] * 3
    assert requests(bucket.open()) == ["PUT", "HEAD", "PUT"]
    store.delete(["k"])
    assert requests(bucket.open()) == ["PUT"]
    store.delete(["k"])
    assert requests(store) == ["PUT", "HEAD", "PUT"]


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
@pytest.mark.parametrize(
    "act",
    [faults.refuse(501, "NotImplemented"), faults.refuse(412, "PreconditionFailed")],
    ids=["says so", "refuses always"],
)
@SIZES
def test_a_store_that_replaces_nothing_on_condition(bucket: Bucket, act: faults.Act, size: int) -> None:
    """It is written to as without conditions; what may not be replaced is not."""
    for method in ("PUT", "POST"):
        bucket.proxy.strike(faults.having("If-Match", act), method=method)
    store = bucket.open()
    for _ in range(2):
        newest = os.urandom(size)
        put(store, newest)
        assert content_of(store) == newest
    with pytest.raises(ObjectExists):
        store.put("k", io.BytesIO(b"x"), if_absent=True)


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
@SIZES
def test_a_conflict_is_tried_again(bucket: Bucket, size: int, tmp_path: Path) -> None:
    """S3 answers so while another request of the same key is not decided; of an upload in parts it then wants all anew."""
    bucket.proxy.strike(faults.refuse(409, "ConditionalRequestConflict"), method="PUT", path="/k$", times=1)
    end = bucket.proxy.strike(
        faults.refuse(409, "ConditionalRequestConflict"), method="POST", path=r"\?uploadId="
    )
    (tmp_path / "file").write_bytes(os.urandom(size + 16 * MIB * (size == PARTS)))
    store, journal = bucket.open(), str(tmp_path / "journal")
    for if_absent in (False, True):
        for turn in range(2):
            with (tmp_path / "file").open("rb") as file:
                try:
                    store.put("k", file, if_absent=if_absent, journal=journal)
                    break
                except StoreUnavailable:
                    assert turn == 0 and not os.path.exists(journal)
                    bucket.proxy.forgive(end)
        assert content_of(store) == (tmp_path / "file").read_bytes()
        store.delete(["k"])


def test_a_run_whose_older_copy_arrives_late(able: Grid, place: Place) -> None:
    """While it goes on: what is called stored has its bytes in the bucket all the time."""
    go, written, end = (able.home.parent / name for name in ("go", "written", "end"))
    rest = f"""
while not os.path.exists({str(go)!r}):
    time.sleep(0.02)
with open("file", "wb") as file:
    file.write(random.Random("newer").randbytes(2000))
os.mkdir({str(written)!r})
while not os.path.exists({str(end)!r}):
    time.sleep(0.02)
"""
    newer = {"file": hashlib.sha256(content("newer", 2000)).hexdigest()}
    late = place.proxy.strike(faults.late, method="PUT", path="/file$")
    submitted(able, script({"file": 1000}, after=rest), name="r")
    wait_for(lambda: late.struck or None, 60, what="the first copy")
    go.touch()
    wait_for(lambda: written.exists() or None, what="the second version")
    place.proxy.forgive(late)

    def stored() -> bool | None:
        _, artifacts = looked_up(able, "r")
        found = {one.path: (one.state, one.sha256) for one in artifacts}
        return found.get(b"file") == ("stored", newer["file"]) or None

    wait_for(stored, 60, what="that the second version is stored")
    assert 412 in place.proxy.deliver()
    check_stored(place, looked_up(able, "r")[1])
    end.touch()
    proven(able, place, "r", newer)
