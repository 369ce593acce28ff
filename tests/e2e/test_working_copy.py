"""What code a run executes: its own copy of what stood there at its submission."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.e2e.support import contents, downloaded, experiment, inside, listed, ran, save
from tests.support import Grid, wait_for


def git(grid: Grid, *words: str) -> None:
    config = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *config, *words], cwd=grid.cwd, env=grid.env, check=True, capture_output=True)


def test_edits_after_the_submission_do_not_matter(grid: Grid) -> None:
    save(grid, "VALUE = 'old'", "module.py")
    save(grid, "import time; time.sleep(1); import module; print(module.VALUE)")
    grid("run", "--name", "first", "--parallel", "1", "script.py", "--i", "[1,2]")
    save(grid, "VALUE = 'new'", "module.py")
    save(grid, "raise SystemExit('new script')")
    assert [each["state"] for each in grid.finished("first")] == ["completed"] * 2
    assert [grid("logs", f"first-exp{i}").stdout for i in (0, 1)] == ["old\n", "old\n"]


def test_the_copy_is_gone_when_the_run_has_ended(grid: Grid) -> None:
    ran(grid, "open('f', 'w').write('x')", name="good")
    ran(grid, "open('f', 'w').write('x'); raise SystemExit(1)", name="bad")
    wait_for(lambda: not os.listdir(grid.home / "work") or None, what="an empty work folder")
    wait_for(lambda: not os.listdir(grid.home / "journal") or None, what="an empty journal folder")


def test_changed_inputs_are_artifacts_and_unchanged_ones_are_not(grid: Grid) -> None:
    for name in ("read", "same", "touched", "appended", "replaced", "chmod"):
        save(grid, f"{name}\n", f"data/{name}")
    save(grid, "kept\n", "data/removed")
    ran(
        grid,
        """
        import os
        open("data/read").read()
        os.utime("data/touched")
        open("data/same", "a").close()
        open("data/appended", "a").write("more")
        open("new", "w").write("replaced by rename")
        os.rename("new", "data/replaced")
        os.remove("data/removed")
        """,
        name="in",
    )
    files = downloaded(grid, "in-exp0")
    assert files[b"data/appended"] == b"appended\nmore"
    assert files[b"data/replaced"] == b"replaced by rename"
    assert not {b"data/read", b"data/same", b"data/removed", b"data/chmod", b"script.py"} & set(files)
    found = listed(grid, "in")
    assert "data/read" not in found
    assert "data/same" not in found
    assert "new" not in found, "a file that got its final name by rename has that name only"
    assert (grid.cwd / "data/appended").read_text() == "appended\n"
    assert (grid.cwd / "data/removed").exists()


def test_what_is_never_taken_is_said(grid: Grid) -> None:
    """Keys, caches, Gridkeep's own home: listed with the rule, and no byte of it kept."""
    ran(
        grid,
        """
        import os
        home = os.path.expanduser("~")
        for name in (home + "/.ssh/id", home + "/.aws/credentials", home + "/.cache/lib/blob", home + "/notes",
                     "__pycache__/x.pyc", "repo/.git/config", os.environ["GRIDKEEP_HOME"] + "/planted"):
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(name, "w") as file: file.write("secret")
        """,
        name="p",
    )
    user_home = Path(grid.env["HOME"])
    found = {path: (each["state"], each["reason"]) for path, each in listed(grid, "p").items()}
    assert found == {
        inside(user_home / ".ssh/id").decode(): ("ignored", "private"),
        inside(user_home / ".aws/credentials").decode(): ("ignored", "private"),
        inside(user_home / ".cache/lib/blob").decode(): ("ignored", "cache"),
        inside(user_home / "notes").decode(): ("stored", None),
        "__pycache__/x.pyc": ("ignored", "__pycache__"),
        "repo/.git/config": ("ignored", ".git"),
        inside(grid.home / "planted").decode(): ("ignored", "home"),
    }
    assert downloaded(grid, "p-exp0") == {inside(user_home / "notes"): b"secret"}
    (header, *_) = (json.loads(line) for line in manifest(grid, "p").splitlines())
    assert (header["totals"]["files"], header["totals"]["ignored"]) == (1, 6)


def manifest(grid: Grid, run: str) -> str:
    one = experiment(grid, f"{run}-exp0")
    return Path(grid.home, "store/experiments", one["experiment_id"], "manifest.jsonl").read_text()


def test_renames_and_removals(grid: Grid) -> None:
    ran(
        grid,
        """
        import os
        open("draft", "w").write("final"); os.rename("draft", "final")
        os.makedirs("folder/sub"); open("folder/sub/file", "w").write("moved along")
        os.rename("folder", "renamed")
        open("gone", "w").write("g"); os.remove("gone")
        """,
        name="mv",
    )
    assert downloaded(grid, "mv-exp0") == {b"final": b"final", b"renamed/sub/file": b"moved along"}
    found = {path: each["state"] for path, each in listed(grid, "mv").items()}
    assert found == {"final": "stored", "renamed/sub/file": "stored", "gone": "removed"}
    assert experiment_counts(grid, "mv") == (2, 16)


def experiment_counts(grid: Grid, run: str) -> tuple[int, int]:
    (run_shape,) = [each for each in grid.json("history") if each["name"] == run]
    return run_shape["artifacts"], run_shape["bytes"]


