"""`grid verify`: P of N verified, and each difference by name."""

from __future__ import annotations

import os
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
