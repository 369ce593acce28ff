"""The eye: takes notifications from the kernel, has each recorded, and answers it. The shim's, or its guard's.

Whatever goes wrong in seeing, the call goes on: the script never waits for us, and never fails by us.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from gridkeep.capture.journal import ABSENT, LATE, Op, Record, Stamp, Writer
from gridkeep.capture.kernel import Listener
from gridkeep.capture.observe import Observer, Seen
from gridkeep.capture.shared import Shared

Notification = tuple[int, ...]


class Eye:
    """One for each process that looks: `seat` is its receive buffer, `output` the run's output log."""

    def __init__(self, fd: int, seat: memoryview, journal: Writer, shared: Shared, output: str) -> None:
        self.listener = Listener(fd, seat)
        self._journal = journal
        self._shared = shared
        self._output = output
        self._observer = Observer(Stamp.of(os.stat(output)), self.listener.valid)

    def see(self, notification: Notification) -> None:
        """Records what was received, and answers it."""
        identity = notification[0]
        seen = self._look(notification)
        record = seen.record
        if record is not None:
            self._write_down(record)
        if seen.refuse:
            self._shared.add("io_uring")
            self.listener.refuse(identity, errno.ENOSYS)
        elif seen.output is None or not self._give_output(identity, seen.output, seen.close_on_exec):
            self.listener.proceed(identity)
        if record is not None and record.op is not Op.LOST and self._shared.hurried(identity):
            self._shared.add("late")
            self._journal.append(record._replace(marks=record.marks | LATE))

    def _look(self, notification: Notification) -> Seen:
        identity, tid = notification[:2]
        try:
            seen = self._observer.look(notification)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)  # into the shim's log
            return _lost(tid, f"our own fault: {error!r}")
        if seen.gone and self._shared.hurried(identity):
            return _lost(tid, "it went on before it was looked at")
        return seen

    def _write_down(self, record: Record) -> None:
        if record.op is Op.LOST:
            self._shared.add("lost")
            self._shared.add("unreadable")
        self._shared.add("records" if self._journal.append(record) else "lost")

    def _give_output(self, identity: int, access: int, close_on_exec: bool) -> bool:
        """The output log opened by name, as `> /dev/stderr` does: hand out an appending descriptor, so that nothing
        that was printed is cut off."""
        try:
            fd = os.open(self._output, access | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return self.listener.give(identity, fd, close_on_exec=close_on_exec)
        finally:
            os.close(fd)


def _lost(tid: int, reason: str) -> Seen:
    path = f"a call of process {tid} ({reason})".encode(errors="replace")
    return Seen(Record(Op.LOST, tid, 0, time.time_ns(), ((path, ABSENT),)))
