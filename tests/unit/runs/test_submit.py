"""Against a real catalog, store and git. Only the engine is kept asleep: it would execute what is looked at here."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gridkeep.errors import Conflict, GridError, NameTaken, NotFound, StoreDenied, UsageError
from gridkeep.model import Artifact, ArtifactState, Cluster, State, new_ulid
from gridkeep.runs import dispatch
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.submit import Request, Submission, submit
from gridkeep.stores.keys import artifact_key


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "GRIDKEEP_HOME": str(tmp_path / "home"),
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "SECRET": "s3cr3t",
    }


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    homes: list[str] = []
    monkeypatch.setattr(dispatch, "wake", lambda home, *_: homes.append(home.path))
    return homes


@pytest.fixture
def context(environ: dict[str, str], woken: list[str]) -> Iterator[Context]:
    with open_context(environ, start_engine=False) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print('hi')\n")
    return folder


def submitted(
    context: Context, project: Path, environ: dict[str, str], *args: str, **options: Any
) -> Submission:
    script = options.pop("script", "train.py")
    cwd = str(options.pop("cwd", project))
    return submit(context, Request(script=script, args=args, cwd=cwd, environ=environ, **options))


def left_behind(context: Context) -> set[str]:
    home = Path(context.home.path)
    return {str(path.relative_to(home)) for part in ("work", "journal") for path in (home / part).iterdir()}


def is_untouched(context: Context) -> bool:
    return left_behind(context) == set() and context.catalog.runs() == []


# ------------------------------------------------------------------------------------------------- what it leaves


def test_a_sweep_is_recorded_with_all_that_its_execution_needs(context, project, environ, woken):
    made = submitted(context, project, environ, "--lr", "[0.1,0.01]", "--n", "3", name="first")
    run = context.catalog.run("first")
    assert run is not None
    assert (run.kind, run.cluster, run.created_by, run.state) == (
        "script",
        "local",
        context.user,
        State.QUEUED,
    )
    assert run.run_id.startswith("wr_")
    assert (run.spec.root, run.spec.workdir, run.spec.in_place) == (str(project), "", False)
    assert run.spec.argv[1:] == ["train.py"]
    assert run.spec.display == "train.py --lr '[0.1,0.01]' --n 3"
    first, second = context.catalog.experiments(run.run_id)
    assert (first.name, first.args, first.params) == (
        "first-exp0",
        ["--lr", "0.1", "--n", "3"],
        {"lr": 0.1, "n": 3},
    )
    assert second.command == "train.py --lr 0.01 --n 3"
    assert first.experiment_id < second.experiment_id
    work = Path(context.home.work(run.ulid))
    assert (work / "train.py").read_text() == "print('hi')\n"
    assert woken == [context.home.path]
    assert made.store == f"file://{context.home.store}/"


def test_the_environment_is_kept_for_its_owner_only(context, project, environ):
    environ |= {"BYTES": "\udcff\n", "GRID_EXPERIMENT_ID": "outer"}
    made = submitted(context, project, environ, env={"SECRET": "new=er", "ADDED": ""})
    path = Path(context.home.journal(made.run.ulid), "environ.json")
    assert json.loads(path.read_text()) == environ | {"SECRET": "new=er", "ADDED": ""}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    run = context.catalog.run(made.run.name)
    assert run is not None
    assert run.spec.env_names == ["ADDED", "SECRET"]
    assert run.parent == "outer"
    assert b"new=er" not in Path(context.home.catalog).read_bytes()


def test_experiments_of_one_run_are_in_order_of_their_ids(context, project, environ):
    made = submitted(context, project, environ, "range(500)")
    ids = [each.experiment_id for each in context.catalog.experiments(made.run.run_id)]
    assert ids == sorted(set(ids))
    assert len(ids) == 500


def test_from_a_folder_of_a_checkout(context, project, environ):
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / "sub").mkdir()
    (project / "sub" / "deep.py").touch()
    run = submitted(context, project, environ, script="deep.py", cwd=project / "sub").run
    assert (run.spec.root, run.spec.workdir, run.spec.argv[1:]) == (str(project), "sub", ["deep.py"])
    run = submitted(context, project, environ, script="../train.py", cwd=project / "sub").run
    assert run.spec.argv[1:] == ["../train.py"]


def test_in_place_takes_no_copy(context, project, environ):
    made = submitted(context, project, environ, in_place=True)
    assert made.copy is None
    assert made.run.spec.in_place
    assert left_behind(context) == {f"journal/{made.run.ulid}"}


def test_odd_names_and_arguments_survive(context, project, environ):
    (project / "a b\n\udcff.py").touch()
    made = submitted(context, project, environ, "\udcfe", "x\ny", script="a b\n\udcff.py", name="odd")
    experiment = context.catalog.experiment("odd-exp0")
    run = context.catalog.run("odd")
    assert experiment is not None
    assert run is not None
    assert experiment.args == ["\udcfe", "x\ny"]
    assert run.spec.argv[1] == "a b\n\udcff.py"
    assert experiment.command.encode()
    assert made.copy is not None
    assert os.listdir(context.home.work(run.ulid)) != []


def test_options_win_over_the_file_and_the_file_over_settings(project, environ, woken, tmp_path):
    environ |= {"GRIDKEEP_PARALLEL": "9", "GRIDKEEP_EXCLUDE": "*.set"}
    (tmp_path / "c.yml").write_text(
        "compute: {train: {cpus: 2, gpus: 1, memory: 1GB, timeout: 60, parallel: 4, auto_resume: true, instance: x, "
        "exclude: '*.file', environment: {A: file, B: file}, actions: {on_build: make}}}\n"
        "hyper_params: {settings: {strategy: random_search, strategy_options: {num_trials: 2, seed: 5}}, "
        "params: {lr: [1, 2, 3], n: [1, 2, 3]}}\n"
    )
    with open_context(environ, start_engine=False) as context:
        config = str(tmp_path / "c.yml")
        spec = submitted(context, project, environ, config=config).run.spec
        assert (spec.cpus, spec.gpus, spec.memory, spec.timeout, spec.parallel) == (2, 1, "1GB", 60, 4)
        assert (spec.auto_resume, spec.on_build, spec.strategy, spec.seed) == (
            True,
            ["make"],
            "random_search",
            5,
        )
        assert spec.exclude == ["*.set", "*.file"]
        made = submitted(
            context,
            project,
            environ,
            *("--n", "[7,8]"),
            config=config,
            cpus=3,
            gpus=0,
            strategy="grid_search",
            auto_resume=False,
            env={"A": "option"},
            exclude=["*.opt"],
        )
        spec = made.run.spec
        assert (spec.cpus, spec.gpus, spec.auto_resume, spec.strategy) == (3, 0, False, "grid_search")
        assert spec.exclude == ["*.set", "*.file", "*.opt"]
        assert [each.args for each in made.experiments][:2] == [
            ["--n", "7", "--lr", "1"],
            ["--n", "7", "--lr", "2"],
        ]
        assert len(made.experiments) == 6
        kept = json.loads(Path(context.home.journal(made.run.ulid), "environ.json").read_text())
        assert (kept["A"], kept["B"]) == ("option", "file")
        assert any("compute.train.instance" in note for note in made.notes)
        assert submitted(context, project, environ).run.spec.parallel == 9


def test_parameters_of_the_file_come_before_a_double_dash(context, project, environ, tmp_path):
    (tmp_path / "c.yml").write_text("hyper_params: {params: {lr: 1}}")
    made = submitted(context, project, environ, "-v", "--", "x", config=str(tmp_path / "c.yml"))
    assert made.experiments[0].args == ["-v", "--lr", "1", "--", "x"]


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"script": "trian.py"}, NotFound, "trian.py does not exist"),
        ({"name": "No_Good"}, UsageError, "lowercase"),
        ({"cluster": "moon"}, NotFound, "no cluster named moon"),
        ({"inputs": ["nobody-exp0"]}, NotFound, "nobody-exp0 does not exist"),
        ({"inputs": ["x-exp0"], "in_place": True}, UsageError, "--input needs a working copy"),
        ({"exclude": ["!"]}, GridError, "pattern to exclude"),
        ({"config": "none.yml"}, GridError, "cannot be read"),
        ({"script": "hidden.py"}, GridError, "left out of the working copy"),
        ({"strategy": "random_search"}, GridError, "number of trials"),
    ],
)
def test_an_error_leaves_nothing_behind(context, project, environ, woken, options, error, says):
    (project / "hidden.py").touch()
    (project / ".gridignore").write_text("hidden.py\n")
    with pytest.raises(error, match=says):
        submitted(context, project, environ, **options)
    assert is_untouched(context)
    assert woken == []


def test_too_many_experiments_or_too_large_a_copy(project, environ):
    environ |= {"GRIDKEEP_MAX_EXPERIMENTS": "3", "GRIDKEEP_COPY_LIMIT": "100"}
    with open_context(environ, start_engine=False) as context:
        with pytest.raises(GridError, match="4 experiments, and 3 is the most"):
            submitted(context, project, environ, "range(4)")
        (project / "large").write_bytes(b"x" * 200)
        with pytest.raises(GridError, match=r"large \(200 B\)"):
            submitted(context, project, environ)
        assert is_untouched(context)


def test_a_name_that_is_taken(context, project, environ):
    submitted(context, project, environ, name="mine")
    submitted(context, project, environ, name="mine-2")
    with pytest.raises(NameTaken, match="A Run with the name mine already exists") as caught:
        submitted(context, project, environ, name="mine")
    assert "mine-3" in str(caught.value.hint)
    assert len(left_behind(context)) == 4


def test_of_two_at_once_with_the_same_name_one_wins_and_the_other_leaves_nothing(context, project, environ):
    start = threading.Barrier(6)

    def race(_: int) -> str:
        start.wait()
        try:
            return submitted(context, project, environ, name="contested").run.ulid
        except NameTaken:
            return ""

    with ThreadPoolExecutor(6) as pool:
        won = [ulid for ulid in pool.map(race, range(6)) if ulid]
    assert len(won) == 1
    assert left_behind(context) == {f"work/{won[0]}", f"journal/{won[0]}"}
    assert len(context.catalog.runs()) == 1


def test_a_made_up_name_that_is_taken_is_made_up_again(context, project, environ, monkeypatch):
    names = iter(["same-name-0001", "same-name-0001", "other-name-0002"])
    monkeypatch.setattr("gridkeep.runs.submit.made_up_name", lambda: next(names))
    submitted(context, project, environ)
    made = submitted(context, project, environ)
    assert made.run.name == "other-name-0002"
    assert context.catalog.experiment("other-name-0002-exp0") is not None


def test_a_store_that_refuses_is_said_at_once(context, project, environ):
    context.catalog.put_cluster(Cluster(name="bad", engine="local", store="file:///sys"))  # not even root may
    with pytest.raises(StoreDenied):
        submitted(context, project, environ, cluster="bad")
    assert is_untouched(context)


def test_a_store_that_is_away_does_not_stop_a_run(context, project, environ, tmp_path):
    context.catalog.put_cluster(Cluster(name="away", engine="local", store=f"file://{tmp_path}/not/mounted"))
    made = submitted(context, project, environ, cluster="away")
    assert any("will wait" in note for note in made.notes)
    assert context.catalog.run(made.run.name) is not None


def test_a_dry_run_tells_and_leaves_nothing(context, project, environ, woken):
    made = submitted(context, project, environ, "[1,2]", dry_run=True)
    assert [each.command for each in made.experiments] == ["train.py 1", "train.py 2"]
    assert made.copy is not None
    assert made.copy.files == 1
    assert is_untouched(context)
    assert woken == []


# --------------------------------------------------------------------------------------------------------- inputs


@pytest.fixture
def earlier(context: Context, project: Path, environ: dict[str, str]) -> str:
    """An experiment that kept three files."""
    made = submitted(context, project, environ, name="earlier")
    experiment = made.experiments[0]
    store = context.store("local")
    artifacts = []
    for path in (b"out/a.txt", b"out/b.txt", b"outer"):
        key = artifact_key(experiment.experiment_id, path)
        store.put(key, io.BytesIO(path))
        artifacts.append(
            Artifact(
                artifact_id=f"art_{new_ulid()}",
                experiment_id=experiment.experiment_id,
                path=path,
                state=ArtifactState.STORED,
                size=len(path),
                sha256=hashlib.sha256(path).hexdigest(),
                mtime_ns=10**18,
                mode=0o644,
                key=key,
            )
        )
    context.catalog.record_artifacts(experiment.experiment_id, artifacts)
    context.catalog.update_experiment(experiment.experiment_id, state=State.COMPLETED)
    return experiment.name


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("", {"out/a.txt", "out/b.txt", "outer"}),
        (":out", {"out/a.txt", "out/b.txt"}),
        (":out/b.txt", {"out/b.txt"}),
    ],
)
def test_inputs_are_in_the_copy(context, project, environ, earlier, what, expected):
    made = submitted(context, project, environ, inputs=[earlier + what])
    folder = Path(context.home.work(made.run.ulid), "inputs")
    found = {str(path.relative_to(folder / earlier)) for path in folder.rglob("*") if path.is_file()}
    assert found == expected
    assert (folder / earlier / "out" / "b.txt").read_bytes() == b"out/b.txt"
    assert made.run.spec.inputs == [earlier + what]
    assert os.listdir(folder) == [earlier]


def test_an_input_that_is_not_there(context, project, environ, earlier):
    before = left_behind(context)
    with pytest.raises(NotFound, match="no artifact at no/such"):
        submitted(context, project, environ, inputs=[f"{earlier}:no/such"])
    assert left_behind(context) == before


def test_an_input_that_the_store_has_lost(context, project, environ, earlier):
    before = left_behind(context)
    experiment = context.catalog.experiment(earlier)
    assert experiment is not None
    context.store("local").delete([artifact_key(experiment.experiment_id, b"outer")])
    with pytest.raises(GridError, match=f"The input {earlier}:outer cannot be had"):
        submitted(context, project, environ, inputs=[earlier])
    assert left_behind(context) == before


def test_inputs_never_go_through_a_link_into_the_project(context, project, environ, earlier, tmp_path):
    (tmp_path / "mine").mkdir()
    (project / "inputs").symlink_to(tmp_path / "mine")
    with pytest.raises(Conflict, match="link"):
        submitted(context, project, environ, inputs=[earlier])
    assert os.listdir(tmp_path / "mine") == []


# -------------------------------------------------------------------------------------------------------- command


def grid(project: Path, environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """`grid` as a user calls it, from inside a run: so it starts no engine."""
    inside = {"GRID_ARTIFACTS_SOCKET": f"{environ['GRIDKEEP_HOME']}/journal/x"}
    command = [sys.executable, "-m", "gridkeep.cli.main", *args]
    return subprocess.run(command, cwd=project, env=environ | inside, capture_output=True, text=True)


def test_the_command_prints_the_name_last(project, environ):
    done = grid(
        project, environ, "run", "--name", "cli", "train.py", "--lr", "[1,2]", "--name", "x", "--", "-y"
    )
    assert (done.returncode, done.stdout) == (0, "cli\n"), done.stderr
    lines = done.stderr.split("\n")
    assert lines[0] == "Run submitted!"
    for hint in ("`grid status cli`", "`grid artifacts cli`", "`grid logs cli-exp0`"):
        assert hint in done.stderr
    assert any(line.startswith("Experiments:") and line.endswith(" 2") for line in lines)
    with open_context(environ, start_engine=False) as context:
        experiment = context.catalog.experiment("cli-exp1")
        assert experiment is not None
        assert experiment.args == ["--lr", "2", "--name", "x", "--", "-y"]


def test_after_a_double_dash_it_is_resolved_the_same_way(project, environ):
    done = grid(project, environ, "run", "--name", "dashed", "--", "train.py", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "dashed\n"), done.stderr


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["--cpus", "abc", "train.py"], 2, "abc"),
        (["--cpus", "0", "train.py"], 2, "above 0"),
        (["--timeout", "xyz", "train.py"], 2, "not a duration"),
        (["--timeout", "0", "train.py"], 2, "longer than nothing"),
        (["--memory", "lots", "train.py"], 2, "not a size"),
        (["--env", "A", "train.py"], 2, "NAME=VALUE"),
        (["--parallel", "0", "train.py"], 2, "0"),
        (["--strategy", "luck", "train.py"], 2, "luck"),
        (["--unknown", "train.py"], 2, "--unknown"),
        ([], 2, "SCRIPT"),
        (["--name", "A", "train.py"], 2, "Hint: Try `--name a`."),
        (["nope.py"], 1, "Error: nope.py does not exist"),
        (["train.py", "uniform(1,2)"], 1, "size"),
        (["train.py", "range(10001)"], 1, "10,001"),
    ],
)
def test_mistakes_and_their_exit_status(project, environ, args, status, says):
    done = grid(project, environ, "run", *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_commands(project, environ):
    done = grid(project, environ, "run", "--dry-run", "train.py", "['a b','c']")
    assert (done.returncode, done.stdout) == (0, "train.py 'a b'\ntrain.py c\n")
    assert done.stderr.startswith("Dry run")
