"""The shim: the script's parent, the reaper of its descendants, and the eye that sees their writes.

A small process of its own that knows no store and no catalog. It puts the script under the filter, answers each
notification once its record stands in the journal, and writes down how the script ended. Beside it sits the *guard*
(`guard`), a fork that answers when the shim is slow or dead. Imports only what starts fast.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import sys
import time
from dataclasses import asdict
from typing import Any, NoReturn

from gridkeep.capture.calls import build_filter
from gridkeep.capture.journal import LATE, Op, Stamp, Writer
from gridkeep.capture.kernel import PR_SET_CHILD_SUBREAPER, Listener, install_filter, prctl
from gridkeep.capture.observe import Observer
from gridkeep.capture.processes import descendants, exit_status, send
from gridkeep.capture.session import COUNTERS, SHARED_SIZE, Ending, Launch
from gridkeep.files import take_lock, write_json

_SLOW = 0.06  # seconds in which a notification must be answered, or the guard does
_TICK = 0.03
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Shared:
    """The counters and the receive buffer, in memory that the shim, the guard and the supervisor share."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, SHARED_SIZE)
        self._counters = mmap.mmap(fd, mmap.PAGESIZE)
        self.buffer = mmap.mmap(fd, mmap.PAGESIZE, offset=mmap.PAGESIZE)
        os.close(fd)
        self._values = memoryview(self._counters).cast("Q")

    def add(self, name: str, amount: int = 1) -> None:
        self._values[COUNTERS.index(name)] += amount

    def get(self, name: str) -> int:
        return self._values[COUNTERS.index(name)]

    def all(self) -> dict[str, int]:
        return {name: self.get(name) for name in COUNTERS}


class Eye:
    """Notifications to journal records and answers; used by the shim, and by the guard when it takes over."""

    def __init__(self, listener: Listener, journal: Writer, shared: Shared, output: str) -> None:
        self.listener = listener
        self._journal = journal
        self._shared = shared
        self._output = output
        self._observer = Observer(Stamp.of(os.stat(output)), listener.valid)

    def next(self) -> None:
        """Receives one notification, records it, answers it."""
        if (notification := self.listener.receive()) is not None:
            self._shared.add("notices")
            self.see(notification)
            self._shared.add("answered")

    def see(self, notification: tuple[int, ...]) -> None:
        identity = notification[0]
        hurried = self._shared.get("watchdog")
        seen = self._observer.look(notification)
        record = seen.record
        if record is not None:
            if record.op is Op.LOST:
                self._shared.add("lost")
                self._shared.add("unreadable")
            self._shared.add("records" if self._journal.append(record) else "lost")
        if seen.refuse:
            self._shared.add("io_uring")
            self.listener.refuse(identity, 38)  # ENOSYS
        elif seen.output is None or not self._give_output(identity, seen.output, seen.close_on_exec):
            self.listener.proceed(identity)
            if record is not None and self._shared.get("watchdog") != hurried:
                self._shared.add("late")
                self._journal.append(record._replace(marks=record.marks | LATE))

    def _give_output(self, identity: int, access: int, close_on_exec: bool) -> bool:
        """The output log opened by name, as `> /dev/stderr` does: hand out an appending descriptor, so that nothing that was
        printed is cut off."""
        fd = os.open(self._output, access | os.O_APPEND | os.O_CLOEXEC)
        try:
            return self.listener.give(identity, fd, close_on_exec=close_on_exec)
        finally:
            os.close(fd)


