"""Every way in which a program writes a file, through the whole product: each file comes back exact, or is named as missing
with its reason; what the run did not change never shows up; the counters are in the record.

One sweep serves all cases of a mode and a user. What there really was says the oracle of `cases.base`, printed by the case
itself.
"""

from __future__ import annotations

import ensurepip
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from gridkeep.capture.session import has_native_shim
from gridkeep.model import path_from_json
from tests.e2e.cases import CASES, Case, Loss
from tests.support import Grid, end_processes_of, environment

MODES = ("c", "python", "watch")
USERS = ("root", "user") if os.getuid() == 0 else ("user",)
BIN = Path(sys.executable).parent
CASES_HERE = Path(__file__).with_name("cases")
WRITER = Path(__file__).parents[1] / "contract/writer.c"
RULES = {"__pycache__", ".git", "cache"}
CI = os.environ.get("CI") == "true"
SHOW_LOGS = """
import json, sys
from click.testing import CliRunner
from gridkeep.cli.main import cli
shown = {name: CliRunner().invoke(cli, ["logs", name], catch_exceptions=False) for name in sys.argv[1:]}
assert all(each.exit_code == 0 for each in shown.values())
print(json.dumps({name: each.stdout_bytes.hex() for name, each in shown.items()}))
"""


@dataclass(frozen=True)
class Batch:
    """All cases of one mode and one user, executed and downloaded."""

    base: Path
    grid: Grid
    mode: str
    user: str
    names: list[str]

    def submit(self) -> None:
        env = ["--env", f"CASES_BASE={self.base}", "--env", f"GRIDKEEP_CAPTURE={self.mode}"]
        words = ["--parallel", "4", *env, "run_case.py", "--case", str(self.names)]
        self.grid("run", "--name", "all", *words)
        self.grid.finished("all", 280)
        self.grid("artifacts", "all", "--download_dir", self.base / "download", code=None)

    @cached_property
    def experiments(self) -> dict[str, dict[str, Any]]:
        found = self.grid.json("status", "all")
        assert len(found) == len(self.names)
        return dict(zip(self.names, found, strict=True))

    @cached_property
    def listings(self) -> dict[str, list[dict[str, Any]]]:
        """The artifacts by experiment."""
        found: dict[str, list[dict[str, Any]]] = {each["name"]: [] for each in self.experiments.values()}
        for each in self.grid.json("artifacts", "all"):
            found[each["experiment"]].append(each)
        return found

    @cached_property
    def logs(self) -> dict[str, str]:
        """What `grid logs` shows of each experiment; in one process for all."""
        python = Path(self.grid.command[0]).with_name("python")
        names = [each["name"] for each in self.experiments.values()]
        shown = replace(self.grid, command=(str(python), "-c", SHOW_LOGS))(*names).json()
        return {name: bytes.fromhex(log).decode(errors="surrogateescape") for name, log in shown.items()}

    def seen(self, name: str) -> Seen:
        return Seen(self, CASES[name], self.experiments[name])


