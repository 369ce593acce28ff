"""Keeps the files: journal → ledger → catalog and store, turn by turn.

One thread does the reading, looking and recording; others only send. All that must survive is in the ledger: a Keeper
that is killed is replaced by a new one on the same ledger. Knows nothing of how the script is started or how it ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import time
from collections.abc import Sequence
from itertools import islice

from gridkeep.capture.session import Session
from gridkeep.catalog.base import Catalog
from gridkeep.errors import CatalogError
from gridkeep.settings import Settings
from gridkeep.stores.base import Store
from gridkeep.supervisor import restart
from gridkeep.supervisor.alongside import Alongside
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.examiner import Examiner
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from gridkeep.supervisor.publish import Publisher
from gridkeep.supervisor.tracker import Tracker
from gridkeep.supervisor.transfers import Backoff, Sent, ToSend, Transfers, Trouble

_TICK = 0.05  # seconds between two looks at the journal while there is something to do
_IDLE_TICK = 0.1
_PUBLISH_EVERY = 0.15  # records reach the catalog at most this much late
_MOMENT, _LAST_MOMENT = (
    1.0,
    2.0,
)  # seconds in which a small file is in the store, as a rule; and at the end, when many are
_ANSWERS_EVERY = 0.5  # seconds between two looks whether a store that failed takes parts again
_BATCH = 500  # files looked at in a turn
_RECORDS = 400  # of the journal read in a turn: what waits for its second look comes to its turn beside them
_TRIES = 5  # of copying a file that changes under us when nobody should have it open
_PREFIX_TRIES = 3  # of copying a growing file before it is said that it cannot be
_QUEUED_AHEAD = 512  # files handed to the transfer threads before they are free


class Keeper:
    """For one experiment. `output`: the file that holds what the script prints."""

    def __init__(
        self,
        experiment_id: str,
        settings: Settings,
        catalog: Catalog,
        store: Store,
        ledger: Ledger,
        naming: Naming,
        output: str,
    ) -> None:
        self._id = experiment_id
        self._settings = settings
        self._catalog = catalog
        self._ledger = ledger
        self._naming = naming
        self.tracker = Tracker(ledger, naming, settings)
        self.publisher = Publisher(ledger, catalog, experiment_id)
        self.waiting_for: str | None = None
        self._home_fails = False
        self._examiner = Examiner(ledger, self.tracker, settings)
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        uploads = os.path.join(os.path.dirname(output), "uploads")
        self._transfers = Transfers(store, experiment_id, settings.transfer_threads, self._wake, uploads)
        self._backoff = Backoff(settings.retry_max)
        self._confirmed = 0  # parts of large files, when we last looked
        self._next_answer = 0.0
        self._outbox: dict[bytes, ToSend] = {}
        self._read_all, self._read_at = False, time.monotonic()  # the journal, and when that was so last
        self._passed_over: set[bytes] = set()  # by the last sweep, as they were under way
        self.alongside = Alongside(store, experiment_id, output, settings.growing_interval)
        self._next_publish = 0.0

    def finish_up(self) -> None:
        """The script and all its descendants are gone: nobody has a file open any more, nothing needs to be quiet."""
        self._examiner.final = True
        self._passed_over |= self._on_their_way()
        self._ledger.all_due()

    @property
    def done(self) -> bool:
        """Whether all that is known is stored, or said to be missing, removed or ignored."""
        under_way = self._outbox or self._transfers.under_way or self.alongside.busy
        return not under_way and self._ledger.unsettled() == 0

    def turn(self, session: Session) -> None:
        """Everything once: read the journal, look at files, send, record; then rest a little."""
        moved = self._step(session)
        if moved == 0:
            self._rest()
        elif moved and moved < _RECORDS and not self._examiner.final:
            time.sleep(_TICK)  # the script has the processor: what comes meanwhile is taken in one go

    def read_on(self, session: Session) -> bool:
        """A turn after the script's end: whether the journal has been read to its own."""
        if self._examiner.all_told:  # what was read before now may have been written after
            self._passed_over |= self._on_their_way()
        self._read_all = self._examiner.all_told = False
        if self._step(session) == 0 and not self._read_all:
            self._rest()
        self._examiner.all_told = self._read_all
        return self._read_all

    def _step(self, session: Session) -> int | None:
        """How many records and files it was about; None where the home's disk failed."""
        try:
            if self._home_fails:
                self._ledger.resume()  # what a turn that failed had taken on
            with self._ledger.transaction():
                moved = self._ingest(session) if self._keeps_up() else 0
                self._take_results()
                self._look_for_answers()
                moved += self._examine()
            self._publish()
            self._send_outbox()
            if not self._examiner.final:
                self.alongside.look()
        except (sqlite3.OperationalError, OSError) as error:
            self._outbox, self._read_all = {}, False
            self.home_trouble(str(error))
            return None
        self.home_works()
        return moved

    def _keeps_up(self) -> bool:
        """The journal is read as fast as files are sent, or a moment later: what is looked at as it is read is put down
        once."""
        return self._has_room() or time.monotonic() - self._read_at > _MOMENT

    def _on_their_way(self) -> set[bytes]:
        return self._transfers.under_way | self._outbox.keys()

    def _has_room(self) -> bool:
        return len(self._outbox) + len(self._transfers.under_way) <= _QUEUED_AHEAD

    def _ingest(self, session: Session) -> int:
        """Journal records to ledger entries; the offset is committed with them. Returns how many."""
        now = time.monotonic()
        fact = f"offset-{os.path.basename(session.folder)}"
        found = list(islice(session.records(self._ledger.fact(fact, 0)), _RECORDS))
        self._ledger.fetch(path for _, record in found for path, _ in record.paths)
        for _, record in found:
            self.tracker.apply(record, now)
        if found:
            self._ledger.set_fact(fact, found[-1][0])
        if len(found) < _RECORDS:
            self._read_all, self._read_at = True, now
        return len(found)

    def _examine(self) -> int:
        """What was just noted first: it is not yet put down."""
        now = time.monotonic()
        if now < self._backoff.until or not self._has_room():
            return 0
        looked = self._look_at(self._ledger.noted(now)[:_RECORDS], now)
        return looked + self._look_at(self._ledger.due(now, _BATCH - looked), now)

    def _look_at(self, due: Sequence[Entry], now: float) -> int:
        for entry in due:
            if entry.path in self._transfers.under_way:
                entry.due = None  # what comes of it decides when
                self._ledger.put(entry)
            elif send := self._examiner.examine(entry, now):
                self._outbox[send.path] = send
        return len(due)

    def _take_results(self) -> None:
        now = time.monotonic()
        finished = self._transfers.finished()
        self._ledger.fetch(result.path for result in finished)
        for result in finished:
            entry = self._ledger.get(result.path)
            if entry is None:
                continue
            entry.unsaved_since = now
            if isinstance(result.outcome, Sent):
                self.store_answers()
                self._note_sent(entry, result.outcome)
            else:
                self._note_trouble(entry, result.outcome, now)
            entry.dirty = True
            self._ledger.put(entry)
        if any(isinstance(result.outcome, Trouble) and result.outcome.store for result in finished):
            self._confirmed = self._transfers.confirmed()

    def _look_for_answers(self) -> None:
        """A large file takes its time: when the store confirms parts of it, what was waited for is over already."""
        now = time.monotonic()
        if self.waiting_for is None or now < self._next_answer:
            return
        self._next_answer = now + _ANSWERS_EVERY
        before, self._confirmed = self._confirmed, self._transfers.confirmed()
        if self._confirmed > before:
            self.store_answers()

    def store_answers(self) -> None:
        """What was waited for is over."""
        self._backoff.worked()
        self._wait_for(None)

    def _note_sent(self, entry: Entry, sent: Sent) -> None:
        entry.size, entry.sha256, entry.key, entry.etag = sent.size, sent.sha256, sent.key, sent.etag
        entry.mtime_ns, entry.ctime_ns, entry.ino, entry.mode = (
            sent.mtime_ns,
            sent.ctime_ns,
            sent.ino,
            sent.mode,
        )
        entry.partial, entry.tries = sent.prefix, 0
        entry.reason = self._naming.place(entry.path).note or (restart.DOUBTFUL if entry.unsure else None)
        ready = entry.phase is Phase.READY
        if ready and entry.path in self._passed_over and not self._examiner.is_as_sent(entry):
            entry.due = 0.0  # it was written since it was read, by another of its names
        elif ready:
            entry.phase, entry.due, entry.rewrites = Phase.STORED, None, 0
        elif entry.due is None:
            entry.due = time.monotonic() + _IDLE_TICK

    def _note_trouble(self, entry: Entry, trouble: Trouble, now: float) -> None:
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
            entry.due = now if trouble.again else now + 1
            if self._examiner.final and not trouble.again:
                entry.phase, entry.due, entry.reason = Phase.MISSING, None, trouble.reason

    def _publish(self) -> None:
        now = time.monotonic()
        if now < self._next_publish and not any(send.replaces for send in self._outbox.values()):
            return
        self._next_publish = now + _PUBLISH_EVERY
        try:
            self.publisher.publish(self._worth_telling(now))
        except CatalogError as error:
            self._wait_for(f"the catalog: {error.message}")
            self._next_publish = now + 1

    def _worth_telling(self, now: float) -> float:
        """What is small, and in the store in a moment, is told of once, then."""
        return now - (_LAST_MOMENT if self._examiner.final else _MOMENT)

    def _send_outbox(self) -> None:
        """Only what the catalog knows to be on its way may be overwritten in the store; what is new need not wait."""
        replacing = any(send.replaces for send in self._outbox.values())
        told = not replacing or not self._ledger.dirty(1, self._worth_telling(time.monotonic()))
        ready = {path: send for path, send in self._outbox.items() if told or not send.replaces}
        self._outbox = {path: send for path, send in self._outbox.items() if path not in ready}
        self._transfers.start(list(ready.values()))

    def _rest(self) -> None:
        """Until a transfer ends or the next look is due."""
        busy = self._transfers.under_way or self._outbox
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

    # ----------------------------------------------------------------------------------------------------------- waiting

    def _wait_for(self, what: str | None) -> None:
        if what != self.waiting_for:
            self.waiting_for = what
            with contextlib.suppress(CatalogError):
                self._catalog.update_experiment(self._id, waiting_for=what)

    def store_trouble(self, error: Exception) -> None:
        """The store did not take part: says so and waits a little."""
        now = time.monotonic()
        self._backoff.failed(now)
        self._wait_for(str(error) or "a file that changes")
        time.sleep(max(0.0, self._backoff.until - now))

    def home_trouble(self, what: str) -> None:
        """The disk of the home is full or failing: says so, and waits a little. What is written stays where it is."""
        self._home_fails = True
        self._wait_for(f"the home: {what}")
        time.sleep(1)

    def home_works(self) -> None:
        if self._home_fails:
            self._home_fails = False
            self._wait_for(None)

    def close(self) -> None:
        self._transfers.close()
        self.alongside.close()
        os.close(self._wake_out)
        os.close(self._wake_in)