class Shim:
    """The life of one execution; `folder` is that of `session`."""

    def __init__(self, folder: str, launch: Launch) -> None:
        self._folder = folder
        self._launch = launch
        self._shared = Shared(self._at("shared"))
        self._journal = Writer(self._at("journal"))
        self._eye: Eye | None = None
        self._script = 0
        self._guard = 0
        self._mode, self._why = launch.capture, "asked for"
        self._ended = False  # the script; descendants may live on
        self._deadline: float | None = None  # when the next signal is due
        self._next_signal = signal.SIGTERM
        self._terminated: list[str] = []

    # ----------------------------------------------------------------------------------------------------- beginning

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        self._stop_asked = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_stop)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)

        ours, theirs = socket.socketpair()
        error_out, error_in = os.pipe2(os.O_CLOEXEC)
        self._script = os.fork()
        if self._script == 0:
            ours.close()
            _become_script(self._launch, theirs, error_in)
        theirs.close()
        os.close(error_in)
        self._receive_listener(ours)
        pidfd = os.pidfd_open(self._script)
        self._fork_guard(pidfd)
        write_json(
            self._at("started.json"),
            {
                "shim": os.getpid(),
                "script": self._script,
                "at": time.time(),
                "mode": self._mode,
                "why": self._why,
            },
        )
        ours.send(b"g")  # only now: what has no started.json has not run
        error = os.read(error_out, 4096)
        os.close(error_out)
        if error:
            self._note_ending(Ending(ended_at=time.time(), error=error.decode(errors="replace")))
        self._loop(wake, pidfd)
        self._finish()

    def _receive_listener(self, ours: socket.socket) -> None:
        message, fds, _, _ = socket.recv_fds(ours, 4096, 1)
        if fds:
            self._eye = self._open_eye(fds[0])
            self._mode, self._why = "python", "seccomp user notification"
        elif message != b"-":
            self._mode, self._why = "watch", message.decode(errors="replace")

    def _open_eye(self, fd: int) -> Eye:
        os.set_inheritable(fd, False)
        listener = Listener(fd, self._shared.buffer)
        return Eye(listener, self._journal, self._shared, self._launch.output)

    def _fork_guard(self, pidfd: int) -> None:
        if self._eye is None:
            return
        shim = os.getpid()
        self._guard = os.fork()
        if self._guard == 0:
            code = 1
            try:
                Guard(self._eye, self._shared, shim, pidfd, self._finish_for_guard).run()
                code = 0
            finally:
                os._exit(code)

    # ---------------------------------------------------------------------------------------------------- while it runs

    def _loop(self, wake: int, pidfd: int) -> None:
        """Until no process of the tree is left."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        eye = self._eye
        if eye is not None:
            poll.register(eye.listener.fd, select.POLLIN)
        while True:
            timeout = None if self._deadline is None else max(0, self._deadline - time.monotonic()) * 1000
            for fd, event in poll.poll(timeout):
                if fd == wake:
                    os.read(wake, 4096)
                    self._reap(pidfd)
                elif event & select.POLLIN and eye is not None:
                    eye.next()
                elif event & _HANGUP:
                    poll.unregister(fd)  # the last filtered process is gone
                    self._reap(pidfd)
            if self._stop_asked and self._deadline is None:
                self._deadline = time.monotonic()
            if self._ended and not self._living():
                return
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._end_descendants()

    def _on_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _reap(self, pidfd: int) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._script and not self._ended:
                self._note_ending(ending_of(status))
            elif pid == self._guard and not (self._ended and not self._living()):
                self._fork_guard(pidfd)

    def _note_ending(self, ending: Ending) -> None:
        if not os.path.exists(self._at("exit.json")):
            write_json(self._at("exit.json"), asdict(ending))
        self._ended = True
        if self._deadline is None:
            self._deadline = time.monotonic() + self._launch.linger

    def _living(self) -> list[int]:
        return [pid for pid in descendants(os.getpid()) if pid != self._guard]

    def _end_descendants(self) -> None:
        living = self._living()
        if self._ended:
            self._terminated += [name for pid in living if (name := _program(pid)) not in self._terminated]
        send(living, self._next_signal)
        self._deadline = time.monotonic() + (
            self._launch.kill_grace if self._next_signal is signal.SIGTERM else 0.2
        )
        self._next_signal = signal.SIGKILL

    # ---------------------------------------------------------------------------------------------------- end

    def _finish(self) -> None:
        write_json(
            self._at("end.json"),
            {
                "finished_at": time.time(),
                "terminated": self._terminated,
                "mode": self._mode,
                "why": self._why,
                "counters": self._shared.all(),
            },
        )
        if self._guard:
            os.kill(self._guard, signal.SIGKILL)
            os.waitpid(self._guard, 0)

    def _finish_for_guard(self, pidfd: int) -> None:
        """What the guard writes when it has seen the tree's end in the shim's place."""
        if not os.path.exists(self._at("exit.json")):
            status = exit_status(pidfd)
            ending = Ending(ended_at=time.time()) if status is None else ending_of(status)
            write_json(self._at("exit.json"), asdict(ending))
        self._guard = 0
        self._finish()

    def _at(self, name: str) -> str:
        return os.path.join(self._folder, name)


class Guard:
    """A fork of the shim that shares its listener, buffer and journal: it lets a call go on that the shim has not
    answered in time, and does the shim's seeing (not its reaping) after its death."""

    def __init__(self, eye: Eye, shared: Shared, shim: int, pidfd: int, finish: Any) -> None:
        self._eye = eye
        self._shared = shared
        self._shim = os.pidfd_open(shim)
        self._pidfd = pidfd
        self._finish = finish

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._watch()
        self._take_over()
        self._finish(self._pidfd)

    def _watch(self) -> None:
        """Until the shim is dead."""
        poll = select.poll()
        poll.register(self._shim, select.POLLIN)
        stuck_at, since = 0, 0.0
        while not poll.poll(_TICK * 1000):
            notices = self._shared.get("notices")
            if notices == self._shared.get("answered"):
                continue
            now = time.monotonic()
            if notices != stuck_at:
                stuck_at, since = notices, now
            elif now - since > _SLOW:
                self._shared.add("watchdog")
                self._eye.listener.proceed(self._eye.listener.in_flight()[0])
                since = now

    def _take_over(self) -> None:
        """Answers what the shim left open, then all that comes, until the last filtered process is gone."""
        poll = select.poll()
        poll.register(self._eye.listener.fd, select.POLLIN)
        # The buffer may hold an id that was received but not counted yet: answering a finished one does no harm.
        self._eye.see(self._eye.listener.in_flight())
        while True:
            for _, event in poll.poll():
                if event & select.POLLIN:
                    self._shared.add("guard")
                    self._eye.next()
                elif event & _HANGUP:
                    return


