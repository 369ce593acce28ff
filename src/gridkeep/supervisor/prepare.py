"""What stands before the script's start: its working copy, its surroundings, and how its files will be called."""

from __future__ import annotations

import os
import pwd
import subprocess

from gridkeep import capture
from gridkeep.capture.session import Launch
from gridkeep.errors import GridError
from gridkeep.files import read_json, take_lock, write_json
from gridkeep.model import Experiment, Run
from gridkeep.settings import Home, Settings
from gridkeep.supervisor import restart, workcopy
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from gridkeep.supervisor.trees import Trees, place_of

BUILD_PATIENCE = 3600.0  # seconds that experiments wait for the one that runs the on_build actions


class Preparation:
    """For one experiment; `prepare()` may be repeated after a crash."""

    def __init__(
        self, home: Home, settings: Settings, run: Run, experiment: Experiment, ledger: Ledger
    ) -> None:
        self._home = home
        self._settings = settings
        self._run = run
        self._experiment = experiment
        self._ledger = ledger
        spec = run.spec
        self.tree = spec.root if spec.in_place else home.work(experiment.experiment_id)
        self._environ: dict[str, str] = read_json(environ_file(home, run.ulid)) or {}
        links = {os.fsencode(os.path.join(spec.root, name)): os.fsencode(name) for name in spec.linked}
        self._linked = [os.path.realpath(target) for target in links]
        self.trees = Trees(os.fsencode(self.tree), os.fsencode(home.path))
        if self.foreseen:
            self.trees.include(self._linked)
        self.naming = Naming(
            os.fsencode(self.tree),
            links,
            os.fsencode(home.path),
            os.fsencode(self._environ.get("HOME") or _user_home()),
            [*self._settings.exclude, *spec.exclude],
        )

    @property
    def foreseen(self) -> str | None:
        """Why the run can only be watched, where that was known before its start; None: it can be captured."""
        why: str | None = self._ledger.fact("watch")
        return why

    def prepare(self) -> Launch:
        """Makes the working copy, notes how it stands, and says what to execute. Raises GridError, OSError."""
        spec, folder = self._run.spec, self._home.journal(self._experiment.experiment_id)
        if not spec.in_place:
            self._check_copy()
            self._make_tree()
        if not self._ledger.fact("snapshot"):
            if spec.capture and (why := self._why_watch()):
                self._ledger.set_fact("watch", why)
                self.trees.include(self._linked)
            self._ledger.take_snapshot(self.trees.walk(folders=True))
            self._ledger.set_fact("snapshot", 1)
        cwd = os.path.join(self.tree, spec.workdir) if spec.workdir else self.tree
        argv = [*spec.argv, *self._experiment.args]
        if not os.path.isabs(argv[0]):
            argv[0] = os.path.join(cwd, argv[0])
        return Launch(
            argv=_with_actions(argv, spec.on_experiment_start, spec.on_experiment_end),
            cwd=cwd,
            output=os.path.join(folder, "output.log"),
            capture=self._settings.capture if spec.capture else "off",
            linger=self._settings.linger,
            kill_grace=self._settings.kill_grace,
            umask=spec.umask,
            env=self._environ
            | {
                "GRID_RUN_NAME": self._run.name,
                "GRID_EXPERIMENT_NAME": self._experiment.name,
                "GRID_EXPERIMENT_ID": self._experiment.experiment_id,
                "GRID_CLUSTER_ID": self._run.cluster,
                "GRID_USER_ID": self._run.created_by,
                "GRID_ARTIFACTS_SOCKET": os.path.join(folder, "artifacts.sock"),
                "PYTHONUNBUFFERED": "1",
                "PWD": cwd,
                **_gpus(),
            },
        )

    def _why_watch(self) -> str | None:
        return "asked for" if self._settings.capture == "watch" else capture.refusal()

    def _make_tree(self) -> None:
        source = self._home.work(self._run.ulid)
        if self._run.spec.on_build:
            self._build(source)
        if os.path.isdir(self.tree):
            return
        if self._run.experiments == 1 and os.path.isdir(source):
            os.rename(source, self.tree)  # nobody else wants it
        else:
            workcopy.clone(source, self.tree)

    def _check_copy(self) -> None:
        """Whether the code is still what was submitted: a machine that went down since may have lost some of it. Raises
        GridError."""
        source, lost = self._home.work(self._run.ulid), None
        if not restart.noticed(self._home, self._run.ulid):
            return
        if self._experiment.attempt > 1:
            # The script may have moved or removed any of it unseen, but what it cut was recorded, if it was captured.
            if self._run.spec.capture and not self.foreseen:
                untouched = self._ledger.untouched(place_of(os.fsencode(self.tree)))
                lost = next((os.fsdecode(path) for path, size in untouched if _size(path, size) < size), None)
        elif not self._run.spec.on_build:
            copy = self.tree if os.path.isdir(self.tree) else source
            lost = workcopy.lacks(copy, copy_file(self._home, self._run.ulid))
        if lost is not None:
            raise GridError(
                f"The machine went down, and the run's copy of the code lost {lost}.", "Submit the run again."
            )

    def _build(self, source: str) -> None:
        """The on_build actions, once for a run, in the copy that its experiments are cloned from."""
        folder = self._home.journal(self._run.ulid)
        done = os.path.join(folder, "built.json")
        lock = take_lock(os.path.join(folder, "build.lock"), BUILD_PATIENCE)
        try:
            result = read_json(done)
            if result is None and os.path.isdir(source):
                result = self._run_build(source)
                write_json(done, result)
            if result and result["code"] != 0:
                raise GridError(
                    f"The on_build action failed with exit code {result['code']}: {result['command']}"
                )
        finally:
            if lock is not None:
                os.close(lock)

    def _run_build(self, source: str) -> dict[str, object]:
        cwd = os.path.join(source, self._run.spec.workdir)
        log = os.path.join(self._home.journal(self._experiment.experiment_id), "output.log")
        with open(log, "ab") as output:
            for command in self._run.spec.on_build:
                code = subprocess.run(
                    ["/bin/sh", "-c", command],
                    cwd=cwd,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                ).returncode
                if code != 0:
                    return {"code": code, "command": command}
        return {"code": 0}


def environ_file(home: Home, run_ulid: str) -> str:
    """The submitter's environment: names and values, readable by its owner only."""
    return os.path.join(home.journal(run_ulid), "environ.json")


def copy_file(home: Home, run_ulid: str) -> str:
    """What the run's copy of the code held when it was submitted."""
    return os.path.join(home.journal(run_ulid), "copy.json")


def _size(path: bytes, otherwise: int) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return otherwise


def _with_actions(argv: list[str], before: list[str], after: list[str]) -> list[str]:
    """The script between shell commands; its exit status stays its own."""
    if not before and not after:
        return argv
    lines = ["set -e", *before, "set +e", '"$@"', "status=$?", *after, "exit $status"]
    return ["/bin/sh", "-c", "\n".join(lines), "sh", *argv]


def _gpus() -> dict[str, str]:
    """The devices that the engine reserved, if it did."""
    name = "CUDA_VISIBLE_DEVICES"
    return {name: os.environ[name]} if os.environ.get("GRIDKEEP_GPUS_RESERVED") and name in os.environ else {}


def _user_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"
