"""A store, a catalog or a download folder that somebody has prepared: nobody is led out of it, and nothing of it is
executed or believed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.support import Shape, contents, downloaded, new_grid, ran
from tests.support import Grid

SECRET = b"nobody's business"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def rebuilt(grid: Grid, store: Path) -> str:
    """Rebuilds the catalog from a store that is not the home's own; gives what was said of problems."""
    done = grid("catalog", "rebuild", f"file://{store}", code=None)
    assert done.returncode in (0, 1), str(done)
    return done.stdout + done.stderr


Change = Callable[[list[Shape], str], None]


def in_first_line(**changes: object) -> Change:
    return lambda lines, _: lines[0].update(changes)


def in_artifact(**changes: object) -> Change:
    def change(lines: list[Shape], other: str) -> None:
        lines[1].update(
            {name: str(v).replace("OTHER", other) if name == "key" else v for name, v in changes.items()}
        )

    return change


HOSTILE: dict[str, Change] = {
    "path-up": in_artifact(path="../../../../planted"),
    "key-of-another": in_artifact(key="experiments/OTHER/artifacts/f"),
    "key-up": in_artifact(key="../../outside/secret"),
    "id": in_artifact(artifact_id="../../x"),
    "size-huge": in_artifact(size=10**30),
    "still-running": in_first_line(state="running"),
    "still-queued": in_first_line(state="queued"),
    "whose": in_first_line(experiment_id="../../../x"),
    "totals": in_first_line(totals={"files": 10**18, "missing": 0}),
    "times": in_first_line(finished_at="x" * 10_000),
}