def ending_of(status: int) -> Ending:
    """From a wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Ending(ended_at=time.time(), signal=-code)
    return Ending(ended_at=time.time(), exit_code=code)


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _become_script(launch: Launch, channel: socket.socket, error_in: int) -> NoReturn:
    """In the forked child: the script's surroundings, the filter, exec. Never returns."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        output = os.open(launch.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGCHLD,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(launch.umask)
        os.chdir(launch.cwd)
        _set_filter(launch, channel)
        if channel.recv(1) != b"g":
            os._exit(127)  # the shim died before it could say so
        os.closerange(3, min(channel.fileno(), error_in))
        os.execve(launch.argv[0], launch.argv, launch.env)
    except BaseException as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(error_in, f"{launch.argv[0]}: {text}".encode(errors="replace")[:4000])
    finally:
        os._exit(127)


def _set_filter(launch: Launch, channel: socket.socket) -> None:
    """Sends the listener, `-` when none is wanted, or the reason why there is none."""
    if launch.capture in ("off", "watch"):
        channel.send(b"-")
        return
    try:
        listener = install_filter(build_filter(os.uname().machine))
    except (OSError, KeyError) as error:
        channel.send(f"this kernel refuses seccomp user notification: {error}".encode())
        return
    socket.send_fds(channel, [b"+"], [listener])
    os.close(listener)


def main(folder: str) -> None:
    """The shim's process. Leaves at once when another has the lock or the script has been started before."""
    lock = take_lock(os.path.join(folder, "lock"))
    if lock is None or os.path.exists(os.path.join(folder, "started.json")):
        return
    with open(os.path.join(folder, "launch"), "rb") as file:
        launch = Launch.decode(file.read())
    Shim(folder, launch).run()
    sys.stdout.flush()
