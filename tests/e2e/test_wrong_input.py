"""Wrong input to every command: one clear sentence, the right exit status, no traceback, nothing lost.

`grid(...)` itself fails a test that sees a traceback or "An unexpected error".
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import contents, experiment, explained, new_grid, ran, save, submitted
from tests.support import Grid, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """A home with one finished run, `done`, which wrote `out/file`."""
    with new_grid(tmp_path_factory.mktemp("wrong")) as grid:
        ran(grid, "import os; os.mkdir('out'); open('out/file', 'w').write('x')", name="done")
        save(grid, "print('here')", "here.py")
        save(grid, "not for running", "data.txt")
        save(grid, "a: [", "bad.yml")
        save(grid, b"\xff\xfe\x00", "binary.yml")
        save(grid, "- a list", "list.yml")
        save(grid, "compute: {train: {cpus: many}}", "cpus.yml")
        save(grid, "hyper_params: {params: {x: {a: 1}}}", "deep.yml")
        save(grid, "computee: {}", "key.yml")
        save(grid, "hyper_params: {settings: {strategy: bogus}}", "strategy.yml")
        yield grid


UNKNOWN = [
    ("status", "There is no Run named nobody."),
    ("logs", "There is no experiment named nobody."),
    ("ls", "nobody does not exist - can not list"),
    ("artifacts", "nobody does not exist - can not get artifacts"),
    ("artifacts --json", "nobody does not exist - can not get artifacts"),
    ("artifacts --bucket_path", "nobody does not exist - can not get artifacts"),
    ("stop", "There is no Run or experiment named nobody."),
    ("stop run", "There is no run named nobody."),
    ("stop experiment", "There is no experiment named nobody."),
    ("delete --yes", "There is no Run or experiment named nobody."),
    ("verify", "nobody does not exist - can not verify"),
]


ODD = ["done-exp1", "DONE", "../done", "é%'", "a\nb", "x" * 5000]


@pytest.mark.parametrize(("command", "sentence"), UNKNOWN)
def test_unknown_names(shared: Grid, command: str, sentence: str) -> None:
    assert explained(shared(*command.split(), "nobody", code=1)) == sentence
    for odd in ODD:
        assert explained(shared(*command.split(), "--", odd, code=1))


WRONG = [
    # words, exit status, part of the sentence
    ("statsu", 2, "statsu"),
    ("--nonsense", 2, "--nonsense"),
    ("status done extra", 2, "extra"),
    ("status --nonsense", 2, "--nonsense"),
    ("status --watch --json", 2, "--watch and --json"),
    ("history extra", 2, "extra"),
    ("logs", 2, "EXPERIMENT"),
    ("logs done -l -1", 2, "-1"),
    ("logs done -l many", 2, "many"),
    ("ls", 2, "EXPERIMENT"),
    ("ls done:nothing", 1, "nothing"),
    ("ls :x", 2, "names no experiment"),
    ("cat done", 2, "names no file"),
    ("cat done:", 2, "names no file"),
    ("cat done:out", 1, "is a folder"),
    ("cat done:nothing", 1, "nothing"),
    ("cat done:../../manifest.jsonl", 1, "manifest.jsonl"),
    ("artifacts", 2, "NAME"),
    ("artifacts done -m (", 1, "is not a regular expression"),
    ("artifacts done -m *", 1, "is not a regular expression"),
    ("artifacts done --json --match_regex [", 1, "is not a regular expression"),
    ("artifacts done --jobs 0", 2, "0"),
    ("artifacts done --json --bucket_path", 2, "exclude each other"),
    ("artifacts done --download_dir data.txt", 2, "data.txt"),
    ("artifacts done --download_dir data.txt/below", 1, "data.txt"),
    ("artifacts done --download_dir /proc/nowhere", 1, "/proc/nowhere"),
    ("stop", 2, "NAME"),
    ("stop run", 2, "name of the run is missing"),
    ("stop run done-exp0", 1, "There is no run named done-exp0"),
    ("stop experiment done", 1, "There is no experiment named done"),
    ("delete", 2, "NAME"),
    ("delete experiment", 2, "name of the experiment is missing"),
    ("delete --yes run done-exp0", 1, "There is no run named done-exp0"),
    ("verify", 2, "NAME"),
    ("completion", 2, "bash"),
    ("completion tcsh", 2, "tcsh"),
    ("doctor extra", 2, "extra"),
    ("run", 2, "SCRIPT"),
    ("run --nonsense here.py", 2, "--nonsense"),
    ("run nowhere.py", 1, "nowhere.py does not exist"),
    ("run ../nowhere.py", 1, "../nowhere.py does not exist"),
    ("run nosuchcommand", 1, "nosuchcommand does not exist"),
    ("run data.txt", 1, "data.txt is not executable"),
    ("run .", 1, "is a folder"),
    ("run /", 1, "is a folder"),
    ("run --name done here.py", 1, "A Run with the name done already exists"),
    ("run --name ../up here.py", 2, "../up"),
    ("run --name .. here.py", 2, ".."),
    ("run --name a/b here.py", 2, "a/b"),
    ("run --name Upper here.py", 2, "Upper"),
    ("run --name -x here.py", 2, "-x"),
    ("run --name x- here.py", 2, "x-"),
    ("run --name a-exp1 here.py", 2, "a-exp1"),
    ("run --name über here.py", 2, "über"),
    (f"run --name {'x' * 64} here.py", 2, "63"),
    ("run --cluster nowhere here.py", 1, "nowhere"),
    ("run --env NOVALUE here.py", 2, "NOVALUE"),
    ("run --env =x here.py", 2, "=x"),
    ("run --input nobody here.py", 1, "nobody does not exist"),
    ("run --input done-exp0:nothing here.py", 1, "nothing"),
    ("run --input done-exp0:../.. here.py", 1, "../.."),
    ("run --input done --in-place here.py", 2, "--in-place"),
    ("run --timeout soon here.py", 2, "soon"),
    ("run --timeout 0s here.py", 2, "--timeout"),
    ("run --timeout -5s here.py", 2, "-5s"),
    ("run --cpus 0 here.py", 2, "--cpus"),
    ("run --cpus nan here.py", 2, "--cpus"),
    ("run --gpus -1 here.py", 2, "-1"),
    ("run --memory lots here.py", 2, "lots"),
    ("run --parallel 0 here.py", 2, "0"),
    ("run --strategy bogus here.py", 2, "bogus"),
    ("run --seed x here.py", 2, "x"),
    ("run --strategy random_search here.py --x [1,2]", 1, "number of trials"),
    ("run here.py --x range(0)", 1, "range(0)"),
    ("run here.py --x range(1,2,0)", 1, "range(1,2,0)"),
    ("run here.py --x []", 1, "[]"),
    ("run here.py --x uniform(1,2)", 1, "uniform(1,2)"),
    ("run here.py --x uniform(1,2,-3)", 1, "uniform(1,2,-3)"),
    ("run here.py --x range(10001)", 1, "10,001 experiments"),
    ("run here.py --x range(1000000000000)", 1, "1,000,000,000,000 experiments"),
    ("run here.py --x range(200) --y range(100)", 1, "20,000 experiments"),
    ("run --config nowhere.yml here.py", 1, "nowhere.yml"),
    ("run --config out here.py", 1, "out"),
    ("run --config bad.yml here.py", 1, "bad.yml"),
    ("run --config binary.yml here.py", 1, "binary.yml"),
    ("run --config list.yml here.py", 1, "list.yml"),
    ("run --config cpus.yml here.py", 1, "cpus"),
    ("run --config deep.yml here.py", 1, "params"),
    ("run --config key.yml here.py", 1, "computee"),
    ("run --config strategy.yml here.py", 1, "strategy"),
]


@pytest.mark.parametrize(("words", "code", "part"), WRONG, ids=[words[:60] for words, _, _ in WRONG])
def test_wrong_words(shared: Grid, words: str, code: int, part: str) -> None:
    assert part in explained(shared(*words.split(), code=code))


@pytest.mark.parametrize("command", ["status", "artifacts", "ls", "delete --yes"])
def test_names_that_are_none(shared: Grid, command: str) -> None:
    numbers = ("done-exp" + "9" * 40, "done-exp00", "done-exp0 ")
    for name in (*numbers, "' OR 1=1 --", "%", "../done", b"\xff", "x" * 5000, "a\nb"):
        done = shared(*command.split(), "--", name, code=1)
        assert len(done.stderr.splitlines()) <= 2 and done.stdout == "", str(done)


def test_nothing_came_of_any_of_it(shared: Grid) -> None:
    assert shared.json("status") == []
    assert [run["name"] for run in shared.json("history")] == ["done"]
    assert shared("verify", "--deep", "done").stdout == "done-exp0: 1 of 1 verified\n"
    assert [os.listdir(shared.home / folder) for folder in ("work", "journal")] == [[], []]
    assert not (shared.cwd / "grid_artifacts").exists()


# ------------------------------------------------------------------------------------------------ settings and places


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("quiet = ", "not valid TOML"),
        ("nonsense = 1", "nonsense"),
        ('quiet = "soon"', "quiet"),
        ("parallel = -1", "parallel"),
        ("[quiet]", "quiet"),
    ],
)
def test_a_broken_configuration(grid: Grid, text: str, part: str) -> None:
    grid("status")
    (grid.home / "config.toml").write_text(text)
    for command in (("status",), ("run", save(grid, "")), ("artifacts", "x")):
        assert part in explained(grid(*command, code=1))
    (grid.home / "config.toml").unlink()
    assert "GRIDKEEP_QUIET" in explained(grid("status", code=1, env={"GRIDKEEP_QUIET": "soon"}))


def test_a_home_that_cannot_be_written(as_user: Grid) -> None:
    as_user("status")
    for home in ("/", "/proc/x", "/etc/gridkeep", str(as_user.cwd / save(as_user, "", "a file"))):
        for words in (("status",), ("run", save(as_user, "")), ("history", "--json"), ("doctor",)):
            done = as_user(*words, code=1, env={"GRIDKEEP_HOME": home})
            assert home in done.stderr + done.stdout, str(done)


def test_a_home_that_became_read_only(as_user: Grid) -> None:
    ran(as_user, "open('f', 'w').write('x')", name="r")
    os.chmod(as_user.home, 0o500)
    try:
        refused = as_user("run", save(as_user, ""), code=1)
        assert "cannot be used: Permission denied" in explained(refused)
    finally:
        os.chmod(as_user.home, 0o700)
    assert as_user("verify", "r").stdout == "r-exp0: 1 of 1 verified\n"


def test_another_users_home(grid: Grid, as_user: Grid) -> None:
    if as_user.uid is None:
        pytest.skip("needs two users")
    ran(grid, "", name="mine")
    done = as_user("status", code=1, env={"GRIDKEEP_HOME": str(grid.home)})
    assert str(grid.home) in explained(done)


def test_a_catalog_that_is_none(grid: Grid) -> None:
    grid("status")
    for path in grid.home.glob("catalog.db*"):
        path.unlink()
    (grid.home / "catalog.db").write_bytes(b"this is no database" * 1000)
    for words in (("status",), ("run", save(grid, "")), ("artifacts", "x")):
        assert "catalog.db" in explained(grid(*words, code=1))
    assert (grid.home / "catalog.db").read_bytes().startswith(b"this is no database"), "it was overwritten"


def test_a_download_folder_that_cannot_be_written(as_user: Grid) -> None:
    ran(as_user, "open('f', 'w').write('x')", name="r")
    locked = as_user.cwd / "locked"
    locked.mkdir()
    done = as_user("artifacts", "r", "--download_dir", locked / "in", code=1)
    assert "locked" in explained(done)
    done = as_user("artifacts", "r", "--download_dir", "/", code=1)
    assert "Permission" in done.stderr


def test_a_folder_that_is_gone(grid: Grid) -> None:
    folder = grid.cwd / "gone"
    folder.mkdir()
    command = f"cd {folder} && rmdir {folder} && exec {grid.command[0]} run ls"
    done = subprocess.run(["sh", "-c", command], env=grid.env, cwd=grid.cwd, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The current folder is gone.")


def test_a_script_that_gridignore_leaves_out(grid: Grid) -> None:
    save(grid, "*.py\n", ".gridignore")
    assert "script.py is left out" in explained(grid("run", save(grid, ""), code=1))


# --------------------------------------------------------------------------------------------------------- no space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB of its own."""
    if os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_no_space_for_a_download(grid: Grid, small_disk: Path) -> None:
    """It ends with one sentence, gives no name to what is not whole, and goes on when there is room."""
    ran(grid, "open('a', 'w').write('a'); open('big', 'wb').write(bytes(6_000_000))", name="d")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5_000_000))
    assert "No space left" in explained(grid("artifacts", "d-exp0", "--download_dir", small_disk, code=1))
    assert b"d-exp0/big" not in contents(small_disk)
    ballast.unlink()
    grid("artifacts", "d-exp0", "--download_dir", small_disk)
    assert contents(small_disk) == {b"d-exp0/a": b"a", b"d-exp0/big": bytes(6_000_000)}