def test_in_a_git_checkout_the_root_is_copied_and_the_script_starts_in_its_folder(grid: Grid) -> None:
    git(grid, "init")
    save(grid, "from the root", "data/in.txt")
    save(grid, "open('out.txt', 'w').write(open('../data/in.txt').read())", "code/deep.py")
    grid("run", "--follow", "--name", "sub", "deep.py", cwd=grid.cwd / "code")
    assert downloaded(grid, "sub-exp0") == {b"code/out.txt": b"from the root"}
    assert not (grid.cwd / "code/out.txt").exists()


def test_git_itself_is_left_out(grid: Grid) -> None:
    git(grid, "init")
    grid("run", "--follow", "--name", "ls", save(grid, "import os; print(sorted(os.listdir()))"))
    assert grid("logs", "ls").stdout == "['script.py']\n"


def test_gridignore_leaves_out_and_gitignore_does_not(grid: Grid) -> None:
    git(grid, "init")
    save(grid, "ignored.by.git\n", ".gitignore")
    save(grid, "*.big\n!kept.big\n/scratch/\n", ".gridignore")
    for name in ("ignored.by.git", "a.big", "kept.big", "scratch/x", "deep/b.big", "deep/c"):
        save(grid, "x", name)
    text = "import os; print(sorted(os.path.join(d, f)[2:] for d, _, fs in os.walk('.') for f in fs))"
    grid("run", "--follow", "--name", "ig", save(grid, text))
    seen = grid("logs", "ig").stdout
    assert seen.strip() == str(
        [".gitignore", ".gridignore", "deep/c", "ignored.by.git", "kept.big", "script.py"]
    )


def test_an_ignored_outputs_folder_is_each_experiments_own(grid: Grid) -> None:
    git(grid, "init")
    save(grid, "outputs/\n", ".gitignore")
    save(grid, "mine", "outputs/before.txt")
    save(
        grid,
        "import sys; open('outputs/before.txt', 'a').write(sys.argv[2]); open('outputs/new', 'w').write('n')",
    )
    grid("run", "--follow", "--name", "own", "script.py", "--x", "['a','b']")
    grid("artifacts", "own")
    for i, letter in enumerate((b"a", b"b")):
        files = contents(grid.cwd / f"grid_artifacts/own/own-exp{i}")
        assert files == {b"outputs/before.txt": b"mine" + letter, b"outputs/new": b"n"}
    assert contents(grid.cwd / "outputs") == {b"before.txt": b"mine"}


def test_large_ignored_things_are_linked_and_named(grid: Grid) -> None:
    git(grid, "init")
    save(grid, "*.bin\nvenv/\nmany/\nsmall/\n", ".gitignore")
    save(grid, bytes(10_000_001), "large.bin")
    save(grid, bytes(100), "little.bin")
    save(grid, "home = /usr", "venv/pyvenv.cfg")
    for i in range(1001):
        save(grid, b"", f"many/{i}")
    save(grid, "s", "small/file")
    save(
        grid,
        """
        import os
        print(sorted(n for n in os.listdir() if os.path.islink(n)))
        open("many/written", "w").write("through the link")
        open("small/written", "w").write("mine")
        """,
    )
    done = grid("run", "--follow", "--name", "ln", "script.py")
    assert "Linked:      large.bin, many, venv" in done.stderr
    assert grid("logs", "ln").stdout == "['large.bin', 'many', 'venv']\n"
    assert downloaded(grid, "ln-exp0") == {b"many/written": b"through the link", b"small/written": b"mine"}
    assert (grid.cwd / "many/written").exists()
    assert not (grid.cwd / "small/written").exists()
    assert "share" in listed(grid, "ln")["many/written"]["reason"]


def test_a_large_copy_is_warned_of_and_a_huge_one_refused(grid: Grid) -> None:
    save(grid, "print(1)")
    save(grid, bytes(60_000), "weights.bin")
    save(grid, bytes(20_000), "data/train.bin")
    done = grid("run", "script.py", env={"GRIDKEEP_COPY_WARN": "50kB"})
    assert "weights.bin" in done.stderr
    refused = grid("run", "script.py", env={"GRIDKEEP_COPY_LIMIT": "50kB"}, code=1)
    assert "weights.bin" in refused.stderr
    assert ".gridignore" in refused.stderr


def test_what_was_downloaded_is_linked_and_not_copied_into_every_run(grid: Grid) -> None:
    ran(grid, "open('model', 'wb').write(bytes(5_000_000))", name="first")
    grid("artifacts", "first")
    save(grid, "import os; print(os.path.getsize('grid_artifacts/first/first-exp0/model'))")
    done = grid("run", "--follow", "--name", "second", "script.py")
    assert re.search(r"Code: .*: 2 files, \d+ B\n", done.stderr), "the model was copied"
    assert "Linked:      grid_artifacts\n" in done.stderr
    assert grid("logs", "second").stdout == "5000000\n"
    assert listed(grid, "second") == {}


def test_links_and_modes_come_along(grid: Grid) -> None:
    save(grid, "#!/bin/sh\necho tool runs\n", "bin/tool")
    (grid.cwd / "bin/tool").chmod(0o755)
    (grid.cwd / "link").symlink_to("bin")
    (grid.cwd / "outward").symlink_to("../elsewhere")
    Path(grid.cwd.parent / "elsewhere").write_text("reached")
    save(grid, "import subprocess; subprocess.run(['link/tool']); print(open('outward').read())")
    assert grid("run", "--follow", "script.py").stdout.startswith("tool runs\nreached\n")
