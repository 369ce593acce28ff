"""Files that are written for a long time: seen as `growing`, and to be had before they are whole."""

from __future__ import annotations

from tests.e2e.support import contents, downloaded, experiment, listed, ran, submitted
from tests.support import Grid, wait_for

INTERVAL = {"GRIDKEEP_GROWING_INTERVAL": "1s"}


def test_a_growing_log_is_downloadable_as_a_true_prefix(grid: Grid) -> None:
    gate = grid.cwd.parent / "gate"
    submitted(
        grid.with_env(**INTERVAL),
        f"""
        import os, time
        i = 0
        with open("train.log", "w") as log:
            while not os.path.exists({str(gate)!r}):
                log.write(f"line {{i}}\\n"); log.flush(); i += 1
                time.sleep(0.01)
        """,
        name="g",
    )
    wait_for(lambda: listed(grid, "g").get("train.log", {}).get("state") == "growing" or None)
    assert experiment(grid, "g-exp0")["growing"] == 1

    def prefix() -> bytes | None:
        grid("artifacts", "g-exp0")
        return contents(grid.cwd / "grid_artifacts").get(b"g-exp0/train.log")

    first = wait_for(prefix, every=0.2, what="a first prefix")
    wait_for(lambda: len(prefix() or b"") > len(first) or None, 60, every=0.3, what="a longer prefix")
    longer = prefix() or b""
    done = grid("artifacts", "g-exp0")
    assert "g-exp0: train.log: " in done.stderr
    assert "not finished yet" in done.stderr
    gate.touch()
    assert grid.finished("g")[0]["state"] == "completed"
    whole = downloaded(grid, "g-exp0")[b"train.log"]
    assert whole == b"".join(b"line %d\n" % i for i in range(whole.count(b"\n")))
    assert whole.startswith(first)
    assert whole.startswith(longer)
    assert len(first) < len(longer) < len(whole)
    assert listed(grid, "g")["train.log"]["state"] == "stored"


def test_a_prefix_outlives_everything_that_is_killed(grid: Grid) -> None:
    """What it is for: the copy lies in the store while the script still writes."""
    submitted(
        grid.with_env(**INTERVAL),
        "import time; f = open('log', 'w'); f.write('so far'); f.flush(); time.sleep(60)",
        name="g",
    )
    one = wait_for(lambda: e if (e := experiment(grid, "g-exp0"))["artifacts"] else None)
    stored = grid.home / "store/experiments" / one["experiment_id"] / "artifacts/log"
    assert stored.read_text() == "so far"
    assert grid("cat", "g-exp0:log").stdout == "so far"


def test_closed_files_are_stored_while_the_script_runs(grid: Grid) -> None:
    submitted(grid, "import time; open('closed', 'w').write('x'); time.sleep(60)", name="c")
    wait_for(lambda: listed(grid, "c").get("closed", {}).get("state") == "stored" or None, 20)
    assert experiment(grid, "c-exp0")["state"] == "running"
    assert downloaded(grid, "c-exp0") == {b"closed": b"x"}


def test_a_file_rewritten_fifty_times_comes_in_its_last_version(grid: Grid) -> None:
    one = ran(
        grid,
        """
        import time
        for i in range(50):
            with open("checkpoint", "w") as file: file.write(f"version {i} " * 1000)
            time.sleep(0.02)
        """,
        name="r",
    )
    assert one["artifacts"] == 1
    assert downloaded(grid, "r-exp0") == {b"checkpoint": b"version 49 " * 1000}


def test_an_appended_log_is_whole(grid: Grid) -> None:
    ran(
        grid.with_env(**INTERVAL),
        """
        import time
        for i in range(100):
            with open("log", "a") as file: file.write(f"{i}\\n")
            time.sleep(0.02)
        """,
        name="a",
    )
    assert downloaded(grid, "a-exp0") == {b"log": b"".join(b"%d\n" % i for i in range(100))}


def test_listing_and_bytes_never_differ_while_it_is_rewritten(grid: Grid) -> None:
    """A download in the middle of a rewrite gets one whole version or says that there is none, never a mixture."""
    gate = grid.cwd.parent / "gate"
    submitted(
        grid.with_env(GRIDKEEP_QUIET="0.05s", GRIDKEEP_QUIET_MAX="0.1s"),
        f"""
        import os, time
        for i in range(1000):
            with open("f", "wb") as file: file.write(b"%03d" % i * 10_000)
            time.sleep(0.5)
            if os.path.exists({str(gate)!r}): break
        """,
        name="m",
    )
    versions: set[bytes] = set()

    def look() -> bool:
        grid("artifacts", "m-exp0", code=None)
        for content in contents(grid.cwd / "grid_artifacts").values():
            assert content == content[:3] * 10_000
            versions.add(content[:3])
        return len(versions) > 2

    wait_for(look, 60, what="three versions")
    gate.touch()
    grid.finished("m")
    (last,) = downloaded(grid, "m-exp0").values()
    assert last == last[:3] * 10_000
    assert last[:3] >= max(versions)