def test_hostile_manifests(grid: Grid, shared_store: Path, tmp_path: Path, outside: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(shared_store, store)
    mine, other = sorted(os.listdir(store / "experiments"))
    place = store / "experiments" / mine / "manifest.jsonl"
    good = place.read_text().splitlines()
    for how, change in HOSTILE.items():
        lines: list[Shape] = [json.loads(line) for line in good]
        change(lines, other)
        place.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        said = rebuilt(grid, store)
        assert f"experiments/{mine}/manifest.jsonl: The manifest" in said, f"{how}: {said}"
        (one,) = grid.json("status", "mine")
        assert (one["state"], one["outcome"]) == ("failed", "lost"), how
        assert [each["path"] for each in grid.json("artifacts", "mine")] == ["f"], how
    assert downloaded(grid, "mine-exp0") == {b"f": b"of mine"}, "what lies there, under its own name"
    assert downloaded(grid, "other-exp0") == {b"f": b"of other"}
    assert grid("verify", "--deep", "other").stdout == "other-exp0: 1 of 1 verified\n"
    assert grid.json("status") == []
    assert contents(outside) == {b"secret": SECRET}
    assert not (tmp_path / "planted").exists()


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of one file each."""
    root = tmp_path_factory.mktemp("two-runs")
    with new_grid(root) as grid:
        for name in ("mine", "other"):
            ran(grid, f"open('f', 'w').write('of {name}')", name=name)
    return root / "home/store"


def test_one_artifact_in_two_manifests(grid: Grid, shared_store: Path, tmp_path: Path) -> None:
    """A manifest that claims another experiment's artifact does not get it."""
    store = tmp_path / "store"
    shutil.copytree(shared_store, store)
    mine, other = sorted(os.listdir(store / "experiments"))
    theirs = json.loads((store / "experiments" / mine / "manifest.jsonl").read_text().splitlines()[1])[
        "artifact_id"
    ]
    place = store / "experiments" / other / "manifest.jsonl"
    first, line = map(json.loads, place.read_text().splitlines())
    place.write_text(f"{json.dumps(first)}\n{json.dumps({**line, 'artifact_id': theirs})}\n")
    rebuilt(grid, store)
    assert downloaded(grid, "mine-exp0") == {b"f": b"of mine"}
    assert grid("verify", "--deep", "mine").stdout == "mine-exp0: 1 of 1 verified\n"


@pytest.mark.parametrize("where", ["experiment", "artifacts", "file", "manifest.jsonl", "experiment.json"])
def test_links_planted_in_a_store(
    grid: Grid, shared_store: Path, tmp_path: Path, outside: Path, where: str
) -> None:
    """Reading, verifying and deleting never go through them. Deleting leaves nothing but the strange links."""
    store = grid.home / "store"
    shutil.copytree(shared_store, store)
    rebuilt(grid, store)
    mine, _ = sorted(os.listdir(store / "experiments"))
    folder = store / "experiments" / mine
    place = {"experiment": folder, "artifacts": folder / "artifacts", "file": folder / "artifacts/f"}.get(
        where, folder / where
    )
    kept = outside / "kept"
    place.rename(kept)
    place.symlink_to(kept)
    before = contents(outside)
    assert grid("verify", "mine", code=1).stdout.startswith(
        "mine-exp0: 0 of 1" if where == "file" else "mine-exp0: "
    )
    if where in ("experiment", "artifacts", "file"):
        refused = grid("artifacts", "--download_dir", tmp_path / "got", "mine-exp0", code=1)
        assert "has no object" in refused.stderr
        assert contents(tmp_path / "got") == {}
    grid("delete", "--yes", "mine")
    assert contents(outside) == before
    left = [os.path.join(at, name) for at, _, names in os.walk(store) for name in names if mine in at]
    assert all(map(os.path.islink, left)), left
    assert "mine" not in [run["name"] for run in grid.json("history")]
    assert grid("verify", "--deep", "other").stdout == "other-exp0: 1 of 1 verified\n"


def test_paths_planted_in_the_catalog(grid: Grid, tmp_path: Path, outside: Path) -> None:
    names = [
        b"../up",
        b"../../../../up",
        str(tmp_path / "absolute").encode(),
        b"a/../../up",
        b"d/..",
        b".",
        b"a//b",
    ]
    ran(grid, f"for i in range({len(names) + 1}): open(f'f{{i}}', 'w').write('theirs')", name="r")
    with closing(sqlite3.connect(grid.home / "catalog.db", isolation_level=None)) as catalog:
        for i, name in enumerate(names):
            catalog.execute("UPDATE artifacts SET path = ? WHERE path = ?", (name, b"f%d" % i))
    before = contents(tmp_path / "project")
    done = grid("artifacts", "--download_dir", tmp_path / "got", "r-exp0", code=1)
    assert done.stderr.count("its path would lead out of the download folder") >= len(names)
    assert contents(tmp_path / "got") == {b"r-exp0/f%d" % len(names): b"theirs"}
    assert contents(tmp_path / "project") == before
    assert not {"up", "absolute"} & set(os.listdir(tmp_path))
    grid("ls", "r")
    grid("cat", "r:../up")
    grid("verify", "r", code=1)
    grid("delete", "--yes", "r")
    assert contents(outside) == {b"secret": SECRET}


def test_a_download_folder_full_of_traps(grid: Grid, tmp_path: Path, outside: Path) -> None:
    """Pipes where files, parts and their notes must be; links in every place: nobody waits, nothing is written outside."""
    ran(
        grid,
        "import os; os.mkdir('d')\nfor n in ('a', 'b', 'c', 'd/e'): open(n, 'wb').write(b'x' * 3_000_000)",
        name="r",
    )
    grid("artifacts", "--download_dir", tmp_path / "got", "-m", "^a$", "r-exp0")
    got = tmp_path / "got/r-exp0"
    shutil.rmtree(got)
    got.mkdir()
    os.mkfifo(got / "a")
    os.mkfifo(got / "b.partial")
    (got / "c").symlink_to(outside / "secret")
    (got / "d").symlink_to(outside)
    done = grid("artifacts", "--download_dir", tmp_path / "got", "r-exp0", code=1, timeout=60)
    assert "b: " in done.stderr and "d/e: " in done.stderr, str(done)
    assert (got / "a").read_bytes() == (got / "c").read_bytes() == b"x" * 3_000_000
    assert not (got / "c").is_symlink()
    assert contents(outside) == {b"secret": SECRET}
    shutil.rmtree(tmp_path / "got")
    (tmp_path / "got").mkdir()
    (tmp_path / "got/.gridkeep").symlink_to(outside)
    refused = grid("artifacts", "--download_dir", tmp_path / "got", "r-exp0", code=1)
    assert "cannot be used" in refused.stderr
    assert contents(outside) == {b"secret": SECRET}


def test_a_pipe_where_the_note_of_a_part_lies(grid: Grid, tmp_path: Path) -> None:
    ran(grid, "open('big', 'wb').write(bytes(60_000_000))", name="r")
    process = grid.start("artifacts", "--download_dir", tmp_path / "got", "r-exp0")
    notes: list[Path] = []
    while process.poll() is None and not notes:
        notes = list((tmp_path / "got").glob(".gridkeep/*.json"))
    process.kill()
    process.communicate()
    assert notes, "it was over before it could be cut off"
    notes[0].unlink()
    os.mkfifo(notes[0])
    grid("artifacts", "--download_dir", tmp_path / "got", "r-exp0", timeout=60)
    assert (tmp_path / "got/r-exp0/big").stat().st_size == 60_000_000
