"""`grid delete`: says what will go, asks, deletes all of it and nothing else."""

from __future__ import annotations

import os

from tests.e2e.support import explained, in_terminal, ran, save, submitted
from tests.support import Grid, wait_for


def kept(grid: Grid) -> list[str]:
    """The experiments that the store holds anything of."""
    folder = grid.home / "store/experiments"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_a_run_goes_with_everything_and_another_stays(grid: Grid) -> None:
    save(grid, "open('f', 'wb').write(bytes(1000)); print('said')")
    grid("run", "--follow", "--name", "gone", "script.py", "--x", "[1,2]")
    stays = ran(grid, "open('g', 'w').write('x')", name="stays")
    done = grid("delete", "--yes", "run", "gone")
    assert "2 experiments of gone: 2 files, 2.0 kB" in done.stderr
    assert done.stdout.startswith("Deleted 2 experiments")
    assert kept(grid) == [stays["experiment_id"]]
    assert [run["name"] for run in grid.json("history")] == ["stays"]
    for words in (("status", "gone"), ("logs", "gone"), ("artifacts", "gone"), ("ls", "gone-exp0")):
        grid(*words, code=1)
    grid("verify", "--deep", "stays")
    assert ran(grid, "", name="gone")["state"] == "completed", "the name is free"


def test_one_experiment_of_a_run(grid: Grid) -> None:
    grid("run", "--follow", "--name", "s", save(grid, "open('f', 'w').write('x')"), "--x", "[1,2]")
    first, second = (each["experiment_id"] for each in grid.json("status", "s"))
    grid("delete", "--yes", "experiment", "s-exp0")
    assert [each["name"] for each in grid.json("status", "s")] == ["s-exp1"]
    assert kept(grid) == [second]
    assert first not in kept(grid)
    grid("delete", "--yes", "s-exp1")
    assert grid.json("history") == []
    assert kept(grid) == []


def test_it_asks_and_no_means_no(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="d")
    answered: list[bytes] = []

    def answer(word: bytes) -> str:
        answered.clear()

        def act(text: str, keyboard: int) -> None:
            if "Delete them for good?" in text and not answered:
                answered.append(word)
                os.write(keyboard, word + b"\n")

        shown = in_terminal(grid, "delete", "d", act=act)
        assert answered, shown.text
        return f"{shown.returncode} {shown.text}"

    assert "1 experiment of d: 1 file, 1 B" in answer(b"n")
    assert answer(b"")[0] == "1"
    assert grid.json("artifacts", "d")
    assert answer(b"y")[0] == "0"
    grid("status", "d", code=1)


def test_without_anybody_to_ask_nothing_goes(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="d")
    refused = grid("delete", "d", code=1)
    assert "--yes" in refused.stderr
    assert len(grid.json("artifacts", "d")) == 1


def test_what_is_active_is_refused_unless_forced(grid: Grid) -> None:
    submitted(
        grid, "import time; open('f', 'w').write('x'); print('up', flush=True); time.sleep(60)", name="a"
    )
    wait_for(lambda: "up" in grid("logs", "a").stdout or None)
    refused = explained(grid("delete", "--yes", "a", code=1))
    assert "a-exp0 is still running" in refused
    assert grid.json("status", "a")[0]["state"] == "running"
    grid("delete", "--yes", "--force", "a")
    assert grid.json("status") == grid.json("history") == []
    assert kept(grid) == []
    assert [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []]


def test_an_unknown_name_deletes_nothing(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="d")
    grid("delete", "--yes", "d", "nobody", code=1)
    grid("delete", "--yes", "experiment", "d", code=1)
    assert grid.json("status", "d")[0]["artifacts"] == 1
