"""`grid verify`: P of N verified, and each difference by name."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.support import ran, save, submitted
from tests.support import Grid


def artifacts_of(grid: Grid, experiment_id: str) -> Path:
    return grid.home / "store/experiments" / experiment_id / "artifacts"


def test_all_is_well(grid: Grid) -> None:
    save(grid, r"[open(n, 'w').write('x') for n in ('a', 'b\n', 'c' * 250)]")
    grid("run", "--follow", "--name", "v", "script.py", "--x", "[1,2]")
    lines = ["v-exp0: 3 of 3 verified", "v-exp1: 3 of 3 verified"]
    assert grid("verify", "v").stdout.splitlines() == lines
    assert grid("verify", "--deep", "v-exp1", "v").stdout.splitlines()[:1] == lines[1:]


def test_each_difference_is_named(grid: Grid) -> None:
    one = ran(grid, "[open(n, 'w').write(n * 10) for n in ('good', 'lost', 'longer', 'rotten')]", name="v")
    folder = artifacts_of(grid, one["experiment_id"])
    (folder / "lost").unlink()
    with open(folder / "longer", "a") as file:
        file.write("more")
    text = (folder / "rotten").read_text()
    (folder / "rotten").write_text(text.upper())
    (folder / "extra").write_text("who put me here?")
    quick = grid("verify", "v", code=1)
    assert quick.stdout.startswith("v-exp0: 2 of 4 verified\n")
    for name in ("lost", "longer", "extra"):
        assert len([line for line in quick.stdout.splitlines()[1:] if name in line]) == 1, str(quick)
    assert "rotten" not in quick.stdout
    deep = grid("verify", "--deep", "v", code=1)
    assert deep.stdout.startswith("v-exp0: 1 of 4 verified\n")
    assert "rotten" in deep.stdout
    (result,) = grid.json("verify", "--deep", "v", code=1)
    assert (result["ok"], result["verified"], result["total"]) == (False, 1, 4)
    assert {each["problem"] for each in result["differences"]} == {"missing", "size", "bytes", "extra"}


def test_a_changed_or_lost_manifest(grid: Grid) -> None:
    one = ran(grid, "open('a', 'w').write('x')", name="v")
    manifest = artifacts_of(grid, one["experiment_id"]).parent / "manifest.jsonl"
    good = manifest.read_bytes()
    os.chmod(manifest, 0o600)
    manifest.write_bytes(good.replace(b'"size": 1', b'"size": 2').replace(b'"size":1', b'"size":2'))
    assert manifest.read_bytes() != good
    assert "manifest was changed" in grid("verify", "v", code=1).stdout
    manifest.unlink()
    assert "manifest is not in the store" in grid("verify", "v", code=1).stdout


def test_an_unfinished_run_is_not_verified(grid: Grid) -> None:
    submitted(grid, "import time; time.sleep(60)", name="v")
    assert "not finished" in grid("verify", "v", code=1).stdout


def test_what_lies_beside_the_artifacts(grid: Grid) -> None:
    one = ran(grid, "open('a', 'w').write('x'); print('said')", name="v")
    folder = grid.home / "store/experiments" / one["experiment_id"]
    record = (folder / "experiment.json").read_bytes()

    def differences() -> list[tuple[str, str]]:
        (result,) = grid.json("verify", "v", code=1)
        assert not result["ok"]
        return [(each["problem"], (each["key"] or "").rpartition("/")[2]) for each in result["differences"]]

    (folder / "stranger").write_text("who put me here?")
    (folder / "artifacts.old").mkdir()
    (folder / "artifacts.old/a").touch()
    assert differences() == [("extra", "a"), ("extra", "stranger")]
    (folder / "stranger").unlink()
    shutil.rmtree(folder / "artifacts.old")
    (folder / "experiment.json").unlink()
    assert differences() == [("missing", "experiment.json")]
    for text, problem in (
        (record[:-20], "record"),
        (record.replace(b'"exit_code": 0', b'"exit_code": 1'), "catalog"),
        (record.replace(one["experiment_id"].encode(), b"0" * 26), "record"),
    ):
        assert text != record
        (folder / "experiment.json").write_bytes(text)
        assert [each for each, _ in differences()] == [problem]
    (folder / "experiment.json").write_bytes(record)
    assert grid("verify", "v").stdout == "v-exp0: 1 of 1 verified\n"


def test_a_catalog_that_says_otherwise(grid: Grid) -> None:
    """Each thing that catalog and manifest both say, changed in the catalog."""
    script = save(grid, "import os\nfor n in 'abc': open(n, 'w').write(n)\nos.remove('c')")
    grid("run", "--follow", "--name", "v", script, "--lr", "1")
    with closing(sqlite3.connect(grid.home / "catalog.db", isolation_level=None)) as catalog:

        def found(change: str) -> list[str]:
            """What is said of it; it is undone again."""
            rows = {table: catalog.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
            assert catalog.execute(change).rowcount == 1, change
            (result,) = grid.json("verify", "v", code=1)
            for table, before in rows.items():
                catalog.execute(f"DELETE FROM {table}")
                catalog.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(before[0]))})", before)
            assert {each["problem"] for each in result["differences"]} == {"catalog"}, change
            return [f"{each['path']}: {each['detail']}" for each in result["differences"]]

        for column, value in OF_ARTIFACTS.items():
            (only,) = found(f"UPDATE artifacts SET {column} = {value} WHERE path = X'61'")
            assert only.startswith("a: ") and f" as its {column}, the manifest " in only
        for column, value in OF_EXPERIMENTS.items():
            assert all(
                f" as its {column}" in each for each in found(f"UPDATE experiments SET {column} = {value}")
            )
        assert found("DELETE FROM artifacts WHERE path = X'61'") == ["a: the catalog does not list it"]
        assert found("UPDATE artifacts SET artifact_id = 'art_x' WHERE path = X'61'") == [
            "a: the catalog does not list it",
            "a: the catalog lists it, and the manifest does not",
        ]
        assert len(found("UPDATE artifacts SET state = 'stored' WHERE path = X'63'")) == 1
    assert grid("verify", "v").stdout == "v-exp0: 2 of 2 verified\n"


TABLES = ("artifacts", "experiments")
OF_ARTIFACTS = {
    "path": "X'62'",
    "type": "'video'",
    "size": "2",
    "sha256": "'00'",
    "mtime_ns": "1",
    "mode": "33261",
    "reason": "'why'",
    "key": "'experiments/x/artifacts/a'",
    "etag": "'e'",
    "count": "2",
}
OF_EXPERIMENTS = {
    "state": "'failed'",
    "outcome": "'signal'",
    "reason": "'why'",
    "exit_code": "1",
    "attempt": "2",
    "params": "'{\"lr\": 2}'",
    "args": '\'["--lr", "2"]\'',
    "command": "'other.py'",
}
