"""`grid history`: finished runs, newest first."""

from __future__ import annotations

import re

from tests.e2e.support import in_terminal, ran, save, submitted
from tests.support import Grid


def test_finished_runs_newest_first(grid: Grid) -> None:
    assert grid("history").stdout.split()[:3] == ["Run", "Status", "Created"]
    ran(grid, "open('f', 'w').write('x' * 2500)", name="first")
    save(grid, "import sys; sys.exit(int(sys.argv[2]))")
    grid("run", "--follow", "--name", "second", "script.py", "--x", "[0,1]", code=1)
    submitted(grid, "import time; time.sleep(60)", name="third")
    header, *rows = grid("history").stdout.splitlines()
    assert re.split(r" {2,}", header) == [
        *(
            "Run",
            "Status",
            "Created By",
            "Created At",
            "Experiments",
            "Completed",
            "Failed",
            "Stopped",
            "Size",
        )
    ]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == ["second", "first"], "an active run is no history"
    assert cells[0][1] == "failed"
    assert cells[0][4:] == ["2", "1", "1", "0", "0", "B"]
    assert cells[1][4:] == ["1", "1", "0", "0", "2.5", "kB"]
    assert [run["name"] for run in grid.json("history")] == ["second", "first"]
    grid("stop", "third")
    grid.finished("third")
    assert [run["name"] for run in grid.json("history")] == ["third", "second", "first"]


def test_numbers_are_never_cut(grid: Grid) -> None:
    ran(grid, "open('f', 'wb').write(bytes(12_345_678))", name="sized")
    assert "12.3 MB" in in_terminal(grid, "history", columns=60).text
