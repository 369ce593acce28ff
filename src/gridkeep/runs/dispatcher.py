"""The engine's background process: gives queued experiments to their engine as there is room, and lost ones a new
supervisor.

`python -m gridkeep.runs.dispatcher HOME`. It remembers nothing: the catalog says what is to be done and locks say who
lives, so it may be killed at any time; whichever command comes next starts another.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from gridkeep.engines.base import Capacity, Engine, Job, Phase
from gridkeep.engines.local import LocalEngine
from gridkeep.errors import CatalogError, HomeError
from gridkeep.files import is_locked, take_lock
from gridkeep.model import Experiment, Run, State
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.dispatch import deletions, has_work, start_deleter
from gridkeep.settings import parse_size
from gridkeep.supervisor.cleanup import clean, clean_abandoned, clean_run_of
from gridkeep.supervisor.transfers import Backoff

_LOOK_EVERY = 0.5  # seconds between two looks at the catalog
_IDLE = 1.0  # seconds without work after which the process leaves
_RESTART_MAX = 15.0  # the longest pause before a supervisor that keeps dying is started again
_DELETE_MAX = 60.0  # the longest pause between two tries to delete what a store does not let go


@dataclass
class Reserved:
    """What running experiments have taken of an engine's capacity."""

    cpus: float = 0.0
    memory: int = 0
    gpus: set[int] = field(default_factory=set)
    runs: dict[str, int] = field(default_factory=dict)  # running experiments of each run


