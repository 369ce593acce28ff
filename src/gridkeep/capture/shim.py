"""The shim: the script's parent, the reaper of its descendants, and the eye that sees their writes.

A small process of its own that knows no store and no catalog. It puts the script under the filter (`script`), answers
each notification once its record stands in the journal (`eye`), and writes down how the script ended. Beside it sits the
guard (`guard`), a fork that answers when the shim is slow or dead. Imports only what starts fast.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import time
from dataclasses import asdict
from typing import Any, NoReturn

from gridkeep.capture.eye import Eye
from gridkeep.capture.guard import Guard
from gridkeep.capture.journal import Writer
from gridkeep.capture.kernel import PR_SET_CHILD_SUBREAPER, prctl
from gridkeep.capture.processes import descendants, exit_status, send
from gridkeep.capture.script import GO, become_script, receive_listener
from gridkeep.capture.session import Ending, Launch
from gridkeep.capture.shared import Phase, Shared
from gridkeep.files import take_lock, write_json

_KILL_AGAIN = 0.2  # seconds between rounds of SIGKILL, for what was forked meanwhile
_TRY_AGAIN = 0.2  # seconds between tries to write on a full disk


class Shim:
    """The life of one execution; `folder` is that of `session`."""

    def __init__(self, folder: str, launch: Launch) -> None:
        self._folder = folder
        self._launch = launch
        self._shared = Shared(self._at("shared"))
        self._journal = Writer(self._at("journal"))
        self._listener: int | None = None
        self._eye: Eye | None = None
        self._channel: socket.socket | None = None  # to the child that waits to become the script
        self._errors = -1  # what it says if it cannot
        self._script = 0
        self._pidfd = -1  # of the script
        self._guard = 0
        self._mode, self._why = launch.capture, "asked for"
        self._ended = False  # the script; descendants may live on
        self._alone = False  # no process of the tree is left
        self._deadline: float | None = None  # when the next signal is due
        self._next_signal = signal.SIGTERM
        self._terminated: list[str] = []

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGCONT, _nothing)  # the guard interrupts us by it
        signal.signal(signal.SIGTERM, self._on_stop)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        self._start_script()
        self._loop(wake)
        self._finish()
        if self._guard:
            os.kill(self._guard, signal.SIGKILL)
            os.waitpid(self._guard, 0)

    # ----------------------------------------------------------------------------------------------------- beginning

    def _start_script(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._errors, errors_in = os.pipe2(os.O_CLOEXEC)
        self._script = os.fork()
        if self._script == 0:
            self._channel.close()
            become_script(self._launch, theirs, errors_in)
        theirs.close()
        os.close(errors_in)
        self._pidfd = os.pidfd_open(self._script)
        self._open_eye(*receive_listener(self._channel))
        self._fork_guard()
        started = {"shim": os.getpid(), "script": self._script, "at": time.time()}
        write_json(self._at("started.json"), started | {"mode": self._mode, "why": self._why})
        try:
            self._channel.send(GO)  # only now: what has no started.json has not run
        except BrokenPipeError:
            pass  # it has failed, and says why
        self._channel.close()
        self._channel = None
        self._note_failure()

    def _note_failure(self) -> None:
        """Waits until the script has begun, or has said why it cannot."""
        if self._errors >= 0:
            with open(self._errors, errors="replace") as said:
                if error := said.read():
                    self._note_ending(Ending(ended_at=time.time(), error=error))
            self._errors = -1

    def _open_eye(self, listener: int | None, refusal: str) -> None:
        self._listener = listener
        if listener is not None:
            self._eye = self._new_eye(self._shared.shims_seat)
            self._mode, self._why = "python", "seccomp user notification"
        elif refusal:
            self._mode, self._why = "watch", refusal

    def _new_eye(self, seat: memoryview) -> Eye:
        assert self._listener is not None
        return Eye(self._listener, seat, self._journal, self._shared, self._launch.output)

    def _fork_guard(self) -> None:
        if self._eye is None:
            return
        shim = os.getpid()
        self._guard = os.fork()
        if self._guard == 0:
            self._be_guard(shim)

    def _be_guard(self, shim: int) -> NoReturn:
        """In the forked child."""
        try:
            self._guard = 0
            if self._channel is not None:
                self._channel.close()  # the child that waits must hear of the shim's death
            Guard(self._new_eye(self._shared.guards_seat), self._journal, self._shared, shim).run()
            if os.path.exists(self._at("started.json")):  # else the script has not run
                self._finish()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)

    # ---------------------------------------------------------------------------------------------- while it runs

    def _loop(self, wake: int) -> None:
        """Until no process of the tree is left."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener, select.POLLIN)
        self._reap()
        while not (self._ended and self._alone):
            left = None if self._deadline is None else max(0, self._deadline - time.monotonic()) * 1000
            for fd, event in poll.poll(left):
                if fd == wake:
                    os.read(wake, 4096)
                    self._reap()
                elif event & select.POLLIN:
                    self._see_next()
                else:
                    poll.unregister(fd)
                    self._alone = True  # the last process under the filter is gone
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._end_descendants()

    def _see_next(self) -> None:
        assert self._eye is not None
        self._shared.phase = Phase.RECEIVING
        if (notification := self._eye.listener.receive()) is not None:
            self._shared.phase = Phase.HOLDING
            self._shared.add("notices")
            self._eye.see(notification)
            self._shared.add("answered")
        self._shared.phase = Phase.WAITING

    def _on_stop(self, *_: object) -> None:
        if self._next_signal is signal.SIGTERM:
            self._deadline = time.monotonic()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone = True  # we are the reaper of the whole tree
                return
            if pid == 0:
                return
            if pid == self._script and not self._ended:
                self._note_ending(ending_of(status))
            elif pid == self._guard:
                self._guard = 0
                self._fork_guard()

    def _note_ending(self, ending: Ending) -> None:
        if not os.path.exists(self._at("exit.json")):
            self._insist("exit.json", asdict(ending))
        self._ended = True
        if self._deadline is None:
            self._deadline = time.monotonic() + self._launch.linger

    def _end_descendants(self) -> None:
        living = [pid for pid in descendants(os.getpid()) if pid != self._guard]
        if self._ended:
            self._terminated += [name for pid in living if (name := _program(pid)) not in self._terminated]
        send(living, self._next_signal)
        pause = self._launch.kill_grace if self._next_signal is signal.SIGTERM else _KILL_AGAIN
        self._deadline = time.monotonic() + pause
        self._next_signal = signal.SIGKILL

    # --------------------------------------------------------------------------------------------------------- end

    def _finish(self) -> None:
        """The record of the run; by the guard, when it has seen the end in the shim's place."""
        self._note_failure()
        if not os.path.exists(self._at("exit.json")):
            status = exit_status(self._pidfd)
            self._note_ending(Ending(ended_at=time.time()) if status is None else ending_of(status))
        end = {
            "finished_at": time.time(),
            "terminated": self._terminated,
            "mode": self._mode,
            "why": self._why,
        }
        self._insist("end.json", end | {"counters": self._shared.all()})

    def _insist(self, name: str, value: Any) -> None:
        """However long the disk is full (the script may have filled it) or fails: nobody else knows this."""
        while True:
            try:
                return write_json(self._at(name), value)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise
                time.sleep(_TRY_AGAIN)

    def _at(self, name: str) -> str:
        return os.path.join(self._folder, name)


def ending_of(status: int) -> Ending:
    """From a wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Ending(ended_at=time.time(), signal=-code)
    return Ending(ended_at=time.time(), exit_code=code)


def _nothing(*_: object) -> None:
    pass


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def main(folder: str) -> None:
    """The shim's process. Leaves at once when another has the lock or the script has been started before."""
    lock = take_lock(os.path.join(folder, "lock"))
    if lock is None or os.path.exists(os.path.join(folder, "started.json")):
        return
    with open(os.path.join(folder, "launch"), "rb") as file:
        launch = Launch.decode(file.read())
    Shim(folder, launch).run()
