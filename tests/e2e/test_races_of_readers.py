"""Commands that look while a sweep writes: each sees one moment, and a later look nothing earlier."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from tests.e2e.support import save
from tests.support import Grid


@pytest.mark.xdist_group("heavy")
def test_ten_commands_read_while_a_sweep_writes(grid: Grid) -> None:
    """What each prints hangs together: totals are those of the rows, states go one way, nothing is there and then not."""
    text = """
        import hashlib, sys, time
        for i in range(40):
            open(f"{i}", "wb").write(hashlib.sha256(b"%d" % i).digest() * 100)
            print("line", i, flush=True)
            time.sleep(0.05)
    """
    grid("run", "--name", "s", "--parallel", "4", save(grid, text), "--x", "[1,2,3,4]")
    failures: list[BaseException] = []
    rounds: Counter[str] = Counter()
    over = threading.Event()

    def reader(kind: str) -> None:
        try:
            seen: dict[str, Any] = {}
            while not over.is_set() or not rounds[kind]:
                LOOKS[kind](grid, seen)
                rounds[kind] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=reader, args=(kind,)) for kind in LOOKS for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        ended = grid.finished("s")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert min(rounds[kind] for kind in LOOKS) >= 2, rounds
    assert [(each["state"], each["artifacts"]) for each in ended] == [("completed", 40)] * 4
    grid("verify", "--deep", "s")


ORDER = ("queued", "running", "syncing", "completed")


def look_at_status(grid: Grid, seen: dict[str, Any]) -> None:
    """An experiment's totals and state never go back."""
    for each in grid.json("status", "s"):
        before = seen.get(each["name"], ("queued", 0))
        now = (each["state"], each["artifacts"])
        assert ORDER.index(now[0]) >= ORDER.index(before[0]) and now[1] >= before[1], (before, now)
        assert each["bytes"] == each["artifacts"] * 3200 and each["artifacts"] <= 40
        seen[each["name"]] = now


def look_at_runs(grid: Grid, seen: dict[str, Any]) -> None:
    """The run is in exactly one of two listings taken one after the other, or in both when it ended in between."""
    active, finished = grid.json("status"), grid.json("history")
    assert {run["name"] for run in (*active, *finished)} == {"s"}
    for run in (*active, *finished):
        assert sum(run["counts"].values()) == run["experiments"] == 4
        assert run["bytes"] == run["artifacts"] * 3200


def look_at_artifacts(grid: Grid, seen: dict[str, Any]) -> None:
    """What was stored stays so, under the same id and with the same hash."""
    stored = {}
    for each in grid.json("artifacts", "s"):
        if each["state"] == "stored":
            assert each["size"] == 3200
            stored[each["experiment"], each["path"]] = (each["artifact_id"], each["sha256"])
    assert seen.items() <= stored.items()
    seen.update(stored)


def look_at_tree(grid: Grid, seen: dict[str, Any]) -> None:
    lines = grid("ls", "s-exp1").stdout.splitlines()
    assert "s-exp1" in lines[0]
    names = [line.split()[-1] for line in lines[1:] if " stored " in line]
    assert names == sorted(set(names)) and set(seen) <= set(names)
    seen.update(dict.fromkeys(names))


def look_at_log(grid: Grid, seen: dict[str, Any]) -> None:
    """Always a longer beginning of the same."""
    done = grid("logs", "s-exp2", code=None)
    text = done.stdout
    whole = "".join(f"line {i}\n" for i in range(40))
    assert whole.startswith(text) and len(text) >= len(seen.get("log", ""))
    seen["log"] = text


LOOKS = {
    "status": look_at_status,
    "runs": look_at_runs,
    "artifacts": look_at_artifacts,
    "ls": look_at_tree,
    "logs": look_at_log,
}