class Dispatcher:
    """See the module."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._catalog = context.catalog
        self._home = context.home
        self._engine = engine
        self._capacity: Capacity = engine.capacity()
        self._runs: dict[str, Run] = {}
        self._started: dict[str, Experiment] = {}  # given to the engine by us, with their GPUs
        self._gpus: dict[str, set[int]] = {}
        self._deaths: dict[str, tuple[int, float]] = {}  # how often, and when to try again
        self._deleter: subprocess.Popen[bytes] | None = None
        self._deleting = Backoff(_DELETE_MAX)
        self._to_delete: frozenset[str] = frozenset()
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Until there has been no work for a while, or there is a newer version of us: what it adds to the catalog only its
        own engine and supervisors know. Those that work go on without us."""
        is_clean = False
        idle_since: float | None = None
        while True:
            try:
                if self._catalog.is_newer():
                    return
                if not is_clean:
                    self._clean_leftovers()
                    is_clean = True
                busy = self._look()
                busy = self._go_on_deleting() or busy
            except (CatalogError, OSError) as error:  # the disk is full, or fails: that passes
                print(error, file=sys.stderr, flush=True)
                busy = True
            now = time.monotonic()
            idle_since = None if busy else idle_since or now
            if idle_since is not None and now - idle_since > _IDLE:
                return
            self._rest()

    def _look(self) -> bool:
        """Starts what can be started. Tells whether there is anything left to do."""
        unfinished = self._catalog.unfinished()
        current = {experiment.experiment_id for experiment in unfinished}
        for gone in self._started.keys() - current:
            if self._engine.phase(self._lock(gone)) is not Phase.RUNNING:
                self._forget(gone)
                self._clean(gone)
        reserved = self._reserved(unfinished)
        for experiment in unfinished:
            if self._is_alive(experiment):
                continue
            if experiment.state is not State.QUEUED or experiment.experiment_id in self._started:
                self._replace(experiment)
            elif self._fits(experiment, reserved):
                self._start(experiment, reserved)
        return bool(unfinished or self._started)

    def _go_on_deleting(self) -> bool:
        """Starts a process for deletions that were begun, unless one is at them: at once when there are others than before,
        later each time that nothing of them went. Tells whether there are any."""
        if self._deleter is not None and self._deleter.poll() is None:
            return True
        now, before = time.monotonic(), self._to_delete
        self._to_delete = deletions(self._home, self._catalog)
        if self._to_delete != before:
            self._deleting.worked()
        if self._to_delete and now >= self._deleting.until and not is_locked(self._home.delete_lock):
            self._deleting.failed(now)
            self._deleter = start_deleter(self._home)
        return bool(self._to_delete)

    # ---------------------------------------------------------------------------------------------------------- room

    def _reserved(self, unfinished: list[Experiment]) -> Reserved:
        """What those take that execute their script. One that waits for runs of its own takes nothing, or both would
        wait for ever."""
        reserved = Reserved()
        waiting = {self._run(experiment).parent for experiment in unfinished}
        for experiment in unfinished:
            if experiment.state is State.RUNNING or (
                experiment.state is State.QUEUED and experiment.experiment_id in self._started
            ):
                reserved.runs[experiment.run_id] = reserved.runs.get(experiment.run_id, 0) + 1
                if experiment.experiment_id not in waiting:
                    self._take(experiment, reserved)
        return reserved

    def _take(self, experiment: Experiment, reserved: Reserved) -> None:
        spec = self._run(experiment).spec
        reserved.cpus += spec.cpus
        reserved.memory += _memory(spec.memory)
        reserved.gpus |= self._gpus.get(experiment.experiment_id, set())

    def _fits(self, experiment: Experiment, reserved: Reserved) -> bool:
        spec = self._run(experiment).spec
        if spec.parallel is not None and reserved.runs.get(experiment.run_id, 0) >= spec.parallel:
            return False
        if not reserved.runs:
            return True  # one that asks for more than there is runs alone
        free_gpus = self._capacity.gpus - len(reserved.gpus)
        return (
            (spec.parallel is not None or reserved.cpus + spec.cpus <= self._capacity.cpus)
            and (not spec.memory or reserved.memory + _memory(spec.memory) <= self._capacity.memory)
            and (not spec.gpus or spec.gpus <= free_gpus)
        )

    # ---------------------------------------------------------------------------------------------------- supervisors

    def _is_alive(self, experiment: Experiment) -> bool:
        return self._engine.phase(self._lock(experiment.experiment_id)) is Phase.RUNNING

    def _start(self, experiment: Experiment, reserved: Reserved) -> None:
        spec = self._run(experiment).spec
        gpus = set(sorted(set(range(self._capacity.gpus)) - reserved.gpus)[: spec.gpus])
        self._gpus[experiment.experiment_id] = gpus
        self._started[experiment.experiment_id] = experiment
        reserved.runs[experiment.run_id] = reserved.runs.get(experiment.run_id, 0) + 1
        self._take(experiment, reserved)
        self._submit(experiment, gpus)

    def _replace(self, experiment: Experiment) -> None:
        """A supervisor died: another takes its place, later each time it dies again."""
        deaths, not_before = self._deaths.get(experiment.experiment_id, (0, 0.0))
        now = time.monotonic()
        if now < not_before:
            return
        self._deaths[experiment.experiment_id] = (deaths + 1, now + min(0.25 * 2**deaths, _RESTART_MAX))
        self._started[experiment.experiment_id] = experiment
        self._submit(experiment, self._gpus.get(experiment.experiment_id, set()))

    def _submit(self, experiment: Experiment, gpus: set[int]) -> None:
        spec = self._run(experiment).spec
        environ = {}
        if gpus:
            environ = {
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, sorted(gpus))),
                "GRIDKEEP_GPUS_RESERVED": str(len(gpus)),
            }
        os.makedirs(self._home.journal(experiment.experiment_id), mode=0o700, exist_ok=True)
        self._engine.submit(
            Job(
                key=f"{experiment.experiment_id}-{experiment.attempt}",
                command=[
                    sys.executable,
                    "-m",
                    "gridkeep.supervisor",
                    self._home.path,
                    experiment.experiment_id,
                ],
                lock=self._lock(experiment.experiment_id),
                log=os.path.join(self._home.log, "supervisors.log"),
                environ=environ,
                cpus=spec.cpus,
                gpus=spec.gpus,
                memory=_memory(spec.memory),
            )
        )

    def _forget(self, experiment_id: str) -> None:
        self._engine.forget(self._lock(experiment_id))
        self._started.pop(experiment_id, None)
        self._gpus.pop(experiment_id, None)
        self._deaths.pop(experiment_id, None)

    def _lock(self, experiment_id: str) -> str:
        return self._home.supervisor_lock(experiment_id)

    def _run(self, experiment: Experiment) -> Run:
        run = self._runs.get(experiment.run_id) or self._catalog.run(experiment.run_id)
        if run is None:
            raise CatalogError(f"The run of {experiment.name} is not in the catalog.")
        self._runs[experiment.run_id] = run
        return run

    # --------------------------------------------------------------------------------------------------------- the home

    def _clean_leftovers(self) -> None:
        """What supervisors that died after their last record left behind, and submissions that were killed half-way."""
        for ulid in _folders(os.path.join(self._home.path, "journal")):
            self._clean(ulid)
        clean_abandoned(self._home, self._catalog)

    def _clean(self, ulid: str) -> None:
        """What a supervisor did not come to when it had made its last record."""
        experiment = self._catalog.experiment(ulid)
        try:
            if experiment is None:
                clean_run_of(self._home, self._catalog, ulid)
            elif not experiment.state.active and not self._is_alive(experiment):
                clean(self._home, self._catalog, experiment, keep_tree=experiment.missing > 0)
        except OSError as error:  # what one run left behind must not hold up the others
            print(f"{ulid} cannot be cleaned up: {error}", file=sys.stderr, flush=True)

    def _rest(self) -> None:
        """Until a supervisor ends, or the next look is due."""
        if select.select([self._woken], [], [], _LOOK_EVERY)[0]:
            os.read(self._woken, 4096)


def _folders(path: str) -> Iterator[str]:
    with os.scandir(path) as entries:
        yield from [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _memory(text: str | None) -> int:
    return parse_size(text) if text else 0


def main(path: str) -> None:
    """Serves the home until it is idle. Work that came in the last moment is looked for once more after the lock is
    given up: who brought it saw the lock held, and started nobody."""
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with open_context({**os.environ, "GRIDKEEP_HOME": path}, start_engine=False) as context:
        while (lock := take_lock(context.home.engine_lock)) is not None:
            try:
                Dispatcher(context, LocalEngine()).run()
            finally:
                os.close(lock)
            if context.catalog.is_newer():
                return
            if not has_work(context.home, context.catalog):
                return


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (
        HomeError
    ) as error:  # above all, the catalog was taken away: whoever has another starts another of us
        sys.exit(error.message)
