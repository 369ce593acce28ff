"""Every page is read from an index in order: no filter makes SQLite sort, or scan the table."""

from __future__ import annotations

from itertools import product

import pytest

from gridkeep.catalog.database import migrate
from gridkeep.catalog.pages import page_query
from gridkeep.catalog.sqlite import SqliteDatabase
from gridkeep.model import ArtifactState


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    opened = SqliteDatabase(str(tmp_path_factory.mktemp("pages") / "catalog.db"))
    migrate(opened)
    yield opened
    opened.close()


FILTERS = list(
    product(
        [None, (b"a/b", "art_1")],
        [None, [ArtifactState.MISSING], [ArtifactState.MISSING, ArtifactState.STORED], list(ArtifactState)],
        [None, ["file"], ["screenshot"], ["file", "screenshot"], ["recording", "screenshot"]],
        [None, b"a"],
    )
)


@pytest.mark.parametrize(("after", "states", "types", "under"), FILTERS)
def test_a_page_is_a_few_stretches_of_indexes(database, after, states, types, under):
    query = page_query("e", after=after, limit=100, states=states, types=types, under=under)
    assert query is not None
    plan = [row[3] for row in database.rows(f"EXPLAIN QUERY PLAN {query[0]}", query[1])]
    reads = [step for step in plan if "artifacts" in step]
    index = "by_type" if types and "file" not in types else "by_state" if states else "by_path"
    assert reads and all(f"USING INDEX artifacts_{index} (" in step for step in reads)
    if after:
        assert all("(path,artifact_id)>(?,?)" in step or "path>? AND path<?" in step for step in reads)
    if len(reads) == 1:
        assert not any("TEMP B-TREE" in step for step in plan)
    # With several branches SQLite merges them, or sorts what the branches gave: at most a page each.
    branches = len(types if index == "by_type" else states if index == "by_state" else [None])
    assert len(reads) == branches * (2 if under and not after else 1)  # `after` lies in the folder


@pytest.mark.parametrize(
    "how",
    [
        {"states": []},
        {"types": []},
        {"states": [], "types": ["screenshot"]},
        {"under": b"a", "after": (b"b", "")},
    ],
)
def test_where_there_can_be_nothing_there_is_no_query(how):
    defaults = {"after": None, "limit": 100, "states": None, "types": None, "under": None}
    assert page_query("e", **defaults | how) is None
