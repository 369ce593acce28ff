"""Downloads: byte for byte, only what is needed, never outside the folder, whatever happens to single files."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridkeep.errors import GridError, NotFound
from gridkeep.model import Artifact, ArtifactState, Experiment, new_ulid
from gridkeep.runs.collect import Problem, Progress, Report, collect
from gridkeep.runs.context import Context
from gridkeep.runs.select import Selection
from gridkeep.stores.local import LocalStore
from tests.unit.made import finish, keep, make_run, quiet_home

MIB = 2**20


@pytest.fixture
def context(home: Path) -> Iterator[Context]:
    with quiet_home(home) as context:
        yield context


@pytest.fixture
def one(context: Context) -> Experiment:
    """The only experiment of the completed run `my-run`."""
    return make_run(context, "my-run", ["completed"])[1][0]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "got"


def get(context: Context, into: Path, *names: str, select: Selection | None = None, **more: Any) -> Report:
    return collect(context, names or ("my-run-exp0",), str(into), select or Selection(), **more)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {
        os.path.relpath(os.path.join(top, name), folder): Path(top, name).read_bytes()
        for top, _, names in os.walk(folder)
        for name in names
    }


def record(context: Context, artifact: Artifact, **changes: Any) -> Artifact:
    changed = dataclasses.replace(artifact, **changes)
    context.catalog.record_artifacts(artifact.experiment_id, [changed])
    return changed


def object_of(context: Context, artifact: Artifact) -> Path:
    return Path(context.home.store, artifact.key or "")


def note(context: Context, experiment: Experiment, path: bytes | None, state: str, **more: Any) -> Artifact:
    """Records an artifact without bytes."""
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path,
        state=ArtifactState(state),
        **more,
    )
    context.catalog.record_artifacts(experiment.experiment_id, [artifact])
    return artifact


# -------------------------------------------------------------------------------------------------------------- layout


def test_a_run_has_a_folder_for_each_experiment(context: Context, into: Path) -> None:
    _, experiments = make_run(context, "sweep", ["completed", "failed"])
    for experiment in experiments:
        keep(context, experiment, b"out/a.txt", experiment.name.encode())
        keep(context, experiment, b"_abs/tmp/x", b"outside")
    report = get(context, into, "sweep", "sweep-exp1", "sweep")
    assert tree(into) == {
        "sweep/sweep-exp0/out/a.txt": b"sweep-exp0",
        "sweep/sweep-exp0/_abs/tmp/x": b"outside",
        "sweep/sweep-exp1/out/a.txt": b"sweep-exp1",
        "sweep/sweep-exp1/_abs/tmp/x": b"outside",
        "sweep-exp1/out/a.txt": b"sweep-exp1",
        "sweep-exp1/_abs/tmp/x": b"outside",
    }
    assert (report.fetched, report.fetched_bytes, report.kept, report.failed) == (6, 51, 0, [])
    assert os.listdir(into) == ["sweep", "sweep-exp1"] or sorted(os.listdir(into)) == ["sweep", "sweep-exp1"]


def test_an_unknown_name_gets_nothing_and_makes_nothing(
    context: Context, one: Experiment, into: Path
) -> None:
    keep(context, one, b"a", b"x")
    with pytest.raises(NotFound, match=r"^nobody does not exist - can not get artifacts$"):
        get(context, into, "my-run", "nobody")
    assert not into.exists()


NAMES = [
    b"100% & more.txt",
    "日本/😀".encode(),
    b"new\nline",
    b"back\\slash",
    b"not-utf8-\xff",
    b"n" * 255,
    b"m" * 250,
    b"d" * 255 + b"/" + b"e" * 255,
    b"_abs_work/x",
    b"-rf",
    b"%2e%2e%2f",
    b".gridkeep/x",
    b"x.partial",
    b"x",
]


@pytest.mark.parametrize("size", [10, MIB + 10])
def test_names_of_every_kind_come_back(context: Context, one: Experiment, into: Path, size: int) -> None:
    for name in NAMES:
        keep(context, one, name, hashlib.sha256(name).digest() * (size // 32 + 1))
    report = get(context, into)
    assert report.failed == []
    assert report.shifted == {"_abs_work"}
    folder = os.fsencode(into / "my-run-exp0")
    for name in NAMES:
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == hashlib.sha256(name).digest() * (size // 32 + 1)
    assert len(tree(into)) == len(NAMES)
    assert get(context, into).kept == len(NAMES)


def test_times_and_the_executable_bit(context: Context, one: Experiment, into: Path) -> None:
    for name, mode, size in (
        (b"script", 0o100750, 5),
        (b"plain", 0o100600, 5),
        (b"large", 0o100755, 2 * MIB),
    ):
        record(context, keep(context, one, name, b"x" * size), mode=mode, mtime_ns=1_600_000_000_123_456_789)
    before = os.umask(0o027)
    try:
        get(context, into)
    finally:
        os.umask(before)
    found = {name: (into / "my-run-exp0" / name).stat() for name in ("script", "plain", "large")}
    assert {name: stat.S_IMODE(s.st_mode) for name, s in found.items()} == {
        "script": 0o750,
        "plain": 0o640,
        "large": 0o750,
    }
    assert {s.st_mtime_ns for s in found.values()} == {1_600_000_000_123_456_789}
    (into / "my-run-exp0/script").chmod(0o640)
    os.utime(into / "my-run-exp0/script", (1, 1))
    assert get(context, into).kept == 3  # and made right again
    again = (into / "my-run-exp0/script").stat()
    assert (stat.S_IMODE(again.st_mode), again.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)


# ------------------------------------------------------------------------------------------------------------ what


def test_what_is_taken(context: Context, one: Experiment, into: Path) -> None:
    keep(context, one, b"a.pt", b"1")
    record(context, keep(context, one, b"b.png", b"2"), type="screenshot_final")
    record(context, keep(context, one, b"gone.pt", b"3"), state=ArtifactState.REMOVED)
    record(
        context,
        keep(context, one, b"torn.pt", b"4"),
        state=ArtifactState.MISSING,
        reason="changed while copied",
    )
    note(context, one, b"lost", "missing", reason="disk full")
    note(context, one, None, "missing", reason="unknown path, pid 3")
    note(context, one, b"__pycache__", "ignored", reason="__pycache__", count=7)
    report = get(context, into)
    assert set(tree(into / "my-run-exp0")) == {"a.pt", "b.png", "torn.pt"}
    assert report.failed == []
    assert report.missing == [
        Problem("my-run-exp0", None, "unknown path, pid 3"),
        Problem("my-run-exp0", b"lost", "disk full"),
        Problem("my-run-exp0", b"torn.pt", "changed while copied"),
    ]

    def taken(select: Selection) -> set[str]:
        target = into.with_name(new_ulid())
        get(context, target, select=select)
        return set(tree(target / "my-run-exp0"))

    assert taken(Selection.parse(removed=True)) == {"a.pt", "b.png", "torn.pt", "gone.pt"}
    assert taken(Selection.parse(r"\.p(t|x)$")) == {"a.pt", "torn.pt"}
    assert taken(Selection.parse("N")) == set()
    assert taken(Selection.parse(types=["screenshot_final"])) == {"b.png"}
    assert taken(Selection.parse("gone", removed=True)) == {"gone.pt"}
    with pytest.raises(GridError, match="not a regular expression") as raised:
        Selection.parse("[")
    assert raised.value.exit_code == 1


def test_a_run_that_goes_on(context: Context, into: Path) -> None:
    _, [one] = make_run(context, "my-run", ["running"])
    keep(context, one, b"closed", b"whole")
    record(context, keep(context, one, b"log", b"so far"), state=ArtifactState.GROWING)
    note(context, one, b"new", "growing")
    note(context, one, b"later", "pending")
    report = get(context, into)
    assert tree(into / "my-run-exp0") == {"closed": b"whole", "log": b"so far"}
    assert [problem.path for problem in report.growing] == [b"later", b"log", b"new"]
    assert report.active == ["my-run-exp0"]
    assert report.failed == []


def test_what_never_reached_the_store_of_a_run_that_ended_is_a_failure(
    context: Context, one: Experiment, into: Path
) -> None:
    note(context, one, b"a", "pending")
    assert get(context, into).failed == [Problem("my-run-exp0", b"a", "it never reached the store")]


def test_follow_goes_on_until_the_end(context: Context, into: Path) -> None:
    _, [one] = make_run(context, "my-run", ["running"])
    first = record(context, keep(context, one, b"log", b"1"), state=ArtifactState.GROWING)
    seen = threading.Event()

    def script() -> None:
        seen.wait(20)
        for text in (b"12", b"123"):
            time.sleep(0.3)
            grown = keep(context, one, b"log", text)
            context.catalog.record_artifacts(
                one.experiment_id,
                [dataclasses.replace(grown, artifact_id=first.artifact_id)],
                [grown.artifact_id],
            )
        keep(context, one, b"last", b"!")
        finish(context, one)

    class Watching(Progress):
        def finished(self, files: int) -> None:
            seen.set()

    thread = threading.Thread(target=script)
    thread.start()
    report = get(context, into, follow=True, progress=Watching())
    thread.join()
    assert tree(into / "my-run-exp0") == {"log": b"123", "last": b"!"}
    assert (report.active, report.growing, report.failed) == ([], [], [])


# --------------------------------------------------------------------------------------------------- only what is needed


class Counting(LocalStore):
    """A store that counts what is read of it."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.read: dict[str, int] = {}
        self.stall: set[str] = set()

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._counted(key, super().get(key, start=start, end=end))

    def _counted(self, key: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.read[key] = self.read.get(key, 0) + len(chunk)
            yield chunk
            if any(key.endswith(end) for end in self.stall):
                time.sleep(3600)


@pytest.fixture
def counting(context: Context) -> Counting:
    context._stores[context.cluster("local")] = store = Counting(context.home.store)
    return store


def test_what_is_there_is_kept_and_what_was_changed_is_fetched(
    context: Context, one: Experiment, into: Path, counting: Counting
) -> None:
    contents = {
        b"same": b"1" * 10,
        b"cut": b"2" * 10,
        b"changed": b"3" * 10,
        b"big": os.urandom(3 * MIB),
        b"big2": b"4" * 2 * MIB,
    }
    made = {name: keep(context, one, name, content) for name, content in contents.items()}
    get(context, into)
    folder = into / "my-run-exp0"
    inode = (folder / "same").stat().st_ino
    (folder / "cut").write_bytes(b"2")
    times = (folder / "changed").stat()
    (folder / "changed").write_bytes(b"3" * 9 + b"X")
    os.utime(folder / "changed", ns=(times.st_atime_ns, times.st_mtime_ns))
    with open(folder / "big2", "r+b") as file:
        file.seek(MIB)
        file.write(b"?")
    counting.read.clear()
    report = get(context, into)
    assert (report.kept, report.fetched) == (2, 3)
    assert set(counting.read) == {made[name].key for name in (b"cut", b"changed", b"big2")}
    assert {name.encode(): content for name, content in tree(folder).items()} == contents
    assert (folder / "same").stat().st_ino == inode


CHILD = """
import os, sys, time
from gridkeep.runs.collect import Progress, collect
from gridkeep.runs.context import open_context
from gridkeep.runs.select import Selection
from gridkeep.stores.local import LocalStore

class Slow(LocalStore):
    def get(self, key, *, start=0, end=None):
        for chunk in super().get(key, start=start, end=end):
            yield chunk
            print(len(chunk), flush=True)
            time.sleep(0.05)

with open_context({"GRIDKEEP_HOME": sys.argv[1]}, start_engine=False) as context:
    context._stores[context.cluster("local")] = Slow(context.home.store)
    collect(context, ["my-run-exp0"], sys.argv[2], Selection(), jobs=1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_is_cut_off_goes_on(
    context: Context, one: Experiment, into: Path, counting: Counting, how: signal.Signals
) -> None:
    content = os.urandom(20 * MIB)
    artifact = keep(context, one, b"model.pt", content)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, context.home.path, str(into)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    for _ in range(6):
        child.stdout.readline()
    began = time.monotonic()
    child.send_signal(how)
    child.wait(10)
    child.stdout.close()
    assert time.monotonic() - began < 3
    assert not (into / "my-run-exp0/model.pt").exists()
    have = (into / "my-run-exp0/model.pt.partial").stat().st_size
    assert 4 * MIB <= have < 20 * MIB
    report = get(context, into)
    assert report.failed == []
    assert tree(into) == {"my-run-exp0/model.pt": content}
    assert counting.read[artifact.key or ""] == 20 * MIB - have


def test_a_part_of_another_version_is_not_gone_on_with(
    context: Context, one: Experiment, into: Path, counting: Counting
) -> None:
    new = os.urandom(3 * MIB)
    artifact = keep(context, one, b"m", new)
    folder = into / "my-run-exp0"
    folder.mkdir(parents=True)
    (folder / "m.partial").write_bytes(b"old" * 1000)
    assert get(context, into).failed == []
    assert tree(into) == {"my-run-exp0/m": new}
    assert counting.read[artifact.key or ""] == len(new)


def test_a_part_with_a_hole_is_found_out(context: Context, one: Experiment, into: Path) -> None:
    content = os.urandom(4 * MIB)
    artifact = keep(context, one, b"m", content)
    (into / "my-run-exp0").mkdir(parents=True)
    (into / ".gridkeep").mkdir()
    mark = hashlib.sha256(one.experiment_id.encode() + b"/m").hexdigest()
    sidecar = into / ".gridkeep" / f"{mark}.json"
    lacks = [[2 * MIB, 4 * MIB]]
    sidecar.write_text(json.dumps({"sha256": artifact.sha256, "size": artifact.size, "missing": lacks}))
    (into / "my-run-exp0/m.partial").write_bytes(content[:MIB] + b"\0" * MIB)
    assert get(context, into).failed == []
    assert tree(into) == {"my-run-exp0/m": content}


def test_a_part_is_never_called_like_an_artifact(context: Context, one: Experiment, into: Path) -> None:
    contents = {
        b"m": os.urandom(3 * MIB),
        b"m.partial": os.urandom(2 * MIB),
        b"m.partial.partial": os.urandom(2 * MIB),
    }
    for name, content in contents.items():
        keep(context, one, name, content)
    for _ in range(5):
        assert get(context, into).failed == []
        assert {name.encode(): content for name, content in tree(into / "my-run-exp0").items()} == contents
        (into / "my-run-exp0/m").unlink()
        (into / "my-run-exp0/m.partial").unlink()


def test_two_downloads_into_one_folder(context: Context, one: Experiment, into: Path) -> None:
    contents = {f"{n}.bin": os.urandom(2 * MIB) for n in range(6)} | {
        f"{n}.txt": b"%d" % n for n in range(100)
    }
    for name, content in contents.items():
        keep(context, one, name.encode(), content)
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(get(context, into))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.failed for report in reports] == [[], [], []]
    assert tree(into / "my-run-exp0") == contents


# --------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("path", [b"../out", b"a/../../out", b"/etc/out", b"a//b", b"..", b"a/./b"])
def test_a_path_that_leads_out_is_refused(context: Context, one: Experiment, into: Path, path: bytes) -> None:
    keep(context, one, b"good", b"1")
    record(context, keep(context, one, b"bad", b"2"), path=path)
    report = get(context, into)
    assert [(problem.path, problem.reason) for problem in report.failed] == [
        (path, "its path would lead out of the download folder")
    ]
    assert tree(into.parent / "got") == {"my-run-exp0/good": b"1"}
    assert not (into.parent / "out").exists()


def test_a_planted_link_is_not_followed(
    context: Context, one: Experiment, into: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    folder = into / "my-run-exp0"
    folder.mkdir(parents=True)
    (folder / "sub").symlink_to(outside)
    (folder / "link").symlink_to(outside / "file")
    (folder / "big.partial").symlink_to(outside / "file")
    (folder / "dangling").symlink_to(outside / "new")
    for name in (b"sub/a", b"link", b"dangling"):
        keep(context, one, name, b"theirs")
    keep(context, one, b"big", b"x" * 2 * MIB)
    report = get(context, into)
    assert {problem.path: problem.reason for problem in report.failed} == {
        b"sub/a": "a symbolic link, which is not followed, stands where the folder my-run-exp0/sub must be",
        b"big": os.strerror(errno.ELOOP),
    }
    assert tree(outside) == {"file": b"mine"}
    assert (folder / "link").read_bytes() == b"theirs"
    assert not (folder / "link").is_symlink()
    assert (folder / "dangling").read_bytes() == b"theirs"


def test_what_stands_in_the_way_is_said_and_the_others_go_on(
    context: Context, one: Experiment, into: Path
) -> None:
    for name in (b"a/b", b"c", b"d"):
        keep(context, one, name, b"1")
    folder = into / "my-run-exp0"
    (folder / "c").mkdir(parents=True)
    (folder / "c/mine").write_bytes(b"mine")
    (folder / "a").write_bytes(b"mine")
    report = get(context, into)
    assert {problem.path: problem.reason for problem in report.failed} == {
        b"a/b": "a file stands where the folder my-run-exp0/a must be",
        b"c": "a folder stands where the file must be",
    }
    assert tree(folder) == {"a": b"mine", "c/mine": b"mine", "d": b"1"}


def test_a_download_folder_that_cannot_be_is_an_error(context: Context, one: Experiment, into: Path) -> None:
    into.write_bytes(b"")
    with pytest.raises(GridError, match="cannot be used"):
        get(context, into)


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_bytes_that_are_not_those_of_the_record_never_land(
    context: Context, one: Experiment, into: Path, size: int
) -> None:
    keep(context, one, b"good", b"1")
    for name, spoilt in {
        b"flip": b"y" * size,
        b"short": b"x" * (size - 1),
        b"long": b"x" * (size + MIB),
    }.items():
        object_of(context, keep(context, one, name, b"x" * size)).write_bytes(spoilt)
    os.unlink(object_of(context, keep(context, one, b"gone", b"x" * size)))
    report = get(context, into)
    assert {problem.path for problem in report.failed} == {b"flip", b"short", b"long", b"gone"}
    assert tree(into) == {"my-run-exp0/good": b"1"}
    assert all("in the store" in each.reason or "has no object" in each.reason for each in report.failed)


def test_an_object_that_is_replaced_meanwhile_comes_in_its_new_version(
    context: Context, one: Experiment, into: Path
) -> None:
    """The listing was read before the file was put again; record and object changed between."""
    old = keep(context, one, b"a", b"old")

    class Late(LocalStore):
        def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            if context.catalog.artifact(old.artifact_id) == dataclasses.replace(old, change=first):
                new = keep(context, one, b"a", b"newer")
                context.catalog.record_artifacts(
                    one.experiment_id,
                    [dataclasses.replace(new, artifact_id=old.artifact_id)],
                    [new.artifact_id],
                )
            return super().get(key, start=start, end=end)

    recorded = context.catalog.artifact(old.artifact_id)
    assert recorded is not None
    first = recorded.change
    context._stores[context.cluster("local")] = Late(context.home.store)
    report = get(context, into)
    assert report.failed == []
    assert tree(into) == {"my-run-exp0/a": b"newer"}
    assert report.fetched_bytes == 5


def test_a_file_without_a_byte_is_given_up_and_the_others_go_on(
    context: Context, one: Experiment, into: Path, counting: Counting
) -> None:
    for n in range(150):
        keep(context, one, b"%03d" % n, b"%d" % n)
    keep(context, one, b"stuck-large", b"x" * 3 * MIB)
    counting.stall = {"/004", "/005", "/stuck-large"}
    context.settings = dataclasses.replace(context.settings, download_timeout=1.0)
    began = time.monotonic()
    report = get(context, into, jobs=2)
    assert time.monotonic() - began < 15
    assert sorted(problem.path or b"" for problem in report.failed) == [b"004", b"005", b"stuck-large"]
    assert {problem.reason for problem in report.failed} == {"no byte came for 1 s, so it was given up"}
    whole = {f"{n:03}": b"%d" % n for n in range(150) if n not in (4, 5)}
    assert {name: text for name, text in tree(into / "my-run-exp0").items() if "partial" not in name} == whole


def test_a_full_disk_ends_it(context: Context, one: Experiment, tmp_path: Path) -> None:
    keep(context, one, b"big", b"x" * 4 * MIB)
    small = tmp_path / "small"
    small.mkdir()
    script = (
        "import sys; from gridkeep.runs.collect import collect\n"
        "from gridkeep.runs.context import open_context; from gridkeep.runs.select import Selection\n"
        "from gridkeep.errors import GridError\n"
        "with open_context({'GRIDKEEP_HOME': sys.argv[1]}, start_engine=False) as context:\n"
        "    try:\n        collect(context, ['my-run'], sys.argv[2], Selection())\n"
        "    except GridError as error:\n        print(error.message, '|', error.hint)\n"
    )
    mount = (
        f'mount -t tmpfs -o size=1m none {small} && exec {sys.executable} -c "$0" {context.home.path} {small}'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, script], capture_output=True, text=True, timeout=60
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert "No space left on device" in done.stdout, done.stderr
    assert "it goes on" in done.stdout


def test_progress_adds_up(context: Context, one: Experiment, into: Path) -> None:
    for n in range(10):
        keep(context, one, b"%d" % n, b"x" * n * 400_000)
    told = {"files": 0, "bytes": 0, "moved": 0, "finished": 0}
    lock = threading.Lock()

    class Told(Progress):
        def add(self, **more: int) -> None:
            with lock:
                for word, count in more.items():
                    told[word] += count

        def expect(self, files: int, size: int) -> None:
            self.add(files=files, bytes=size)

        def moved(self, size: int) -> None:
            self.add(moved=size)

        def finished(self, files: int) -> None:
            self.add(finished=files)

    for select in (Selection(), Selection.parse("[0-4]"), Selection()):
        told.update(dict.fromkeys(told, 0))
        get(context, into, select=select, progress=Told())
        assert (told["files"], told["bytes"]) == (told["finished"], told["moved"])
        assert told["files"] == (5 if select.match else 10)


def test_a_store_that_went_away_ends_it(context: Context, one: Experiment, into: Path) -> None:
    for n in range(40):
        keep(context, one, b"%d" % n, b"x")
    Path(context.home.store).rename(context.home.store + ".away")
    with pytest.raises(GridError, match="is not there") as raised:
        get(context, into)
    assert "it goes on" in (raised.value.hint or "")
