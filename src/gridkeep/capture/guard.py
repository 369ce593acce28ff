"""The guard: a fork of the shim that lets the script go on when the shim is stuck or dead.

While the shim lives it watches: a call that the shim holds too long goes on, and what it leaves waiting the guard sees
in its place. Who stops the shim would stop the script, so a stopped shim is told to go on. When the shim is dead the
guard sees all that comes, until the last process of the tree is gone.
"""

from __future__ import annotations

import os
import select
import signal
import time

from gridkeep.capture.eye import Eye
from gridkeep.capture.journal import Writer
from gridkeep.capture.kernel import NOTIFICATION
from gridkeep.capture.processes import state_of
from gridkeep.capture.shared import Phase, Shared

_SLOW = 0.06  # seconds in which a notification must be answered, or the guard does
_TICK = 0.03


class Guard:
    """Watches the shim with this process id."""

    def __init__(self, eye: Eye, journal: Writer, shared: Shared, shim: int) -> None:
        self._eye = eye
        self._journal = journal
        self._shared = shared
        self._shim = shim
        self._pidfd = os.pidfd_open(shim)
        self._listener = select.poll()
        self._listener.register(eye.listener.fd, select.POLLIN)

    def run(self) -> None:
        """Until the shim and then the script's last process are gone."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, lambda *_: None)
        self._see_what_was_left(self._shared.guards_seat)  # by a guard before us, which was killed
        self._watch()
        self._take_over()

    def _watch(self) -> None:
        """Until the shim is dead."""
        death = select.poll()
        death.register(self._pidfd, select.POLLIN)
        beats, since = -1, time.monotonic()
        stuck = False
        while not death.poll(0 if stuck and self._is_readable() else _TICK * 1000):
            now = time.monotonic()
            idle = self._shared.phase is Phase.WAITING and not self._is_readable()
            if idle or self._shared.beats != beats:
                beats, since = self._shared.beats, now
            stuck = now - since > _SLOW
            if stuck and state_of(self._shim) == "T":
                os.kill(self._shim, signal.SIGCONT)
                since, stuck = now, False  # time to come to itself
            elif stuck:
                self._stand_in()

    def _stand_in(self) -> None:
        if state_of(self._shim) == "R" and self._shared.phase is Phase.HOLDING:
            return  # on its way, only the machine is busy: what it holds would be seen late for nothing
        held = NOTIFICATION.unpack_from(self._shared.shims_seat)[0]
        if self._shared.phase is Phase.HOLDING and not self._shared.hurried(held):
            self._shared.hurry(held)
            self._shared.add("watchdog")
            self._eye.listener.proceed(held)
        if self._is_readable():
            # The shim, come to itself, may take it first: then a timer ends our receiving.
            signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
            self._see_next()
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._shared.phase is Phase.RECEIVING:
            os.kill(self._shim, signal.SIGCONT)  # it waits for what we took: this ends its receiving

    def _take_over(self) -> None:
        """What the shim left open, then all that comes."""
        self._journal.mend()
        if self._shared.phase is not Phase.WAITING:
            self._see_what_was_left(self._shared.shims_seat)
        while True:
            for _, event in self._listener.poll():
                if not event & select.POLLIN:
                    return
                self._see_next()

    def _see_next(self) -> None:
        if (notification := self._eye.listener.receive()) is not None:
            self._shared.add("notices")
            self._shared.add("guard")
            self._eye.see(notification)
            self._shared.add("answered")

    def _see_what_was_left(self, seat: memoryview) -> None:
        notification = NOTIFICATION.unpack_from(seat)
        identity = notification[0]
        if identity and (self._eye.listener.valid(identity) or self._shared.hurried(identity)):
            self._eye.see(notification)

    def _is_readable(self) -> bool:
        return any(event & select.POLLIN for _, event in self._listener.poll(0))
