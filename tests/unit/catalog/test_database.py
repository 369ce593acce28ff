"""Migrations: from any older version to the newest, once, and whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gridkeep.catalog.database import MIGRATIONS, migrate
from gridkeep.catalog.sqlite import SqliteDatabase
from gridkeep.errors import CatalogError, HomeError


@pytest.fixture
def database(tmp_path):
    opened = SqliteDatabase(str(tmp_path / "catalog.db"))
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "migrations"
    made.mkdir()
    (made / "0001_one.sql").write_text(
        "-- One.\nCREATE TABLE one (x TEXT);\n\nINSERT INTO one VALUES ('a');\n"
    )
    (made / "README").write_text("no migration")
    return made


def test_migrations_are_applied_in_order_and_once(database, folder):
    migrate(database, str(folder))
    migrate(database, str(folder))
    assert (database.version(), database.rows("SELECT x FROM one")) == (1, [("a",)])
    (folder / "0002_two.sql").write_text("ALTER TABLE one ADD COLUMN y TEXT;\nUPDATE one SET y = x;\n")
    (folder / "0003_three.sql").write_text("UPDATE one SET x = 'b';\n")
    migrate(database, str(folder))
    assert (database.version(), database.rows("SELECT x, y FROM one")) == (3, [("b", "a")])


def test_a_migration_that_fails_leaves_nothing(database, folder):
    migrate(database, str(folder))
    (folder / "0002_two.sql").write_text(
        "UPDATE one SET x = 'b';\nCREATE TABLE two (x TEXT);\nINSERT INTO three;\n"
    )
    with pytest.raises(CatalogError):
        migrate(database, str(folder))
    assert (database.version(), database.rows("SELECT x FROM one")) == (1, [("a",)])
    (folder / "0002_two.sql").write_text("CREATE TABLE two (x TEXT);\n")
    migrate(database, str(folder))
    assert database.version() == 2


def test_a_newer_database_is_refused(database, folder):
    (folder / "0002_two.sql").write_text("CREATE TABLE two (x TEXT);\n")
    migrate(database, str(folder))
    (folder / "0002_two.sql").unlink()
    with pytest.raises(HomeError, match="its version is 2, this one knows 1"):
        migrate(database, str(folder))


def test_the_numbers_of_our_migrations_have_no_gap():
    names = sorted(path.name for path in Path(MIGRATIONS).glob("*.sql"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_\w+\.sql", name) for name in names)
