"""The life of one experiment: prepare, start the script under capture, keep what it writes while it runs, finish.

One process, one loop. All that it must remember lies in the journal's folder, so it may be killed at any moment and started
again: `Life(...).run()` goes on from what it finds. The script does not notice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from gridkeep.capture import processes
from gridkeep.capture.session import Launch, Session
from gridkeep.catalog.base import Catalog
from gridkeep.errors import CatalogError, GridError, StoreError
from gridkeep.model import ACTIVE_STATES, Experiment, Outcome, Run, State
from gridkeep.settings import Home, Settings
from gridkeep.stores.base import Store
from gridkeep.supervisor import finish, memory, restart, restore, stock
from gridkeep.supervisor.keeper import Keeper
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.lookout import Lookout
from gridkeep.supervisor.outcome import Verdict, verdict_of
from gridkeep.supervisor.patience import Patience
from gridkeep.supervisor.prepare import Preparation
from gridkeep.supervisor.record import keep_record, put_record
from gridkeep.supervisor.rescan import Rescan
from gridkeep.supervisor.settle import Changed

_CHECK_EVERY = 0.25  # seconds between two looks at stop requests, the time limit, the script's end
_START_PATIENCE = 30.0  # seconds for the shim to start the script, all tries together
_START_AGAIN = 3.0  # seconds for each
_RECORD_PATIENCE = 2.0  # seconds for the store to take the record before the script begins
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_SEEING = ("c", "python")  # the modes in which every write is recorded


class Withdrawn(Exception):
    """The experiment is being deleted, was stopped before its script began, or the catalog does not know it (it was lost:
    journal and script are left as they are): there is nothing to do for it now."""


class Life:
    """See the module. `run()` returns when the experiment is final, or when its files could not be kept in time."""

    def __init__(
        self, home: Home, settings: Settings, catalog: Catalog, store: Store, run: Run, experiment: Experiment
    ) -> None:
        self._home = home
        self._settings = settings
        self._catalog = catalog
        self._store = store
        self._run = run
        self._experiment = experiment
        self._id = experiment.experiment_id
        self._folder = home.journal(self._id)
        self._ledger = Ledger(home.ledger(self._id))
        self._prepared = Preparation(home, settings, run, experiment, self._ledger)
        self._session = self._open_session()
        self._output = os.path.join(self._folder, "output.log")
        self._keeper = Keeper(
            self._id, settings, catalog, store, self._ledger, self._prepared.naming, self._output
        )
        trees = self._prepared.trees
        self._rescan = Rescan(self._ledger, self._keeper.tracker, trees)
        watch_folder = os.fsencode(os.path.join(self._folder, "watch"))
        self._lookout = Lookout(self._ledger, self._rescan, trees, watch_folder)
        self._stop_reason: str | None = None
        self._timed_out = False
        self._next_check = 0.0
        self._next_question = 0.0
        self._asked: str | None = None

    # --------------------------------------------------------------------------------------------------------- phases

    def run(self) -> None:
        """Raises Withdrawn when somebody deletes the experiment meanwhile, or stops it before its script begins."""
        self._take_stock()
        self._keeper.publisher.remind()
        if self._experiment.waiting_for:  # what one before us waited for
            self._update(waiting_for=None)
        while True:
            if self._start():
                if self._mode() == "watch":
                    self._update(capture=self._capture_record())  # whoever looks shall know now
                while not self._script_is_over():
                    self._keeper.turn(self._session)
                    if self._mode() == "watch":
                        self._lookout.look()
            if not (self._run.spec.auto_resume and self._is_lost()) or self._ledger.fact("stop_reason"):
                break
            self._start_again()
        self._sync_the_rest()

    def _take_stock(self) -> None:
        """Where the machine was started again since a supervisor was here. Raises Withdrawn when that is all there is to
        do: it had ended before, or the store stayed away too long."""
        begun = self._session.started() is not None
        if restart.noticed(self._home, self._id) and not self._session.alive():
            patience = Patience(self._ledger, self._folder, self._settings.sync_timeout)
            while not self._has_taken_stock(begun):
                if (reason := self._stop_requested()) is not None:
                    self._ledger.set_fact("stop_reason", reason)
                    self._move_on(ACTIVE_STATES, state=State.SYNCING)
                if patience.is_over(waiting=True):
                    self._give_up()
                    raise Withdrawn
            self._keeper.store_answers()
        if begun:
            restart.note(self._home, self._id)
        self._keeper.tracker.unsure = restart.is_before(self._ledger, self._experiment.attempt)

    def _has_taken_stock(self, begun: bool) -> bool:
        """False when the store or the catalog did not take part: try again. Raises Withdrawn."""
        attempt, naming = self._experiment.attempt, self._prepared.naming
        sessions = [self._session_of(number) for number in range(1, attempt + 1)]
        try:
            if restore.bring_back(self._catalog, self._store, self._run, self._experiment):
                raise Withdrawn
            restart.mend_output(self._store, self._id, self._output)
            with self._ledger.transaction():
                stock.recall(self._catalog, self._id, self._ledger, naming)
                stock.take(self._store, self._id, self._ledger, naming, sessions, self._stop_requested)
                restart.went_down(self._ledger, attempt if begun else attempt - 1)
        except (StoreError, CatalogError) as error:
            self._keeper.store_trouble(error)
            return False
        return True

    def _start(self) -> bool:
        """False when the script could not be started; what is known of it is then in the ledger."""
        if self._session.started() is not None:
            if self._session.end() is None:
                self._announce(patience=0.0)  # whoever was before us may not have come to it
            return True
        if self._ledger.fact("start_error") or self._ledger.fact("stop_reason"):
            return False
        if (reason := self._stop_requested()) is not None:
            self._ledger.set_fact("stop_reason", reason)
            return False
        if (launch := self._prepare()) is None:
            return False
        self._set_off()
        with contextlib.suppress(OSError):
            keep_record(self._home, self._run, self._experiment)
        self._announce(patience=_RECORD_PATIENCE)
        if self._prepared.foreseen:
            self._lookout.begin()
        deadline, again = time.monotonic() + _START_PATIENCE, 0.0
        while self._session.started() is None:
            now = time.monotonic()
            if now > again and not self._session.alive():
                try:
                    if now > deadline:
                        raise GridError("the capture shim could not be started")
                    self._session.start(launch)  # again, if it was killed before the script began
                except GridError as error:
                    self._ledger.set_fact("start_error", error.message)
                    return False
                again = now + _START_AGAIN
            time.sleep(0.005)
        return True

    def _announce(self, *, patience: float) -> None:
        """Tells the store of the experiment. The script does not wait for one that is silent."""
        self._keeper.alongside.announce(self._run, self._experiment, patience)

    def _prepare(self) -> Launch | None:
        """None when that cannot be done, or was stopped. A disk that is full or fails is waited for."""
        while True:
            try:
                launch = self._prepared.prepare()
                self._ledger.make_durable()
                restart.note(self._home, self._id)
                self._keeper.home_works()
                return launch
            except (GridError, OSError) as error:
                message = (
                    error.message if isinstance(error, GridError) else f"{error.strerror}: {error.filename}"
                )
                cause = error.__cause__ or error
                if not isinstance(cause, OSError) or cause.errno not in _PASSING:
                    self._ledger.set_fact("start_error", message)
                    return None
                self._keeper.home_trouble(message)
            if (reason := self._stop_requested()) is not None:
                self._ledger.set_fact("stop_reason", reason)
                return None

    def _set_off(self) -> None:
        """From queued to running, unless it was stopped in that very moment."""
        self._move_on((State.QUEUED, State.RUNNING), state=State.RUNNING, started_at=time.time())

    def _open_session(self) -> Session:
        return self._session_of(self._experiment.attempt)

    def _session_of(self, attempt: int) -> Session:
        return Session(os.path.join(self._folder, f"capture-{attempt}"))

    def _is_lost(self) -> bool:
        """Whether the script went away with all that could have told how: its machine was lost."""
        return self._session.started() is not None and self._session.ending() is None

    def _read_to_the_end(self) -> None:
        """All that the journal holds is noted, and sent meanwhile."""
        while not self._keeper.read_on(self._session):
            self._stop_requested()  # raises Withdrawn
        if self._mode() in _SEEING:
            memory.all_told(self._ledger)
        self._note_lost_calls()

    def _note_lost_calls(self) -> None:
        """Of a journal that a power cut may have cut off, and of what it did not see."""
        attempt, fact = self._experiment.attempt, f"cut-{self._experiment.attempt}"
        if restart.is_before(self._ledger, attempt) and not self._ledger.fact(fact):
            with self._ledger.transaction():
                if not self._session.is_whole() or self._mode() not in _SEEING:
                    self._ledger.add_loss(restart.LOST_CALLS)
                self._ledger.set_fact(fact, 1)

    def _start_again(self) -> None:
        """Another attempt in the same working copy, after all that the lost one wrote has been noted."""
        self._end_orphans()
        self._read_to_the_end()
        self._update(attempt=self._experiment.attempt + 1)
        self._session = self._open_session()
        self._keeper.tracker.unsure = False

    def _sync_the_rest(self) -> None:
        """From the script's end to `completed`: the last sweep, the last bytes, the proof."""
        self._end_orphans()
        verdict = self._verdict()
        capture = self._capture_record()
        self._move_on(ACTIVE_STATES, state=State.SYNCING, ended_at=verdict.ended_at, capture=capture)
        self._sweep()
        patience = Patience(self._ledger, self._folder, self._settings.sync_timeout)
        self._keeper.finish_up()
        while True:
            self._keeper.turn(self._session)
            self._stop_requested()  # raises Withdrawn
            if self._keeper.done and self._conclude(verdict):
                return
            if patience.is_over(waiting=self._keeper.waiting_for is not None):
                self._give_up()
                return

    def _conclude(self, verdict: Verdict) -> bool:
        """Output log, record, check, manifest, the final state. False when the store did not take part: try again."""
        try:
            if os.path.exists(self._output):
                finish.put_output(self._store, self._id, self._output)
            if finish.differences(self._store, self._id, self._ledger):
                return False
            self._keeper.publisher.publish_all()
            # When the answer to our manifest was lost, what it says is what was.
            finished_at: float | None = self._ledger.fact("finished_at")
            if finished_at is None or not finish.has_manifest(self._store, self._id):
                finished_at = time.time()
                self._ledger.set_fact("finished_at", finished_at)
            final = replace(
                self._experiment,
                state=verdict.state,
                outcome=str(verdict.outcome),
                reason=verdict.reason,
                exit_code=verdict.exit_code,
                ended_at=verdict.ended_at,
                finished_at=finished_at,
                waiting_for=None,
                capture=self._capture_record(),
            )
            put_record(self._store, self._run, final)
            digest = finish.put_manifest(
                self._store, self._run, final, self._ledger, self._keeper.publisher, self._folder
            )
        except (StoreError, CatalogError, Changed, OSError, sqlite3.OperationalError) as error:
            self._keeper.store_trouble(error)
            return False
        self._update(
            state=final.state,
            outcome=final.outcome,
            reason=final.reason,
            exit_code=final.exit_code,
            finished_at=final.finished_at,
            waiting_for=None,
            capture=final.capture,
            manifest_sha256=digest,
        )
        return True

    def _give_up(self) -> None:
        """The store stayed away too long. The files stay in the home."""
        trouble = self._keeper.waiting_for or "The store was not there."
        with contextlib.suppress(CatalogError):
            self._keeper.publisher.publish()  # what is on its way, too: it is to be seen what is not there
        self._update(
            state=State.FAILED,
            outcome=str(Outcome.SYNC),
            reason=f"not all files could be stored in time; they are kept in the home. {trouble}",
            finished_at=time.time(),
        )

    # -------------------------------------------------------------------------------------------------------- the script

    def _script_is_over(self) -> bool:
        """Looks now and then whether the script has ended, shall be stopped, or has had its time."""
        now = time.monotonic()
        if self._session.end() is not None:
            return True
        if now < self._next_check:
            return False
        self._next_check = now + _CHECK_EVERY
        if not self._session.alive():
            return True  # ended just now, or lost with its shim
        if self._session.ending() is None:
            self._stop_if_asked()
        return False

    def _end_orphans(self) -> None:
        """When shim and guard were killed, the script may live on, unseen: it is ended before its files are called
        complete."""
        if self._session.end() is None:
            self._end_processes()

    def _end_processes(self) -> None:
        """Ends all that was started with the experiment's name in its surroundings: SIGTERM, grace, SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + self._settings.kill_grace
            while orphans := processes.with_variable("GRID_EXPERIMENT_ID", self._id):
                if time.monotonic() > deadline and number is not signal.SIGKILL:
                    break
                processes.send(orphans, number)
                time.sleep(0.1)

    def _stop_if_asked(self) -> None:
        if not self._stop_reason and (reason := self._stop_requested()):
            self._stop_reason = reason
            self._ledger.set_fact("stop_reason", reason)
            self._stop()
        limit = self._run.spec.timeout
        if limit is not None and not self._timed_out and self._session.age() > limit:
            self._timed_out = True
            self._ledger.set_fact("timed_out", 1)
            self._stop()

    def _stop(self) -> None:
        if not self._session.stop():
            self._end_processes()

    def _stop_requested(self) -> str | None:
        """The reason to give, if somebody asked; the catalog is asked now and then only."""
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + _CHECK_EVERY
            with contextlib.suppress(CatalogError):
                experiment = self._catalog.experiment(self._id)
                if experiment is None:
                    if any(one.experiment_id == self._id for one in self._catalog.deleting()):
                        self._session.stop()
                    raise Withdrawn
                self._asked = experiment.stop_requested
        return self._asked

    def _verdict(self) -> Verdict:
        fact = f"over-{self._experiment.attempt}"  # a supervisor after us shall say the same
        if (over := self._ledger.fact(fact)) is None:
            self._ledger.set_fact(fact, over := time.time())
        return verdict_of(
            self._session,
            now=over,
            start_error=self._ledger.fact("start_error"),
            stop_reason=self._ledger.fact("stop_reason"),
            timeout=self._run.spec.timeout if self._ledger.fact("timed_out") else None,
        )

    def _sweep(self) -> None:
        """What the journal still holds, then whatever differs in the working copy and is not known."""
        self._read_to_the_end()
        if not self._ledger.fact("swept"):
            if self._mode() == "watch":
                self._lookout.finish()
            with self._ledger.transaction():
                is_seen = self._mode() in _SEEING
                may_be_cut = restart.is_before(self._ledger, 0) and (is_seen or not self._session.started())
                self._rescan.look(
                    time.monotonic(),
                    unexpected=is_seen,
                    inputs_may_be_cut=may_be_cut and self._run.spec.capture,
                )
                counters = self._session.counters()
                if unwritten := counters.get("lost", 0) - counters.get("unreadable", 0):
                    self._ledger.add_loss(
                        f"{unwritten} calls could not be recorded: the journal could not be written"
                    )
                self._ledger.set_fact("swept", 1)

    def _mode(self) -> str:
        """How the run's writes are seen."""
        return str((self._session.started() or {}).get("mode", "off"))

    def _capture_record(self) -> dict[str, Any]:
        """Which mode the run had, and how complete."""
        started = self._session.started() or {}
        end = self._session.end() or {}
        record = {
            "mode": self._mode(),
            "why": self._prepared.foreseen or started.get("why"),
            **self._session.counters(),
            "swept": self._ledger.totals()["swept"],
        }
        if self._mode() == "watch":
            record["means"] = self._lookout.means()
            record["blind"] = self._lookout.blind(len(self._run.spec.linked))
        elif self._mode() not in _SEEING:
            record["blind"] = "files written outside the working copy are not seen"
        if end.get("terminated"):
            record["terminated"] = end["terminated"]
        return record

    # ------------------------------------------------------------------------------------------------------ the catalog

    def _update(self, only_from: Collection[State] | None = None, **changes: Any) -> bool:
        """Waits for the catalog if it must: these are the few changes that make the story."""
        self._experiment = replace(self._experiment, **changes)
        update = self._catalog.update_experiment
        return self._patiently(lambda: update(self._id, only_from=only_from, **changes))

    def _move_on(self, only_from: Collection[State], **changes: Any) -> None:
        """The same, unless somebody stopped it before it began: raises Withdrawn."""
        if not self._update(only_from, **changes):
            raise Withdrawn

    def _patiently(self, action: Callable[[], bool]) -> bool:
        while True:
            try:
                return action()
            except CatalogError:
                time.sleep(1)

    def close(self) -> None:
        self._lookout.close()
        self._keeper.close()
        self._ledger.close()
