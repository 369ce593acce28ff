"""`grid artifacts`: everything listed comes back byte-identical; only what is needed is fetched; nothing lands outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.support import contents, explained, in_terminal, inside, listed, ran, save, submitted
from tests.support import Grid, wait_for

KEYS = ["experiment", "artifact_id", "path", "type", "size", "sha256", "modified_at", "state", "reason"]


def objects(grid: Grid) -> list[Path]:
    """What the store holds of artifacts."""
    return [
        Path(at, name)
        for at, _, names in os.walk(grid.home / "store")
        for name in names
        if "/artifacts" in at
    ]


# --------------------------------------------------------------------------------------------------- where files go


def test_layouts_of_runs_and_experiments_mix(grid: Grid, tmp_path: Path) -> None:
    outside = tmp_path / "out.txt"
    save(
        grid,
        f"""
        import os, sys
        os.mkdir("d"); open("d/f", "w").write(sys.argv[2])
        open({str(outside)!r}, "w").write("outside")
        """,
    )
    grid("run", "--follow", "--name", "s", "--parallel", "1", "script.py", "--x", "['a','b']")
    ran(grid, "open('only', 'w').write('o')", name="other")
    done = grid("artifacts", "s", "s-exp1", "other-exp0")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines == ["Done downloading artifacts!", "7 files, 25 B, in ./grid_artifacts"]
    assert contents(grid.cwd / "grid_artifacts") == {
        b"s/s-exp0/d/f": b"a",
        b"s/s-exp0/" + inside(outside): b"outside",
        b"s/s-exp1/d/f": b"b",
        b"s/s-exp1/" + inside(outside): b"outside",
        b"s-exp1/d/f": b"b",
        b"s-exp1/" + inside(outside): b"outside",
        b"other-exp0/only": b"o",
    }
    grid("artifacts", "s-exp0", "--download_dir", tmp_path / "else where")
    assert set(contents(tmp_path / "else where/s-exp0")) == {b"d/f", inside(outside)}


def test_entries_called_abs_and_enc_come_back_beside_what_is_outside(grid: Grid, tmp_path: Path) -> None:
    outside = tmp_path / "o"
    ran(
        grid,
        f"""
        import os
        os.makedirs("_abs/tmp"); os.mkdir("_enc")
        for name in ("_abs/tmp/x", "_enc/y", {str(outside)!r}): open(name, "w").write(name)
        """,
        name="a",
    )
    done = grid("artifacts", "a-exp0")
    assert contents(grid.cwd / "grid_artifacts/a-exp0") == {
        b"_abs_work/tmp/x": b"_abs/tmp/x",
        b"_enc_work/y": b"_enc/y",
        inside(outside): os.fsencode(outside),
    }
    assert "_abs_work" in done.stderr
    assert "_enc_work" in done.stderr


def test_times_and_the_executable_bit_come_along(grid: Grid) -> None:
    ran(
        grid,
        """
        import os
        for name, mode in (("run", 0o700), ("read", 0o600)):
            open(name, "w").write(name); os.chmod(name, mode); os.utime(name, ns=(0, 1_234_567_890_123_456_789))
        """,
        name="m",
    )
    grid("artifacts", "m-exp0")
    folder = grid.cwd / "grid_artifacts/m-exp0"
    assert os.access(folder / "run", os.X_OK) or os.stat(folder / "run").st_mode & 0o100
    assert not os.stat(folder / "read").st_mode & 0o111
    assert (
        os.stat(folder / "run").st_mtime_ns
        == os.stat(folder / "read").st_mtime_ns
        == 1_234_567_890_123_456_789
    )
    assert listed(grid, "m")["run"]["modified_at"] == "2009-02-13T23:31:30.123457Z"


# ------------------------------------------------------------------------------------------------ only what is needed


def test_the_second_download_brings_nothing(grid: Grid) -> None:
    ran(grid, "open('a', 'w').write('a'); open('b', 'wb').write(bytes(3_000_000))", name="i")
    grid("artifacts", "i")
    folder = grid.cwd / "grid_artifacts/i/i-exp0"
    before = {name: os.stat(folder / name) for name in ("a", "b")}
    done = grid("artifacts", "i")
    assert "(0 downloaded, 2 were there already)" in done.stderr
    for name, stat in before.items():
        now = os.stat(folder / name)
        assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (
            stat.st_ino,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
        )


def test_a_changed_removed_or_planted_file_is_made_right(grid: Grid, tmp_path: Path) -> None:
    ran(grid, "[open(n, 'w').write(n * 9) for n in ('same', 'flipped', 'cut', 'lost', 'link')]", name="c")
    grid("artifacts", "c-exp0")
    folder = grid.cwd / "grid_artifacts/c-exp0"
    good = contents(folder)
    time_of = os.stat(folder / "flipped").st_mtime_ns
    (folder / "flipped").write_text("FLIPPED" * 9)
    os.utime(folder / "flipped", ns=(time_of, time_of))
    (folder / "cut").write_text("cu")
    (folder / "lost").unlink()
    (folder / "link").unlink()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "link").symlink_to(victim)
    (folder / "own notes").write_text("not from the run")
    done = grid("artifacts", "c-exp0")
    assert "(4 downloaded, 1 were there already)" in done.stderr
    assert contents(folder) == {**good, b"own notes": b"not from the run"}
    assert victim.read_text() == "mine"
    assert not (folder / "link").is_symlink()


def test_a_folder_that_was_made_a_link_leads_nowhere(grid: Grid, tmp_path: Path) -> None:
    ran(grid, "import os; os.mkdir('d'); open('d/f', 'w').write('x'); open('g', 'w').write('y')", name="l")
    (tmp_path / "outside").mkdir()
    folder = grid.cwd / "grid_artifacts/l-exp0"
    folder.mkdir(parents=True)
    (folder / "d").symlink_to(tmp_path / "outside")
    done = grid("artifacts", "l-exp0", code=1)
    assert os.listdir(tmp_path / "outside") == []
    assert "d/f" in done.stderr
    assert (folder / "g").read_text() == "y", "the others come all the same"


@pytest.mark.xdist_group("heavy")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_a_download_that_was_cut_off_goes_on(grid: Grid, sign: signal.Signals) -> None:
    size = 250_000_000
    ran(
        grid,
        f"""
        import os
        open("small", "w").write("s")
        with open("large", "wb") as file:
            block = os.urandom(1_000_000)
            for _ in range({size} // 1_000_000): file.write(block)
        """,
        name="cut",
    )
    folder = grid.cwd / "grid_artifacts/cut-exp0"
    partial = folder / "large.partial"
    process = grid.start("artifacts", "cut-exp0")
    wait_for(lambda: (partial.exists() and partial.stat().st_size > 20_000_000) or None, what="a part")
    process.send_signal(sign)
    _, err = process.communicate(timeout=20)
    assert process.returncode == (130 if sign == signal.SIGINT else -9)
    assert b"Traceback" not in err
    have = partial.stat().st_size
    assert 20_000_000 < have < size, "it was over before it could be cut off"
    assert set(contents(folder)) <= {b"large.partial", b"small"}, "a name was given to what is not whole"
    inode = partial.stat().st_ino
    grid("artifacts", "cut-exp0")
    assert (folder / "large").stat().st_ino == inode, "it began again instead of going on"
    assert sorted(contents(folder)) == [b"large", b"small"]
    assert listed(grid, "cut")["large"]["sha256"] == sha256(folder / "large")
    assert os.listdir(grid.cwd / "grid_artifacts") == ["cut-exp0"], "something was left behind"


def sha256(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_a_part_of_something_else_is_not_gone_on_with(grid: Grid) -> None:
    ran(grid, "open('large', 'wb').write(b'good' * 1_000_000)", name="p")
    folder = grid.cwd / "grid_artifacts/p-exp0"
    folder.mkdir(parents=True)
    (folder / "large.partial").write_bytes(b"evil" * 500_000)
    grid("artifacts", "p-exp0")
    assert contents(folder) == {b"large": b"good" * 1_000_000}


# ---------------------------------------------------------------------------------------------------------- filters


def test_filters(grid: Grid) -> None:
    ran(
        grid,
        r"""
        import os
        os.mkdir("logs")
        for name in (b"logs/a.txt", b"logs/b.bin", b"c.txt", b"new\nline.txt", b"\xff.txt"):
            open(name, "wb").write(name)
        """,
        name="f",
    )

    def paths(*options: str) -> set[bytes]:
        target = grid.cwd / f"to{time.monotonic_ns()}"
        grid("artifacts", "f-exp0", "--download_dir", target, *options)
        return set(contents(target / "f-exp0")) if target.exists() else set()

    assert paths("-m", r"\.txt$") == {b"logs/a.txt", b"c.txt", b"new\nline.txt", b"\xff.txt"}
    assert paths("--match_regex", "^logs/") == {b"logs/a.txt", b"logs/b.bin"}
    assert paths("-m", "b") == {b"logs/b.bin"}
    assert paths("-m", "B") == set()
    assert paths("--type", "file", "-m", "c") == {b"c.txt"}
    assert paths("--type", "screenshot") == set()
    assert [each["path"] for each in grid.json("artifacts", "f", "-m", "bin$")] == ["logs/b.bin"]


def test_all_brings_removed_files_that_had_been_stored(grid: Grid) -> None:
    submitted(
        grid,
        """
        import os, time
        open("later gone", "w").write("was stored")
        open("at once", "w").write("never was"); os.remove("at once")
        while not os.path.exists("go"):
            time.sleep(0.05)
            if os.path.exists(os.environ["GATE"]): break
        os.remove("later gone")
        """,
        options=("--env", f"GATE={grid.cwd.parent}/gate"),
        name="r",
    )
    wait_for(lambda: listed(grid, "r").get("later gone", {}).get("state") == "stored" or None)
    (grid.cwd.parent / "gate").touch()
    grid.finished("r")
    found = listed(grid, "r")
    assert {path: (each["state"], each["size"]) for path, each in found.items()} == {
        "later gone": ("removed", 10),
        "at once": ("removed", None),
    }
    grid("artifacts", "r")
    assert contents(grid.cwd / "grid_artifacts") == {}
    grid("artifacts", "r", "--all")
    assert contents(grid.cwd / "grid_artifacts") == {b"r/r-exp0/later gone": b"was stored"}


# ------------------------------------------------------------------------------------------------------------- JSON


def test_json_lists_and_downloads_nothing(grid: Grid) -> None:
    ran(grid, r"open('a', 'w').write('abc'); open(b'\xfe', 'w')", name="j")
    (a, odd) = grid.json("artifacts", "j")
    assert list(a) == KEYS
    assert list(odd) == [*KEYS[:3], "path_b64", *KEYS[3:]]
    assert (a["experiment"], a["path"], a["type"], a["size"], a["state"], a["reason"]) == (
        *("j-exp0", "a", "file", 3, "stored", None),
    )
    assert a["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert re.fullmatch(r"art_[0-9a-hjkmnp-tv-z]{26}", a["artifact_id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", a["modified_at"])
    assert (odd["path"], odd["path_b64"]) == ("\ufffd", "/g==")
    assert not (grid.cwd / "grid_artifacts").exists()


def test_json_is_utf8_whatever_the_locale(grid: Grid) -> None:
    ran(grid, "open('\u00e9\U0001f389', 'w')", name="u")
    out = grid("artifacts", "u", "--json", env={"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii"})
    assert json.loads(out.stdout_bytes.decode("utf-8"))[0]["path"] == "\u00e9\U0001f389"
    assert "\\xe9" in grid("ls", "u", env={"PYTHONIOENCODING": "ascii"}).stdout


# ------------------------------------------------------------------------------------------------------ when not all


def test_what_the_store_lost_is_named_and_the_rest_comes(grid: Grid) -> None:
    ran(grid, "[open(n, 'w').write(n * 100) for n in ('good', 'rotten', 'lost')]", name="b")
    for path in objects(grid):
        if path.name == "rotten":
            path.chmod(0o600)
            path.write_text("ROTTEN" * 100)
        if path.name == "lost":
            path.unlink()
    done = grid("artifacts", "b-exp0", code=1)
    assert contents(grid.cwd / "grid_artifacts/b-exp0") == {b"good": b"good" * 100}
    assert "Done downloading artifacts!" in done.stderr
    for name in ("rotten", "lost"):
        assert len([line for line in done.stderr.splitlines() if f"b-exp0: {name}: " in line]) == 1, str(done)
    assert os.listdir(grid.cwd / "grid_artifacts") == ["b-exp0"]


def test_missing_artifacts_are_named(as_user: Grid) -> None:
    """A file that nobody may read, not even the run's own user."""
    save(
        as_user, "import os; open('secret', 'w').write('x'); os.chmod('secret', 0); open('f', 'w').write('f')"
    )
    as_user("run", "--follow", "--name", "n", "script.py")
    secret = listed(as_user, "n")["secret"]
    assert (secret["state"], secret["reason"]) == ("missing", "cannot be read: Permission denied")
    assert as_user.json("status", "n")[0]["missing"] == 1
    done = as_user("artifacts", "n", code=None)
    assert "n-exp0: secret: cannot be read: Permission denied" in done.stderr
    assert contents(as_user.cwd / "grid_artifacts/n/n-exp0") == {b"f": b"f"}


def test_what_was_stored_stays_where_what_came_after_cannot_be_read(as_user: Grid) -> None:
    gate = as_user.cwd / "gate"
    submitted(
        as_user,
        f"""
        import os, time
        open("f", "w").write("first")
        while not os.path.exists({str(gate)!r}): time.sleep(0.02)
        open("f", "a").write(", second")
        os.chmod("f", 0)
        """,
        name="n",
    )
    wait_for(lambda: listed(as_user, "n").get("f", {}).get("state") == "stored" or None)
    gate.touch()
    (one,) = as_user.finished("n")
    f = listed(as_user, "n")["f"]
    assert (f["state"], f["reason"]) == ("missing", "cannot be read: Permission denied")
    kept = as_user.home / "store/experiments" / one["experiment_id"] / "artifacts/f"
    assert kept.read_bytes() == b"first"
    as_user("verify", "--deep", "n", code=None)


def test_while_a_run_goes_on_what_is_stored_comes(grid: Grid) -> None:
    gate = grid.cwd.parent / "gate"
    submitted(
        grid,
        f"""
        import os, time
        open("early", "w").write("early")
        log = open("growing", "w"); log.write("x"); log.flush()
        while not os.path.exists({str(gate)!r}): time.sleep(0.02)
        open("late", "w").write("late")
        """,
        name="w",
    )
    wait_for(lambda: listed(grid, "w").get("early", {}).get("state") == "stored" or None)
    done = grid("artifacts", "w")
    assert contents(grid.cwd / "grid_artifacts/w/w-exp0") == {b"early": b"early"}
    assert "w-exp0: growing: " in done.stderr
    assert "w-exp0 goes on" in done.stderr
    follower = grid.start("artifacts", "w", "--follow")
    wait_for(lambda: listed(grid, "w")["growing"]["state"] == "growing" or None)
    assert follower.poll() is None
    gate.touch()
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    assert contents(grid.cwd / "grid_artifacts/w/w-exp0") == {
        b"early": b"early",
        b"growing": b"x",
        b"late": b"late",
    }


def test_two_downloads_into_one_folder_at_once(grid: Grid) -> None:
    ran(grid, "[open(f'{i}', 'wb').write(bytes(2_000_000)) for i in range(20)]", name="t")
    both = [grid.start("artifacts", "t") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert contents(grid.cwd / "grid_artifacts/t/t-exp0") == {b"%d" % i: bytes(2_000_000) for i in range(20)}
    assert os.listdir(grid.cwd / "grid_artifacts") == ["t"]


# ------------------------------------------------------------------------------------------------------- how it looks


@pytest.mark.xdist_group("heavy")
def test_bars_on_a_terminal_and_none_elsewhere(grid: Grid) -> None:
    ran(grid, "open('big', 'wb').write(bytes(200_000_000))", name="b")
    shown = in_terminal(grid, "artifacts", "b")
    assert shown.returncode == 0
    assert re.search(r"files.*0/1", shown.text), shown.text
    assert re.search(r"bytes.*[\d.]+ MB/200\.0 MB", shown.text), shown.text
    assert "MB/s" in shown.text
    assert shown.text.rstrip().endswith("in ./grid_artifacts")
    plain = in_terminal(grid, "artifacts", "b", "--download_dir", "other", env={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[\d;]*[13]\d*m", plain.text), plain.text
    piped = grid("artifacts", "b", "--download_dir", "third")
    assert "\x1b" not in piped.stderr
    assert "\r" not in piped.stderr


def test_bucket_path_of_several_names(grid: Grid) -> None:
    save(grid, "open('f', 'w')")
    grid("run", "--follow", "--name", "a", "script.py", "--x", "[1,2]")
    ran(grid, "", name="b")
    lines = grid("artifacts", "--bucket_path", "a", "b-exp0").stdout.splitlines()
    assert [re.split(r" *│ *", line)[1] for line in lines[3:-1]] == ["a-exp0", "a-exp1", "b-exp0"]


def test_nothing_to_download(grid: Grid) -> None:
    ran(grid, "", name="none")
    done = grid("artifacts", "none")
    assert done.stderr.splitlines()[0] == "Done downloading artifacts!"
    assert "0 files, 0 B" in done.stderr


def test_unknown_names_stop_everything_before_it_begins(grid: Grid) -> None:
    ran(grid, "open('f', 'w')", name="known")
    assert (
        explained(grid("artifacts", "known", "nobody", code=1))
        == "nobody does not exist - can not get artifacts"
    )
    assert not (grid.cwd / "grid_artifacts").exists()
