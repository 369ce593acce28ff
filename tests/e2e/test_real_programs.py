"""Programs that people run, unchanged under capture: each behaves as without it, and all that it wrote is kept."""

from __future__ import annotations

import glob
import json
import re
import sqlite3
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.e2e.programs import OUTSIDE, need, run_both_ways
from tests.support import Grid

PROJECTS = "/usr/src/binutils"  # Debian's binutils-source

MODES = pytest.mark.parametrize("mode", ["c", "python"])
SANDBOX = "no user namespaces here"


# ------------------------------------------------------------------------------------------------- building in C


@pytest.fixture(scope="session")
def c_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zlib as the GNU binary utilities bring it, with all that its build needs."""
    need("cc", "make", PROJECTS)
    target = tmp_path_factory.mktemp("c-project")
    (archive,) = glob.glob(f"{PROJECTS}/binutils-*.tar.*")
    folders = ["config", "include", "zlib"]
    scripts = [
        "*.*",
        "compile",
        "configure",
        "depcomp",
        "install-sh",
        "missing",
        "mkinstalldirs",
        "move-if-change",
    ]
    wanted = [f"binutils-*/{name}" for name in folders + scripts]
    options = ["--strip-components=1", "--wildcards", "--no-wildcards-match-slash"]
    subprocess.run(["tar", "-xf", archive, "-C", target, *options, *wanted], check=True)
    return target


def test_make_of_a_c_project(grid: Grid, c_project: Path) -> None:
    build = """
        mkdir build && cd build
        ../source/configure --quiet --disable-nls CFLAGS=-O0 > configured 2>&1
        make -j2 CFLAGS=-O0 all-zlib > made 2>&1
        ar t zlib/libz.a
        make DESTDIR="$OUT" install-zlib > installed 2>&1
    """
    c_project.rename(grid.cwd / "source")
    trial = run_both_ways(grid, build, varying=r"/conftest|/confdefs")
    assert trial.kept["build/zlib/libz.a"].startswith(b"!<arch>")


def test_a_static_binary(grid: Grid) -> None:
    need("cc")
    source = """
        #include <fcntl.h>
        #include <unistd.h>
        int main(void) {
            int here = open("by-static", O_WRONLY | O_CREAT | O_TRUNC, 0644);
            return write(here, "no libc was loaded\\n", 19) != 19 || rename("by-static", "renamed");
        }
    """
    trial = run_both_ways(
        grid, "cc -static -o writer writer.c && ./writer && rm writer.c", {"writer.c": source}
    )
    assert trial.kept["renamed"] == b"no libc was loaded\n"


# ------------------------------------------------------------------------------------------------- bringing things


def wheel_of(name: str, folder: Path) -> Path:
    """A wheel made again of a package that is installed here: what an index would give, without a network."""
    distribution = metadata.distribution(name)
    path = folder / f"{name}-{distribution.version}-{wheel_tag(distribution)}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in distribution.files or ():
            if not {"..", "__pycache__", "INSTALLER", "REQUESTED", "direct_url.json"} & set(file.parts):
                wheel.write(file.locate(), str(file))
    return path


def wheel_tag(distribution: metadata.Distribution) -> str:
    tags = [line[5:] for line in (distribution.read_text("WHEEL") or "").splitlines() if line[:5] == "Tag: "]
    parts = (sorted(set(part)) for part in zip(*(tag.split("-") for tag in tags), strict=True))
    return "-".join(".".join(part) for part in parts)


def install(grid: Grid, package: str, way: str) -> dict[str, bytes]:
    """What is kept of `pip install` of a package, which is then imported; pip itself lies outside."""
    (grid.cwd / "wheels").mkdir()
    wheel_of(package, grid.cwd / "wheels")
    tools = grid.cwd.parent / "tools"
    with zipfile.ZipFile(wheel_of("pip", grid.cwd.parent)) as pip:
        pip.extractall(tools)
    if grid.uid is not None:
        subprocess.run(["chown", "-R", f"{grid.uid}:{grid.uid}", tools, grid.cwd], check=True)
    grid = grid.with_env(
        PYTHONPATH=str(tools), PIP_CONFIG_FILE="/dev/null", PIP_NO_INDEX="1", PIP_FIND_LINKS="wheels"
    )
    return run_both_ways(grid, way.replace("PACKAGE", package)).kept


def test_pip_install_of_a_compiled_package(grid: Grid) -> None:
    way = """
        python -m venv --without-pip env
        python -m pip --python env/bin/python install PACKAGE
        env/bin/python -c 'import PACKAGE; print(PACKAGE.__version__)'
    """
    assert len(install(grid, "numpy", way)) > 800


def test_pip_install_by_an_ordinary_user(as_user: Grid) -> None:
    way = """
        python -m pip install --target "$OUT/target" PACKAGE
        PYTHONPATH="$OUT/target" python -c 'import PACKAGE; print(PACKAGE.__version__)'
    """
    assert len(install(as_user, "pygments", way)) > 300


@MODES
def test_git_clone(grid: Grid, tmp_path: Path, mode: str) -> None:
    origin = """
        git init --quiet --initial-branch main origin && cd origin
        for i in $(seq 200); do mkdir -p "d$((i % 7))"; seq "$i" 400 > "d$((i % 7))/file $i"; done
        git add . && git commit --quiet -m first
        git rm --quiet -r d3 && echo more >> 'd1/file 1' && git commit --quiet -am second
    """
    who = {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    when = {f"GIT_{role}_DATE": "2024-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER")}
    grid = grid.with_env(**who, **when, ORIGIN=f"file://{tmp_path}/origin", GIT_CONFIG_NOSYSTEM="1")
    subprocess.run(["sh", "-ec", origin], cwd=tmp_path, env=grid.env, check=True)
    program = """
        git clone --quiet "$ORIGIN" work && cd work
        git checkout --quiet -b older HEAD~1 && test -d d3
        git checkout --quiet main && ! test -e d3
        echo changed > 'd2/file 2' && git stash --quiet && git stash pop --quiet
        git commit --quiet -am third && git gc --quiet && git fsck && git log --format=%s
        git archive --format=tar.gz -o ../archive.tar.gz HEAD
        git clone --quiet --bare . "$OUT/bare" && git --git-dir "$OUT/bare" fsck
        git worktree add --quiet ../older older
    """
    trial = run_both_ways(grid, program, mode=mode, varying=r"/pack/pack-|/objects/")
    assert trial.kept["work/d2/file 2"] == b"changed\n"
    assert "older/d3/file 3" in trial.kept


def test_npm_install(grid: Grid, tmp_path: Path) -> None:
    need("npm", "node")
    leaf = {"name": "leaf", "version": "1.2.3", "main": "lib/0.js", "files": ["lib"]}
    tree = {
        "name": "tree",
        "version": "2.0.0",
        "bin": {"shake": "shake.js"},
        "scripts": {"postinstall": "node shake.js built.txt"},
        "dependencies": {"leaf": f"file:{tmp_path}/packed/leaf-1.2.3.tgz"},
    }
    shake = (
        "#!/usr/bin/env node\nrequire('fs').writeFileSync(process.argv[2], `${require('leaf')} fell\\n`)\n"
    )
    for package in (leaf, tree):
        folder = tmp_path / "packages" / str(package["name"])
        (folder / "lib").mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps(package))
        (folder / "shake.js").write_text(shake)
        for i in range(400):
            (folder / f"lib/{i}.js").write_text(f"module.exports = {i};\n" * 50)
    packages = [tmp_path / "packages" / name for name in ("leaf", "tree")]
    npm = {**grid.env, "HOME": str(tmp_path), "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    (tmp_path / "packed").mkdir()
    subprocess.run(["npm", "pack", "--silent", *packages], cwd=tmp_path / "packed", env=npm, check=True)
    program = """
        npm init --yes > /dev/null
        npm install --offline --no-audit --no-fund "$PACKED/leaf-1.2.3.tgz" "$PACKED/tree-2.0.0.tgz" > installed
        npx --offline shake here && cat here node_modules/tree/built.txt
        npm ci --offline --no-audit --no-fund > again
    """
    trial = run_both_ways(
        grid.with_env(PACKED=f"{tmp_path}/packed", NPM_CONFIG_UPDATE_NOTIFIER="false"),
        program,
        varying=r"/_cacache/|/_logs/",
    )
    assert trial.kept["node_modules/tree/built.txt"] == b"0 fell\n"
    assert len([path for path in trial.kept if path.startswith("node_modules/leaf/lib/")]) == 400


# ------------------------------------------------------------------------------------------------- databases


@MODES
def test_sqlite(grid: Grid, tmp_path: Path, mode: str) -> None:
    need("sqlite3")
    program = """
        sqlite3 a.db 'PRAGMA journal_mode=wal; CREATE TABLE t (i INTEGER PRIMARY KEY, x BLOB);'
        for writer in 1 2 3; do
            for n in $(seq 20); do
                echo "PRAGMA busy_timeout=20000; INSERT INTO t (x) VALUES (randomblob(5000));"
            done | sqlite3 a.db > /dev/null &
        done
        wait
        sqlite3 a.db "SELECT count(*) FROM t; VACUUM INTO '$OUT/vacuumed.db'; DELETE FROM t WHERE i % 2; VACUUM;"
        sqlite3 a.db '.backup backup.db'
        sqlite3 a.db 'PRAGMA journal_mode=delete; DELETE FROM t WHERE i % 3; SELECT count(*) FROM t;'
        sqlite3 -cmd '.mode csv' -cmd '.output rows.csv' a.db 'SELECT i, length(x) FROM t;'
        sqlite3 open.db 'PRAGMA journal_mode=wal; CREATE TABLE t (i); INSERT INTO t VALUES (1);' '.shell kill -9 $PPID' ||
            test $? = 137
    """
    trial = run_both_ways(grid, program, mode=mode)
    for path, rows in {"a.db": 10, "backup.db": 30, f"{OUTSIDE}out/vacuumed.db": 60}.items():
        (tmp_path / "kept.db").write_bytes(trial.kept[path])
        with sqlite3.connect(tmp_path / "kept.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM t").fetchall() == [(rows,)]
    assert trial.artifacts["a.db-wal"]["state"] == "removed"


def test_duckdb(grid: Grid) -> None:
    program = """
        import duckdb, os
        base = duckdb.connect("facts.duckdb", config={"memory_limit": "60MB", "threads": 2, "temp_directory": "spill"})
        base.execute("CREATE TABLE t AS SELECT i, i % 5 AS part, hash(i) AS h FROM range(1500000) r(i)")
        base.execute("UPDATE t SET h = 0 WHERE part = 3")
        base.execute("CHECKPOINT")
        base.execute(f"COPY t TO '{os.environ['OUT']}/parts' (FORMAT parquet, PARTITION_BY (part))")
        base.execute("COPY (SELECT * FROM t ORDER BY h) TO 'ordered.csv.gz'")
        print(base.sql("SELECT part, count(*), max(h) FROM t GROUP BY part ORDER BY part"))
        base.execute("EXPORT DATABASE 'exported' (FORMAT csv)")
        base.close()
        print(duckdb.connect("facts.duckdb", read_only=True).sql("SELECT count(*) FROM t"))
        print(duckdb.sql(f"SELECT sum(i) FROM '{os.environ['OUT']}/parts/*/*.parquet'"))
    """
    trial = run_both_ways(grid, "python work.py", {"work.py": program})
    assert any(path.startswith(f"{OUTSIDE}out/parts/part=4/") for path in trial.kept)


# ------------------------------------------------------------------------------------------------- training and notebooks


def test_training_with_checkpoints_and_figures(grid: Grid) -> None:
    program = """
        import csv, json, os, pickle
        import joblib, matplotlib, numpy as np
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import SGDClassifier
        from sklearn.model_selection import cross_val_score

        x, y = make_classification(3000, 20, random_state=0)
        seen = np.memmap("seen.dat", dtype="float32", mode="w+", shape=x.shape)
        model, losses = SGDClassifier(loss="log_loss", random_state=0), []
        os.makedirs("checkpoints")
        for epoch in range(12):
            model.partial_fit(x[epoch::12], y[epoch::12], classes=[0, 1])
            seen[epoch::12] = x[epoch::12]
            losses.append(float(model.score(x, y)))
            with open("checkpoints/new", "wb") as file:
                pickle.dump(model, file)
            os.replace("checkpoints/new", f"checkpoints/{epoch:03}.pkl")
            os.path.lexists("checkpoints/last.pkl") and os.remove("checkpoints/last.pkl")
            os.link(f"checkpoints/{epoch:03}.pkl", "checkpoints/last.pkl")
            with open("history.csv", "a", newline="") as file:
                csv.writer(file).writerow([epoch, losses[-1]])
        seen.flush()
        forest = RandomForestClassifier(10, random_state=0, n_jobs=2).fit(x, y)
        scores = cross_val_score(SGDClassifier(random_state=0), x, y, cv=2, n_jobs=2)
        joblib.dump(forest, os.environ["OUT"] + "/forest.joblib", compress=3)
        np.savez_compressed("scores", scores=scores)
        figure, axes = plt.subplots()
        axes.plot(losses)
        for form in ("png", "pdf", "svg"):
            figure.savefig(f"curve.{form}")
        json.dump({"losses": losses, "scores": list(scores)}, open("metrics.json", "w"))
        print(forest.score(x, y), losses[-1], scores)
    """
    trial = run_both_ways(grid, "python train.py", {"train.py": program})
    assert trial.kept["checkpoints/last.pkl"] == trial.kept["checkpoints/011.pkl"]
    assert len(trial.kept["history.csv"].splitlines()) == 12
    assert trial.kept["curve.png"].startswith(b"\x89PNG") and trial.kept["curve.pdf"].endswith(b"%%EOF\n")


def test_a_notebook_executed(grid: Grid) -> None:
    cells = [
        "open('from-the-kernel.txt', 'w').write('x' * 1000)",
        "%%bash\necho from a cell > by-magic.txt",
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);",
        "print(6 * 7)",
    ]
    code: dict[str, object] = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": kernel,
        "cells": [{**code, "id": f"cell-{i}", "source": cell} for i, cell in enumerate(cells)],
    }
    program = """
        jupyter nbconvert --to notebook --execute --output done.ipynb work.ipynb
        jupyter nbconvert --to html --output-dir "$OUT" done.ipynb
    """
    trial = run_both_ways(
        grid,
        program,
        {"work.ipynb": json.dumps(notebook)},
        same=lambda output: "\n".join(line for line in output.splitlines() if "Writing" not in line),
    )
    done = json.loads(trial.kept["done.ipynb"])
    assert done["cells"][3]["outputs"][0]["text"] == ["42\n"]
    assert "image/png" in done["cells"][2]["outputs"][-1]["data"]
    assert trial.kept["by-magic.txt"] == b"from a cell\n"


# ------------------------------------------------------------------------------------------------- media, pages, machines


# TMPDIR: its sockets there need a short path.
CHROMIUM = """
    export TMPDIR=/tmp
    for way in --screenshot=page.png --print-to-pdf=page.pdf; do
        chromium --headless SANDBOX --disable-gpu --disable-quic --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --user-data-dir="$OUT/profile" "$way" "file://$PWD/page.html"
    done