@dataclass(frozen=True)
class Seen:
    """One case: what Gridkeep has of it, and what there was."""

    batch: Batch
    case: Case
    experiment: dict[str, Any]

    @cached_property
    def listed(self) -> dict[bytes, dict[str, Any]]:
        shapes = [each for each in self.batch.listings[self.experiment["name"]] if each["path"] is not None]
        found = {path: each for each in shapes if (path := path_from_json(each))}
        assert len(found) == len(shapes), "a path is listed twice"
        return found

    @cached_property
    def unknown(self) -> list[dict[str, Any]]:
        """Losses whose path nobody knows."""
        return [each for each in self.batch.listings[self.experiment["name"]] if each["path"] is None]

    @cached_property
    def log(self) -> str:
        return self.batch.logs[self.experiment["name"]]

    @cached_property
    def oracle(self) -> dict[str, Any]:
        found = json.loads(self.log.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    def there(self, what: str) -> dict[bytes, Any]:
        """A part of the oracle's findings, by the path under which it is to be listed; in mode watch nothing outside."""
        cwd = os.fsencode(self.oracle["cwd"]) + b"/"
        found = {}
        for path, value in self.oracle[what].items():
            raw = os.fsencode(path)
            if raw.startswith(cwd):
                found[raw[len(cwd) :]] = value
            elif self.batch.mode != "watch":
                found[b"_abs" + raw] = value
        return found

    def local(self, path: bytes) -> str:
        """As the case knows it: relative to the folder in which it was executed."""
        outside = f"_abs{self.batch.base}/outside/{self.case.name}/"
        return os.fsdecode(path).removeprefix("inputs/").removeprefix(outside)

    def bytes_of(self, path: bytes) -> str:
        """The hash of what was downloaded."""
        file = os.fsencode(self.batch.base / "download/all" / self.experiment["name"]) + b"/" + path
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    @cached_property
    def losses(self) -> list[Loss]:
        return [
            each
            for each in self.case.losses
            if self.batch.mode in each.modes and self.batch.user in each.users
        ]

    def __str__(self) -> str:
        rows = [f"{each['state']} {each['path']!r}: {each['reason']}" for each in self.listed.values()]
        return "\n".join([*rows[:20], *map(str, self.unknown), str(self.experiment), self.log[-1500:]])


# ---------------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((mode, user), id=f"{mode}-{user}", marks=pytest.mark.xdist_group(f"cases-{mode}-{user}"))
        for mode in MODES
        for user in USERS
    ],
)
def batch(request: pytest.FixtureRequest) -> Iterator[Batch]:
    mode, user = request.param
    # The last ones take longest: they come first, so that none is waited for alone.
    names = [name for name, each in reversed(CASES.items()) if not each.long]
    with new_batch(request, mode, user, names) as opened:
        yield opened


