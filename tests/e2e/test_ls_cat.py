"""`grid ls` and `grid cat`: the tree of an experiment, and one file of it."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import explained, inside, ran, save
from tests.support import Grid


def test_the_tree(grid: Grid, tmp_path: Path) -> None:
    outside = tmp_path / "out side.txt"
    ran(
        grid,
        f"""
        import os
        os.makedirs("a/b"); os.mkdir("empty folder")
        for name in ("a/b/deep", "a.txt", "z", {str(outside)!r}):
            open(name, "w").write(name[-1])
        open("tmp", "w").write("t"); os.remove("tmp")
        """,
        name="t",
    )
    lines = grid("ls", "t-exp0").stdout.splitlines()
    names = [re.sub(r"^ *(\d+ B)? *(stored|removed)? *", "", line) for line in lines]
    folders = [f"{part}/" for part in outside.parent.parts[1:]]
    assert names == [
        *(
            "t-exp0",
            "_abs/",
            *folders,
            "out side.txt",
            "a.txt",
            "a/",
            "b/",
            "deep",
            "tmp (removed by the run)",
        ),
        "z",
    ]
    assert "      1 B  stored    a.txt" in [re.sub("stored +", "stored    ", line) for line in lines]
    inner = grid("ls", "t-exp0:a/b").stdout
    assert "deep" in inner
    assert "a.txt" not in inner
    assert [each["path"] for each in grid.json("ls", "t-exp0:a")] == ["a/b/deep"]
    assert {each["path"] for each in grid.json("ls", "t")} == {
        *(inside(outside).decode(), "a.txt", "a/b/deep", "tmp", "z")
    }


def test_one_file_byte_for_byte(grid: Grid, tmp_path: Path) -> None:
    outside = tmp_path / "o"
    ran(
        grid,
        f"""
        import os
        os.mkdir("f")
        for name in (b"f/a", b"with: colon", b"\\xff", {str(outside)!r}):
            open(name, "wb").write(bytes(range(256)))
        """,
        name="c",
    )
    for path in (b"f/a", b"with: colon", b"\xff", inside(outside)):
        assert grid("cat", b"c-exp0:" + path).stdout_bytes == bytes(range(256))
    assert grid("cat", "c:f/a").stdout_bytes == bytes(range(256))
    assert explained(grid("cat", "c-exp0:f", code=1)) == "f is a folder of c-exp0."
    assert "nothing" in explained(grid("cat", "c-exp0:nothing", code=1))
    assert "../../../catalog.db" in explained(grid("cat", "c-exp0:../../../catalog.db", code=1))


def test_a_file_without_bytes_says_why(grid: Grid) -> None:
    ran(grid, "import os; open('gone', 'w'); os.remove('gone')", name="g")
    assert "removed by the run" in explained(grid("cat", "g-exp0:gone", code=1))


@pytest.mark.xdist_group("heavy")
def test_a_large_file_in_bounded_memory(grid: Grid) -> None:
    """300 MB through a process that may have 200 MiB of address space for data."""
    ran(grid, "f = open('big', 'wb'); [f.write(bytes([i]) * 10**6) for i in range(200)]", name="big")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (150 * 2**20, 150 * 2**20))

    process = subprocess.Popen(
        [*grid.command, "cat", "big-exp0:big"],
        cwd=grid.cwd,
        env=grid.env,
        stdout=subprocess.PIPE,
        preexec_fn=limit,
    )
    assert process.stdout
    for i in range(200):
        assert process.stdout.read(10**6) == bytes([i]) * 10**6
    assert process.stdout.read() == b""
    assert process.wait(20) == 0


def test_a_sweep_has_to_be_named_in_full(grid: Grid) -> None:
    grid("run", "--follow", "--name", "s", save(grid, "open('f', 'w')"), "--x", "[1,2]")
    refused = grid("ls", "s", code=2)
    assert "s has 2 experiments" in refused.stderr
    assert "s-exp0" in refused.stderr
