"""The life of one experiment: prepare, start the script under capture, keep what it writes while it runs, finish.

One process, one loop. All that it must remember lies in the journal's folder, so it may be killed at any moment and started
again: `Life(...).run()` goes on from what it finds. The script does not notice.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from gridkeep.capture import processes
from gridkeep.capture.session import Session
from gridkeep.catalog.base import Catalog
from gridkeep.errors import CatalogError, GridError, StoreError
from gridkeep.model import Experiment, Outcome, Run, State
from gridkeep.settings import Home, Settings
from gridkeep.stores.base import Store
from gridkeep.supervisor import finish
from gridkeep.supervisor.examiner import Examiner
from gridkeep.supervisor.ledger import Ledger, Phase
from gridkeep.supervisor.outcome import Verdict, verdict_of
from gridkeep.supervisor.prepare import Preparation
from gridkeep.supervisor.publish import Publisher
from gridkeep.supervisor.rescan import Rescan
from gridkeep.supervisor.settle import Changed
from gridkeep.supervisor.tracker import Tracker
from gridkeep.supervisor.transfers import Backoff, Result, Sent, ToSend, Transfers

_TICK = 0.05  # seconds between two looks at the journal while there is something to do
_IDLE_TICK = 0.1
_PUBLISH_EVERY = 0.15  # records reach the catalog at most this much late
_CHECK_EVERY = 0.25  # stop requests, the time limit, the script's end
_BATCH = 500  # files looked at in a turn
_RECORDS = 2000  # of the journal read in a turn
_SEEING = ("c", "python")  # the modes in which every write is recorded
_TRIES = 5  # of copying a file that changes under us when nobody should have it open
_PREFIX_TRIES = 3  # of copying a growing file before it is said that it cannot be
_QUEUED_AHEAD = 512  # files handed to the transfer threads before they are free


class Withdrawn(Exception):
    """The experiment is being deleted, or was stopped before its script began: there is nothing left to do for it."""


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
        self._ledger = Ledger(os.path.join(self._folder, "ledger.db"))
        self._prepared = Preparation(home, settings, run, experiment, self._ledger)
        self._session = self._open_session()
        self._tracker = Tracker(self._ledger, self._prepared.naming, settings)
        self._rescan = Rescan(self._ledger, self._tracker, os.fsencode(self._prepared.tree))
        self._examiner = Examiner(self._ledger, self._tracker, settings)
        self._publisher = Publisher(self._ledger, catalog, self._id)
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._transfers = Transfers(store, self._id, settings.transfer_threads, self._wake)
        self._backoff = Backoff(settings.retry_max)
        self._outbox: list[ToSend] = []
        self._waiting_for: str | None = None
        self._stop_reason: str | None = None
        self._timed_out = False
        self._output_size = -1
        self._output_due = time.monotonic() + settings.growing_interval
        self._next_publish = 0.0
        self._next_check = 0.0
        self._next_question = 0.0
        self._asked: str | None = None

    # --------------------------------------------------------------------------------------------------------- phases

    def run(self) -> None:
        """Raises Withdrawn when somebody deletes the experiment meanwhile, or stops it before its script begins."""
        while True:
            if self._start():
                while not self._script_is_over():
                    self._turn()
                    if self._mode() == "watch":
                        self._rescan.look_now_and_then()
            if not (self._run.spec.auto_resume and self._is_lost()):
                break
            self._start_again()
        self._sync_the_rest()

    def _start(self) -> bool:
        """False when the script could not be started; what is known of it is then in the ledger."""
        if self._session.started() is not None:
            return True
        if self._ledger.fact("start_error") or self._ledger.fact("stop_reason"):
            return False
        try:
            if (reason := self._stop_requested()) is not None:
                self._ledger.set_fact("stop_reason", reason)
                return False
            launch = self._prepared.prepare()
        except (GridError, OSError) as error:
            message = error.message if isinstance(error, GridError) else f"{error.strerror}: {error.filename}"
            self._ledger.set_fact("start_error", message)
            return False
        self._set_off()
        with contextlib.suppress(StoreError):
            finish.put_record(self._store, self._run, self._experiment)
        self._session.start(launch)
        deadline = time.monotonic() + 30
        while self._session.started() is None:
            if time.monotonic() > deadline and not self._session.alive():
                self._ledger.set_fact("start_error", "the capture shim could not be started")
                return False
            time.sleep(0.005)
        return True

    def _set_off(self) -> None:
        """From queued to running, unless it was stopped in that very moment."""
        began: dict[str, Any] = {"state": State.RUNNING, "started_at": time.time()}
        self._experiment = replace(self._experiment, **began)
        waiting = (State.QUEUED, State.RUNNING)
        if not self._patiently(lambda: self._catalog.update_experiment(self._id, only_from=waiting, **began)):
            raise Withdrawn

    def _open_session(self) -> Session:
        return Session(os.path.join(self._folder, f"capture-{self._experiment.attempt}"))

    def _is_lost(self) -> bool:
        """Whether the script went away with all that could have told how: its machine was lost."""
        return self._session.started() is not None and self._session.ending() is None

    def _start_again(self) -> None:
        """Another attempt in the same working copy, after all that the lost one wrote has been noted."""
        self._end_orphans()
        self._read_journal()
        self._update(attempt=self._experiment.attempt + 1)
        self._session = self._open_session()

    def _sync_the_rest(self) -> None:
        """From the script's end to `completed`: the last sweep, the last bytes, the proof."""
        self._end_orphans()
        verdict = self._verdict()
        self._update(state=State.SYNCING, ended_at=verdict.ended_at, capture=self._capture_record())
        deadline = time.monotonic() + max(0.0, verdict.ended_at + self._settings.sync_timeout - time.time())
        self._examiner.final = True
        self._sweep()
        while True:
            self._turn()
            self._stop_requested()  # raises Withdrawn
            idle = not self._outbox and not self._transfers.count and self._ledger.unsettled() == 0
            if idle and self._conclude(verdict):
                return
            if time.monotonic() > deadline:
                self._give_up()
                return

    def _conclude(self, verdict: Verdict) -> bool:
        """Output log, record, check, manifest, the final state. False when the store did not take part: try again."""
        try:
            output = os.path.join(self._folder, "output.log")
            if os.path.exists(output):
                finish.put_output(self._store, self._id, output)
            if finish.differences(self._store, self._id, self._ledger):
                return False
            self._publisher.publish()
            final = replace(
                self._experiment,
                state=verdict.state,
                outcome=str(verdict.outcome),
                reason=verdict.reason,
                exit_code=verdict.exit_code,
                ended_at=verdict.ended_at,
                finished_at=time.time(),
                waiting_for=None,
                capture=self._capture_record(),
            )
            finish.put_record(self._store, self._run, final)
            digest = finish.put_manifest(
                self._store, self._run, final, self._ledger, self._publisher, self._folder
            )
        except (StoreError, CatalogError, Changed) as error:
            self._store_trouble(error)
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
        waiting = self._waiting_for or "the store"
        self._update(
            state=State.FAILED,
            outcome=str(Outcome.SYNC),
            reason=f"not all files could be stored in time, waiting for {waiting}; they are kept in the home",
            finished_at=time.time(),
        )

    # ----------------------------------------------------------------------------------------------------------- a turn

    def _turn(self) -> None:
        """Everything once: read the journal, look at files, send, record; then rest a little."""
        try:
            with self._ledger.transaction():
                read = self._ingest()
                self._take_results()
                looked = self._examine()
            self._publish()
            self._send_outbox()
            self._put_growing_output()
        except (sqlite3.OperationalError, OSError) as error:
            # The disk of the home is full or failing: what is written stays where it is until that ends.
            self._outbox = []
            self._wait_for(f"the home: {error}")
            time.sleep(1)
            with contextlib.suppress(sqlite3.OperationalError):
                self._ledger.resume()
            return
        if not read and not looked:
            self._rest()

    def _ingest(self) -> int:
        """Journal records to ledger entries; the offset is committed with them. Returns how many."""
        now, count = time.monotonic(), 0
        name = f"offset-{self._experiment.attempt}"
        behind = self._ledger.fact(name, 0)
        for offset, record in islice(self._session.records(behind), _RECORDS):
            self._tracker.apply(record, now)
            behind, count = offset, count + 1
        if count:
            self._ledger.set_fact(name, behind)
        return count

    def _examine(self) -> int:
        now = time.monotonic()
        if now < self._backoff.until or len(self._outbox) + self._transfers.count > _QUEUED_AHEAD:
            return 0
        due = self._ledger.due(now, _BATCH)
        for entry in due:
            if self._transfers.busy(entry.path):
                entry.due = now + _TICK
                self._ledger.put(entry)
            elif send := self._examiner.examine(entry, now):
                self._outbox.append(send)
        return len(due)

    def _take_results(self) -> None:
        now = time.monotonic()
        for result in self._transfers.finished():
            entry = self._ledger.get(result.path)
            if entry is None:
                continue
            entry.unsaved_since = now
            if isinstance(result.outcome, Sent):
                self._backoff.worked()
                self._wait_for(None)
                self._note_sent(entry, result.outcome)
            else:
                self._note_trouble(entry, result, now)
            entry.dirty = True
            self._ledger.put(entry)

    def _note_sent(self, entry: Any, sent: Sent) -> None:
        entry.size, entry.sha256, entry.key, entry.etag = sent.size, sent.sha256, sent.key, sent.etag
        entry.mtime_ns, entry.ctime_ns, entry.ino, entry.mode = (
            sent.mtime_ns,
            sent.ctime_ns,
            sent.ino,
            sent.mode,
        )
        entry.partial, entry.tries = sent.prefix, 0
        entry.reason = self._prepared.naming.place(entry.path).note
        if entry.phase is Phase.READY:
            entry.phase, entry.due, entry.rewrites = Phase.STORED, None, 0
        elif entry.due is None:
            entry.due = time.monotonic() + _IDLE_TICK

    def _note_trouble(self, entry: Any, result: Result, now: float) -> None:
        trouble = result.outcome
        assert not isinstance(trouble, Sent)
        if trouble.store:
            self._backoff.failed(now)
            self._wait_for(trouble.reason)
            entry.due = self._backoff.until
        elif trouble.changed:
            entry.tries += 1
            entry.due = now + min(self._settings.quiet * entry.tries, self._settings.quiet_max)
            if self._examiner.final and entry.tries >= _TRIES:
                entry.phase, entry.due, entry.reason = Phase.MISSING, None, trouble.reason
            elif entry.tries >= _PREFIX_TRIES:
                entry.reason = "rewritten without a pause: no copy of it until it rests"
        else:
            entry.due = now if trouble.gone else now + 1
            if self._examiner.final and not trouble.gone:
                entry.phase, entry.due, entry.reason = Phase.MISSING, None, trouble.reason

    def _publish(self) -> None:
        now = time.monotonic()
        if now < self._next_publish and not self._outbox:
            return
        self._next_publish = now + _PUBLISH_EVERY
        try:
            self._publisher.publish()
        except CatalogError as error:
            self._wait_for(f"the catalog: {error.message}")
            self._next_publish = now + 1

    def _send_outbox(self) -> None:
        """Only what the catalog knows to be on its way may be overwritten in the store; what is new need not wait."""
        if self._outbox:
            told = not self._ledger.dirty(1)
            self._transfers.start([send for send in self._outbox if told or not send.replaces])
            self._outbox = [send for send in self._outbox if not told and send.replaces]

    def _put_growing_output(self) -> None:
        now = time.monotonic()
        if now < self._output_due or self._examiner.final:
            return
        self._output_due = now + self._settings.growing_interval
        path = os.path.join(self._folder, "output.log")
        with contextlib.suppress(StoreError, Changed, FileNotFoundError):
            if os.path.getsize(path) != self._output_size:
                self._output_size = finish.put_output(self._store, self._id, path)

    def _rest(self) -> None:
        """Until a transfer ends or the next look is due."""
        busy = self._transfers.count or self._outbox
        due = self._ledger.next_due()
        pause = _TICK if busy else _IDLE_TICK
        if due is not None:
            pause = min(pause, max(due - time.monotonic(), self._backoff.until - time.monotonic(), 0.005))
        if select.select([self._wake_out], [], [], pause)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_out, 4096)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_in, b".")

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
        if self._session.end() is not None:
            return
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
            self._session.stop()
        limit = self._run.spec.timeout
        if limit is not None and not self._timed_out and self._session.age() > limit:
            self._timed_out = True
            self._ledger.set_fact("timed_out", 1)
            self._session.stop()

    def _stop_requested(self) -> str | None:
        """The reason to give, if somebody asked; the catalog is asked now and then only."""
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + _CHECK_EVERY
            with contextlib.suppress(CatalogError):
                experiment = self._catalog.experiment(self._id)
                if experiment is None:
                    self._session.stop()
                    raise Withdrawn
                self._asked = experiment.stop_requested
        return self._asked

    def _verdict(self) -> Verdict:
        return verdict_of(
            self._session,
            start_error=self._ledger.fact("start_error"),
            stop_reason=self._ledger.fact("stop_reason"),
            timeout=self._run.spec.timeout if self._ledger.fact("timed_out") else None,
        )

    def _read_journal(self) -> None:
        """To its end."""
        read = 1
        while read:
            with self._ledger.transaction():
                read = self._ingest()

    def _sweep(self) -> None:
        """What the journal still holds, then whatever differs in the working copy and is not known."""
        self._read_journal()
        if not self._ledger.fact("swept"):
            with self._ledger.transaction():
                self._rescan.look(time.monotonic(), unexpected=self._mode() in _SEEING)
                counters = self._session.counters()
                if unwritten := counters.get("lost", 0) - counters.get("unreadable", 0):
                    self._ledger.add_loss(
                        f"{unwritten} calls could not be recorded: the journal could not be written"
                    )
                self._ledger.set_fact("swept", 1)
        self._ledger.all_due()

    def _mode(self) -> str:
        """How the run's writes are seen."""
        return str((self._session.started() or {}).get("mode", "off"))

    def _capture_record(self) -> dict[str, Any]:
        """Which mode the run had, and how complete."""
        started = self._session.started() or {}
        end = self._session.end() or {}
        record = {
            "mode": self._mode(),
            "why": started.get("why"),
            **(
                {}
                if self._mode() in _SEEING
                else {"blind": "files written outside the working copy are not seen"}
            ),
            **self._session.counters(),
            "swept": self._ledger.totals()["swept"],
        }
        if end.get("terminated"):
            record["terminated"] = end["terminated"]
        return record

    # ------------------------------------------------------------------------------------------------------ the catalog

    def _update(self, **changes: Any) -> None:
        """Waits for the catalog if it must: these are the few changes that make the story."""
        self._experiment = replace(self._experiment, **changes)
        self._patiently(lambda: self._catalog.update_experiment(self._id, **changes))

    def _patiently(self, action: Callable[[], bool]) -> bool:
        while True:
            try:
                return action()
            except CatalogError:
                time.sleep(1)

    def _wait_for(self, what: str | None) -> None:
        if what != self._waiting_for:
            self._waiting_for = what
            with contextlib.suppress(CatalogError):
                self._catalog.update_experiment(self._id, waiting_for=what)

    def _store_trouble(self, error: Exception) -> None:
        now = time.monotonic()
        self._backoff.failed(now)
        self._wait_for(error.message if isinstance(error, GridError) else str(error))
        time.sleep(max(0.0, self._backoff.until - now))

    def close(self) -> None:
        self._transfers.close()
        self._ledger.close()
        os.close(self._wake_out)
        os.close(self._wake_in)
