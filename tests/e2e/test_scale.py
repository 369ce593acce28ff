"""Many files, large files, files with nothing in them: all of them, in bounded memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.support import contents, experiment, listed, ran, save, submitted, supervisors
from tests.support import Grid, wait_for

pytestmark = pytest.mark.xdist_group("heavy")


class Memory(threading.Thread):
    """The most memory (bytes, resident) that any process of ours has taken while it watches, without the script's."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(daemon=True)
        self._grid = grid
        self._over = threading.Event()
        self.most: dict[int, int] = {}

    def run(self) -> None:
        while not self._over.wait(0.2):
            for pid in supervisors(self._grid):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    if line.startswith("VmHWM:"):
                        self.most[pid] = int(line.split()[1]) * 1024

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def test_ten_thousand_files(grid: Grid) -> None:
    save(
        grid,
        """
        import os
        for folder in range(100):
            os.makedirs(f"out/{folder}")
            for i in range(100):
                with open(f"out/{folder}/{i}", "w") as file: file.write(f"{folder}/{i}" * (i % 7))
        """,
    )
    with Memory(grid) as memory:
        grid("run", "--name", "many", "script.py")
        (one,) = grid.finished("many", 120)
    assert max(memory.most.values()) < 250 * 2**20
    assert (one["state"], one["artifacts"], one["missing"]) == ("completed", 10_000, 0)
    assert one["capture"]["lost"] == one["capture"]["swept"] == 0
    assert len(grid.json("artifacts", "many")) == 10_000
    grid("artifacts", "many-exp0")
    expected = {
        b"out/%d/%d" % (folder, i): b"%d/%d" % (folder, i) * (i % 7)
        for folder in range(100)
        for i in range(100)
    }
    assert contents(grid.cwd / "grid_artifacts/many-exp0") == expected
    assert grid("verify", "--deep", "many").stdout == "many-exp0: 10,000 of 10,000 verified\n"
    assert grid("delete", "--yes", "many").stdout.startswith("Deleted 1 experiment, 10,003 objects")


def test_empty_sparse_and_two_gib(grid: Grid) -> None:
    """2 GiB of bytes, 3 GiB of holes with a word at the end, and nothing at all; while the supervisor stays small."""
    gate = grid.cwd.parent / "gate"
    submitted(
        grid,
        f"""
        import os, time
        open("empty", "w").close()
        block = os.urandom(1 << 20)
        with open("large", "wb") as file:
            for i in range(2048): file.write(block)
        with open("sparse", "wb") as file:
            file.seek(3 << 30); file.write(b"the end")
        while not os.path.exists({str(gate)!r}): time.sleep(0.1)
        """,
        name="big",
    )
    with Memory(grid) as memory:
        wait_for(lambda: supervisors(grid) or None)
        base = wait_for(lambda: memory.most or None) and max(memory.most.values())
        gate.touch()
        (one,) = grid.finished("big", 200)
        most = max(memory.most.values())
    assert (one["state"], one["artifacts"], one["missing"]) == ("completed", 3, 0)
    assert most - base < 100 * 2**20, f"{most >> 20} MiB over {base >> 20}"
    found = listed(grid, "big")
    assert (found["empty"]["size"], found["large"]["size"], found["sparse"]["size"]) == (
        0,
        2 << 30,
        (3 << 30) + 7,
    )
    stored = grid.home / "store/experiments" / one["experiment_id"] / "artifacts"
    assert os.stat(stored / "sparse").st_blocks * 512 < 1 << 20, "the holes were filled"
    with open(stored / "sparse", "rb") as file:
        file.seek(3 << 30)
        assert file.read() == b"the end"
    grid("artifacts", "big-exp0", "-m", "^(large|empty)$", timeout=200)
    folder = grid.cwd / "grid_artifacts/big-exp0"
    digest = subprocess.run(["sha256sum", folder / "large"], capture_output=True, text=True, check=True)
    assert digest.stdout.split()[0] == found["large"]["sha256"]
    assert (folder / "empty").read_bytes() == b""


def test_removed_files_beyond_ten_thousand_are_counted_by_folder(grid: Grid) -> None:
    one = ran(
        grid,
        """
        import os
        for folder in ("a", "b"):
            os.mkdir(folder)
            for i in range(5_100):
                with open(f"{folder}/{i}", "w"): pass
                os.unlink(f"{folder}/{i}")
        """,
        name="r",
    )
    assert (one["state"], one["artifacts"]) == ("completed", 0)
    found = grid.json("artifacts", "r")
    assert {each["state"] for each in found} == {"removed"}
    assert sum(each.get("count", 1) for each in found) == 10_200
    assert len(found) == 10_001
    assert [each["path"] for each in found if "count" in each] == ["b/"]


def test_completed_soon_after_the_last_byte(grid: Grid) -> None:
    """A run whose files were closed long before is complete in about a second; generous here."""
    one = ran(grid, "import time\nfor i in range(500): open(f'{i}', 'w').write('x')\ntime.sleep(2)", name="s")
    ended, finished = (
        time.mktime(time.strptime(one[key][:19], "%Y-%m-%dT%H:%M:%S")) for key in ("ended_at", "finished_at")
    )
    assert finished - ended <= 5
    assert experiment(grid, "s-exp0")["artifacts"] == 500


def test_one_page_of_many_experiments(grid: Grid) -> None:
    """A sweep of 60 experiments: all complete, none mixed up."""
    save(grid, "echo $2 > out", "s.sh")
    grid("run", "--name", "wide", "--parallel", "4", "s.sh", "--x", "range(60)")
    assert [each["state"] for each in grid.finished("wide", 200)] == ["completed"] * 60
    grid("artifacts", "wide")
    for i in range(60):
        assert (grid.cwd / f"grid_artifacts/wide/wide-exp{i}/out").read_text() == f"{i}\n"