def test_no_space_at_the_submission(grid: Grid, small_disk: Path) -> None:
    """Nothing is submitted, and nothing is left of it."""
    grid = grid.with_env(GRIDKEEP_HOME=str(small_disk / "home"), MARK=str(grid.home))
    save(grid, bytes(20_000_000), "data.bin")
    assert "space" in explained(grid("run", save(grid, ""), code=1)).lower()
    assert grid.json("status") == []
    assert os.listdir(small_disk / "home/work") == []


def test_no_space_for_what_a_run_writes(grid: Grid, small_disk: Path) -> None:
    """The home fills up while a run goes on: it waits, says for what, and loses nothing once there is room."""
    grid = grid.with_env(GRIDKEEP_HOME=str(small_disk / "home"), MARK=str(grid.home), GRIDKEEP_RETRY_MAX="1s")
    grid("status")
    ballast = small_disk / "ballast"
    outside = grid.cwd.parent / "result.bin"
    submitted(
        grid,
        f"""
        import os, time
        print("up", flush=True)
        while not os.path.exists({str(ballast)!r}): time.sleep(0.02)
        open({str(outside)!r}, "wb").write(b"kept" * 500_000)
        """,
        name="full",
    )
    wait_for(lambda: "up" in grid("logs", "full").stdout or None)
    ballast.write_bytes(bytes(6_500_000))
    one = wait_for(
        lambda: experiment(grid, "full-exp0") if experiment(grid, "full-exp0")["waiting_for"] else None
    )
    assert one["state"] in ("running", "syncing")
    assert "space" in one["waiting_for"].lower()
    ballast.unlink()
    (one,) = grid.finished("full", 60)
    assert (one["state"], one["missing"]) == ("completed", 0)
    grid("artifacts", "full-exp0")
    assert (
        contents(grid.cwd / "grid_artifacts/full-exp0")[b"_abs/" + os.fsencode(outside)[1:]]
        == b"kept" * 500_000
    )
