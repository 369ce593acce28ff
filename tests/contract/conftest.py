"""Fixtures of the conformance suites."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.catalog.base import Catalog
from tests.contract.catalogs import KINDS, CatalogFactory


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
