"""Fixtures of the conformance suites."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.capture.session import has_native_shim
from gridkeep.catalog.base import Catalog
from gridkeep.model import new_ulid
from tests.contract import places
from tests.contract.captures import MODES, Bench, new_bench, users
from tests.contract.catalogs import KINDS, CatalogFactory
from tests.contract.places import Place
from tests.services import Service


@pytest.fixture(params=KINDS)
def catalog_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CatalogFactory]:
    """One catalog, to be opened any number of times."""
    factory = CatalogFactory(request.param, os.path.join(tmp_path, "catalog.db"))
    yield factory
    for worker in factory.workers:
        worker.kill()
        worker.communicate()


@pytest.fixture
def catalog(catalog_factory: CatalogFactory) -> Iterator[Catalog]:
    opened = catalog_factory.open()
    yield opened
    opened.close()


@pytest.fixture(params=places.KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store of each kind, which no other test uses."""
    if request.param == "local":
        return Place("local", f"file://{tmp_path}/store")
    service: Service = request.getfixturevalue(request.param)
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    scheme = {"s3": "s3", "gcs": "gs", "azure": "az"}[request.param]
    return Place(request.param, f"{scheme}://lab/{new_ulid()}/of a test", service.endpoint, service.environ)


@pytest.fixture
def s3_place(s3: Service, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store in the S3 server alone."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return Place("s3", f"s3://lab/{new_ulid()}/of a test", s3.endpoint, s3.environ)


@pytest.fixture(params=[f"{mode}-{user}" for mode in MODES for user in users()])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A folder in which programs are executed under capture, for each mode, as whoever runs the tests and as an
    ordinary user."""
    mode, user = request.param.split("-")
    if mode == "c" and not has_native_shim():
        pytest.skip("the C shim is not built here: `uv sync --reinstall-package gridkeep`, with a C compiler")
    uid = users()[user]
    python = sys.executable
    if uid is not None:
        command: Path = request.getfixturevalue("user_environment")
        python = str(command.parent / "python")
    with new_bench(mode, python, uid) as opened:
        yield opened


@pytest.fixture(scope="session")
def writers() -> Iterator[Path]:
    """`writer` and `writer-static`, compiled from writer.c, in a folder that anyone may read."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here")
    folder = Path(tempfile.mkdtemp(prefix="gridkeep-writer-"))
    folder.chmod(0o755)
    try:
        for name, *options in (("writer",), ("writer-static", "-static")):
            source = Path(__file__).with_name("writer.c")
            subprocess.run(["gcc", "-O1", "-pthread", *options, "-o", folder / name, source], check=True)
        yield folder
    finally:
        shutil.rmtree(folder)
