"""Downloads into a filesystem that takes `A` and `a` for one file and refuses some names, as those of Windows and macOS do:
a real one, NTFS."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import listed, ran, submitted
from tests.support import Grid, wait_for

WRITES = r"""
import os
names = ["a.txt", "A.txt", "A~2.txt", "Data/x", "data/X", "data/y", "dir/sub/f", "DIR", "DIR2/b", "dir2"]
names += ["q:1", "q%3A1", "aux.log", "end.", "end", "big.bin", "BIG.bin"]
for name in names:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    open(name, "w").write(name * (400_000 if "big" in name.lower() else 1))
open(b"bad\xff", "wb").write(b"bad\xff")
"""
PLACES = {
    "A.txt": "A.txt",
    "A~2.txt": "A~2.txt",
    "a.txt": "a~3.txt",
    "Data/x": "Data/x",
    "data/X": "data/X~2",
    "data/y": "data/y",
    "dir/sub/f": "dir/sub/f",
    "DIR": "DIR~2",
    "DIR2/b": "DIR2/b",
    "dir2": "dir2~2",
    "q:1": "q%3A1~2",
    "q%3A1": "q%3A1",
    "aux.log": "%61ux.log",
    "end.": "end%2E",
    "end": "end",
    "big.bin": "big~2.bin",
    "BIG.bin": "BIG.bin",
    "bad\udcff": "bad%FF",
}


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.getuid() != 0 or not os.path.exists("/dev/fuse") or not shutil.which("lowntfs-3g"):
        pytest.skip("it takes root, /dev/fuse and ntfs-3g to mount a filesystem like that")
    root = tmp_path_factory.mktemp("ntfs")
    image, folder = root / "image", root / "folder"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkntfs", "-Q", "-q", "-F", image], check=True, capture_output=True)
    options = "ignore_case,windows_names,big_writes"
    subprocess.run(["lowntfs-3g", "-o", options, image, folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_every_file_comes_and_those_with_another_name_are_named(grid: Grid, ntfs: Path) -> None:
    ran(grid, WRITES, name="r")
    done = grid("artifacts", "r-exp0", "--download_dir", ntfs / "all")
    folder = ntfs / "all" / "r-exp0"
    for path, place in PLACES.items():
        content = path * (400_000 if "big" in path.lower() else 1)
        assert (folder / place).read_bytes() == os.fsencode(content), path
    renamed = {path for path, place in PLACES.items() if path != place}
    assert f"{len(renamed)} files cannot have their own name in this folder:" in done.stderr
    for line in (
        "r-exp0: a.txt is called a~3.txt, beside A.txt",
        "r-exp0: DIR is called DIR~2, beside dir/",
        "r-exp0: q:1 is called q%3A1~2, beside q%3A1",
        "r-exp0: end. is called end%2E",
        r"r-exp0: bad\xff is called bad%FF",
    ):
        assert f"  {line}\n" in done.stderr
    assert f"{len(PLACES)} files" in done.stderr
    again = grid("artifacts", "r-exp0", "--download_dir", ntfs / "all")
    assert f"0 downloaded, {len(PLACES)} were there already" in again.stderr
    assert sorted(os.listdir(ntfs / "all")) == ["r-exp0"]
    assert len(listed(grid, "r")) == len(PLACES)


def test_a_filter_changes_no_name(grid: Grid, ntfs: Path) -> None:
    ran(grid, WRITES, name="r")
    done = grid("artifacts", "r-exp0", "--download_dir", ntfs / "some", "-m", "^a.txt$")
    assert "r-exp0: a.txt is called a~3.txt, beside A.txt" in done.stderr
    assert os.listdir(ntfs / "some" / "r-exp0") == ["a~3.txt"]


def test_a_name_that_comes_later_and_takes_the_place_of_another(grid: Grid, ntfs: Path) -> None:
    """`--follow` has `b` already when `B` is written, which comes first in order."""
    go, target = grid.cwd.parent / "go", ntfs / "later"
    submitted(
        grid.with_env(GO=str(go)),
        """
        import os, time
        open("b", "w").write("small")
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.02)
        open("B", "w").write("large")
        """,
        name="r",
    )
    follow = grid.start("artifacts", "--follow", "r-exp0", "--download_dir", target)
    wait_for(lambda: (target / "r-exp0" / "b").exists() or None)
    go.touch()
    assert follow.wait(60) == 0
    folder = target / "r-exp0"
    assert ((folder / "B").read_text(), (folder / "b~2").read_text()) == ("large", "small")