"""
PAGE = "<h1>Kept</h1><canvas id=c></canvas><script>localStorage.k = 1; c.getContext('2d').fillRect(0, 0, 9, 9)</script>"


def check_chromium(grid: Grid, option: str) -> None:
    need("chromium")
    trial = run_both_ways(
        grid,
        CHROMIUM.replace("SANDBOX", option),
        {"page.html": PAGE},
        same=lambda output: str(re.findall(r"written to file .*", output)),
        varying=r"/profile/|/user/\.",
    )
    assert trial.kept["page.png"].startswith(b"\x89PNG")
    assert trial.kept["page.pdf"].startswith(b"%PDF")
    assert f"{OUTSIDE}out/profile/Local State" in trial.kept


def test_chromium(grid: Grid) -> None:
    check_chromium(grid, "--no-sandbox")


def test_chromium_in_its_sandbox(as_user: Grid) -> None:
    """Its own seccomp filters and namespaces, inside ours."""
    if subprocess.run(["unshare", "-Ur", "true"], user=as_user.uid, check=False).returncode != 0:
        pytest.skip(SANDBOX)
    check_chromium(as_user, "")


def test_ffmpeg(grid: Grid) -> None:
    need("ffmpeg", "ffprobe")
    program = """
        ffmpeg() { command ffmpeg -nostdin -loglevel error -bitexact "$@"; }
        ffmpeg -f lavfi -i testsrc=size=320x240:rate=25:duration=4 -f lavfi -i sine=duration=4 \
            -c:v mpeg4 -c:a aac -movflags +faststart clip.mp4
        ffmpeg -i clip.mp4 -pass 1 -c:v mpeg2video -b:v 500k -an -f null -
        ffmpeg -i clip.mp4 -pass 2 -c:v mpeg2video -b:v 500k -an two-pass.mpg
        ffmpeg -i clip.mp4 -vf fps=5 "$OUT/frame-%03d.png"
        ffmpeg -i clip.mp4 -c copy -f hls -hls_time 1 -hls_flags temp_file stream.m3u8
        ffprobe -v error -count_frames -show_entries stream=codec_name,nb_read_frames clip.mp4
    """
    trial = run_both_ways(grid, program)
    assert len([path for path in trial.kept if path.startswith(f"{OUTSIDE}out/frame-")]) == 20
    assert {"stream.m3u8", "stream3.ts", "two-pass.mpg"} <= trial.kept.keys()


def test_java(grid: Grid) -> None:
    need("java", "javac")
    program = """
        import java.io.RandomAccessFile;
        import java.nio.*;
        import java.nio.channels.FileChannel;
        import java.nio.file.*;
        import static java.nio.file.StandardOpenOption.*;

        public class Writer {
            public static void main(String[] args) throws Exception {
                try (FileChannel channel = FileChannel.open(Path.of("channel"), CREATE, READ, WRITE)) {
                    MappedByteBuffer map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
                    for (int i = 0; i < 1 << 18; i++) map.putInt(i);
                    try (FileChannel copy = FileChannel.open(Path.of("transferred"), CREATE_NEW, WRITE)) {
                        channel.transferTo(0, 1 << 20, copy);
                    }
                }
                Files.copy(Path.of("channel"), Path.of(System.getenv("OUT"), "copied"));
                Path temporary = Files.createTempFile("new", ".txt");
                Files.writeString(temporary, "whole");
                Files.move(temporary, Path.of("moved.txt"), StandardCopyOption.ATOMIC_MOVE);
                try (RandomAccessFile sparse = new RandomAccessFile("sparse", "rw")) {
                    sparse.seek(5_000_000);
                    sparse.write(7);
                }
                Thread[] threads = new Thread[16];
                for (int i = 0; i < threads.length; i++) {
                    Path path = Path.of("thread-" + i);
                    (threads[i] = new Thread(() -> {
                        try {
                            Files.write(path, new byte[100_000]);
                        } catch (java.io.IOException failed) {
                            throw new java.io.UncheckedIOException(failed);
                        }
                    })).start();
                }
                for (Thread thread : threads) thread.join();
                System.out.println(Files.size(Path.of("sparse")));
            }
        }
    """
    trial = run_both_ways(
        grid, "javac -d classes Writer.java && java -cp classes Writer", {"Writer.java": program}
    )
    assert trial.kept["moved.txt"] == b"whole"
    assert trial.kept["transferred"] == trial.kept["channel"] == trial.kept[f"{OUTSIDE}out/copied"]


# ------------------------------------------------------------------------------------------------- namespaces


@pytest.fixture
def namespaces() -> None:
    need("unshare")
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode != 0:
        pytest.skip(SANDBOX)


@MODES
def test_a_user_namespace(grid: Grid, namespaces: None, mode: str) -> None:
    program = """
        unshare -Ur sh -ec 'id -u; mkdir a; echo 1 > a/b; mv a c; echo 2 > "$OUT/d"; chmod 600 c/b'
        unshare -Urpf --mount-proc sh -ec 'echo $$; echo 3 > e'
    """
    assert run_both_ways(grid, program, mode=mode).kept["c/b"] == b"1\n"


def test_what_lies_on_a_private_mount_is_named(grid: Grid, namespaces: None) -> None:
    program = """
        mkdir mounted
        unshare -Urm sh -ec 'mount -t tmpfs none mounted; echo gone > mounted/a; echo 2 > beside; cat mounted/a'
    """
    run_both_ways(grid, program, private=1)
    (lost,) = [each for each in grid.json("artifacts", "run") if each["state"] == "missing"]
    assert "mounted/a (in a mount namespace of its own)" in lost["reason"]