@contextmanager
def new_batch(request: pytest.FixtureRequest, mode: str, user: str, names: list[str]) -> Iterator[Batch]:
    """Everything executed, in folders that the user may reach."""
    if mode == "c" and not has_native_shim():
        assert not CI, "the C shim is not built"
        pytest.skip("the C shim is not built here: `uv sync --reinstall-package gridkeep`, with a C compiler")
    base = Path(tempfile.mkdtemp(prefix="gridkeep-cases-"))
    shared = Path("/dev/shm", base.name)
    mounts: list[Path] = []
    try:
        command, path, uid = BIN / "grid", f"{BIN}:{os.environ['PATH']}", None
        if user == "user" and os.getuid() == 0:
            command, uid = request.getfixturevalue("user_environment"), pwd.getpwnam("nobody").pw_uid
            path = f"{command.parent}:{os.defpath}"
        make_tools(base / "tools", uid, command.with_name("python"))
        make_folders(base, names)
        shared.mkdir()
        give([base, shared], uid)
        if os.getuid() == 0:
            mounts += mount(base, uid)
        env = environment(base / "home", base / "user", path) | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "GRIDKEEP_GROWING_INTERVAL": "1s",
        }
        grid = Grid((str(command),), base / "home", base / "project", env, uid)
        batch = Batch(base, grid, mode, user, names)
        batch.submit()
        yield batch
    finally:
        end_processes_of(base)
        for place in mounts:
            subprocess.run(["umount", "--lazy", place], check=True)
        for folder in (base, shared):
            subprocess.run(["chmod", "-R", "u+rwX", folder], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(folder, ignore_errors=not folder.exists())


def make_tools(tools: Path, uid: int | None, python: Path) -> None:
    """What is only read: programs in C, the cases themselves, and an installer."""
    tools.mkdir()
    for name, *options in (("writer",), ("writer-static", "-static")):
        subprocess.run(["gcc", "-O1", "-pthread", *options, "-o", tools / name, WRITER], check=True)
    for name, mode in (("writer-setuid", 0o4755), ("writer-unreadable", 0o111)):
        shutil.copy(tools / "writer", tools / name)
        if os.getuid() == 0:  # of another user than the one who calls it
            os.chown(tools / name, 65534 if uid is None and name == "writer-setuid" else 0, 0)
        (tools / name).chmod(mode)
    # Compiled: each case is a process of its own, which may not write here.
    shutil.copytree(CASES_HERE, tools / "cases", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([python, "-m", "compileall", "-q", tools / "cases"], check=True)
    for wheel in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
        shutil.copy(wheel, tools / "pip.whl")


def make_folders(base: Path, names: list[str]) -> None:
    """The project, and the folders outside with the same inputs."""
    for part in ("project", "user", "outside"):
        (base / part).mkdir()
    (base / "project/run_case.py").write_text(
        "import sys\n\n"
        f"sys.path.insert(0, {str(base / 'tools')!r})\n"
        "from cases import main\n\n"
        'if __name__ == "__main__":\n    main(sys.argv[2])\n'
    )
    for folder in (base / "project/inputs", *(base / "outside" / name for name in names)):
        (folder / "folder").mkdir(parents=True)
        (folder / "old").write_text("old\n")
        (folder / "other").write_text("other\n")
        (folder / "data").write_bytes(bytes(range(256)) * 100)
        (folder / "folder/inner").write_text("inner\n")


def give(folders: list[Path], uid: int | None) -> None:
    """To the user, all but the tools."""
    for folder in folders:
        folder.chmod(0o755)
        for at, _, names in os.walk(folder):
            for path in (at, *(os.path.join(at, name) for name in names)):
                if uid is not None and "/tools" not in path:
                    os.chown(path, uid, uid)


def mount(base: Path, uid: int | None) -> list[Path]:
    """Another file system, and an overlay; those that this root may mount."""
    over = base / "over"
    shutil.copytree(base / "project/inputs", over / "lower/overlay")
    for name in ("upper", "scratch"):
        (over / name).mkdir()
    give([over], uid)
    overlay = f"lowerdir={over}/lower,upperdir={over}/upper,workdir={over}/scratch"
    found = []
    for name, kind, options in (
        ("mounted", "tmpfs", f"uid={uid or 0},mode=755"),
        ("overlay", "overlay", overlay),
    ):
        (base / name).mkdir()
        done = subprocess.run(["mount", "-t", kind, "-o", options, kind, base / name], capture_output=True)
        if done.returncode:
            (base / name).rmdir()
        else:
            found.append(base / name)
    return found


# ------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("name", [name for name, each in CASES.items() if not each.long])
def test_case(request: pytest.FixtureRequest, batch: Batch, name: str) -> None:
    if reason := CASES[name].xfail.get(f"{batch.mode}-{batch.user}"):
        request.applymarker(pytest.mark.xfail(reason=reason))
    check(batch.seen(name))


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("user", USERS)
def test_long_case(request: pytest.FixtureRequest, mode: str, user: str) -> None:
    names = [name for name, each in CASES.items() if each.long]
    with new_batch(request, mode, user, names) as batch:
        for name in names:
            check(batch.seen(name))


def check(seen: Seen) -> None:
    """Everything that holds of every case."""
    if reason := re.search(r"^cannot: (.*)", seen.log, re.MULTILINE):
        assert not (CI and "there is no" in reason[1]), reason[1]
        pytest.skip(reason[1])
    expected = ("failed", "signal") if seen.case.exit_code is None else ("completed", "exit")
    assert (seen.experiment["state"], seen.experiment["outcome"]) == expected, seen
    check_files(seen)
    check_the_rest(seen)
    check_losses(seen)
    check_record(seen)


def check_files(seen: Seen) -> None:
    """What was written is stored and comes back, or is named as missing; what was only touched may be, and nothing else."""
    written, touched = seen.there("written"), seen.there("touched")
    stored = {path: each for path, each in seen.listed.items() if each["state"] == "stored"}
    hidden = re.compile("|".join(each.hides for each in seen.losses if each.hides) or "(?!)")
    for path in written.keys() - stored.keys():
        state = seen.listed.get(path, {"state": None})["state"]
        in_rule = state == "ignored" and seen.listed[path]["reason"] in RULES
        assert state == "missing" or in_rule or hidden.search(os.fsdecode(path)), (
            f"{path!r} is {state}\n{seen}"
        )
    unchanged = stored.keys() - written.keys() - touched.keys()
    assert not unchanged, f"{unchanged} did not change\n{seen}"
    new = hashlib.sha256(b"new\n").hexdigest()  # what the files hold that the oracle could not read
    for path, each in stored.items():
        real = {**touched, **written}[path] or new
        assert each["sha256"] == seen.bytes_of(path) == real, f"{path!r} is another file\n{seen}"


def check_the_rest(seen: Seen) -> None:
    """What is listed and not kept: by a rule, of a kind that holds nothing, or removed by the run."""
    others = seen.there("others")
    removed = set()
    for path, each in seen.listed.items():
        name = seen.local(path)
        if each["state"] == "ignored":
            kind = others.get(path)
            if kind is None:
                assert by_rule(path, each["reason"]), f"{name}\n{seen}"
            else:
                words = {"link": "symbolic link", "pipe": "pipe|special", "socket": "socket|special"}
                assert re.search(words.get(kind, "device|special"), each["reason"]), f"{name}\n{seen}"
        elif each["state"] == "removed":
            patterns = (*seen.case.removed, *seen.case.comes_and_goes, "tmp/.*")
            assert any(re.fullmatch(pattern, name, re.DOTALL) for pattern in patterns), f"{name}\n{seen}"
            removed.add(name)
        else:
            assert each["state"] in ("stored", "missing"), seen
    for path, kind in others.items():
        if path.startswith(b"inputs/") and kind != "link":
            assert seen.listed.get(path, {}).get("state") == "ignored", f"{path!r}\n{seen}"
    if seen.batch.mode != "watch":
        for pattern in seen.case.removed:
            found = [name for name in removed if re.fullmatch(pattern, name)]
            assert found, f"none is listed as removed of {pattern}\n{seen}"


def by_rule(path: bytes, rule: str) -> bool:
    parts = path.split(b"/")
    return (
        os.fsencode(rule) in parts
        or (rule == "cache" and b".cache" in parts)
        or (rule == "home" and b"home" in parts)
        or (rule == "system" and parts[1] in (b"proc", b"sys", b"dev"))
    )


def check_losses(seen: Seen) -> None:
    """Nothing is missing but what cannot be had, and that is named."""
    named = [(seen.local(path), each) for path, each in seen.listed.items() if each["state"] == "missing"]
    found: Counter[int] = Counter()
    for name, each in [*named, *((None, each) for each in seen.unknown)]:
        for number, loss in enumerate(seen.losses):
            here = name is None if loss.path is None else name is not None and re.fullmatch(loss.path, name)
            if here and re.search(loss.reason, each["reason"]):
                found[number] += 1
                break
        else:
            raise AssertionError(f"{name or 'unknown'} is missing: {each['reason']}\n{seen}")
    never = [loss for number, loss in enumerate(seen.losses) if loss.sure and not found[number]]
    assert not never, f"{never} did not come about\n{seen}"


def check_record(seen: Seen) -> None:
    """The counters, in the status and in the manifest, tell of what is listed."""
    one, capture = seen.experiment, seen.experiment["capture"]
    assert capture["mode"] == seen.batch.mode, seen
    assert ("blind" in capture) == (seen.batch.mode == "watch")
    if seen.batch.mode == "watch":
        assert not [path for path in seen.listed if path.startswith(b"_abs/")], seen
    else:
        assert capture["lost"] == len(seen.unknown), seen
        assert capture["swept"] == seen.case.swept.get(seen.batch.user, 0), seen
        assert capture["notices"] == capture["answered"] > 0
        for name, count in seen.case.counters.items():
            assert capture[name] == count, seen
    states = Counter(each["state"] for each in (*seen.listed.values(), *seen.unknown))
    stored = [each["size"] for each in seen.listed.values() if each["state"] == "stored"]
    assert (one["artifacts"], one["bytes"], one["missing"]) == (len(stored), sum(stored), states["missing"])
    file = seen.batch.grid.home / "store/experiments" / one["experiment_id"] / "manifest.jsonl"
    header, *lines = map(json.loads, file.read_text().splitlines())
    assert header["capture"] == capture
    assert header["totals"] == {
        "files": len(stored),
        "bytes": sum(stored),
        **{state: states[state] for state in ("missing", "ignored", "removed")},
    }
    assert {path_from_json(each): (each["state"], each["sha256"]) for each in lines if each["path"]} == {
        path: (each["state"], each["sha256"]) for path, each in seen.listed.items()
    }
