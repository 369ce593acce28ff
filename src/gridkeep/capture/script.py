"""From a fork of the shim to the script: its surroundings, the filter, exec."""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from gridkeep.capture.calls import build_filter
from gridkeep.capture.kernel import install_filter
from gridkeep.capture.session import Launch

GO = b"g"
_NONE_WANTED = b"-"
_HERE_IT_IS = b"+"
_OURS = (  # signals that the shim handles its own way
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


def become_script(launch: Launch, channel: socket.socket, errors: int) -> NoReturn:
    """In the forked child. Sends the listener through `channel` and waits there for `GO`; what keeps the script from
    starting is written to `errors`. Never returns."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        output = os.open(launch.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.set_wakeup_fd(-1)
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)
        os.umask(launch.umask)
        os.chdir(launch.cwd)
        _set_filter(launch, channel)
        if channel.recv(1) != GO:
            raise ConnectionError("its shim was killed before it could begin")
        os.closerange(3, min(channel.fileno(), errors))
        os.execve(launch.argv[0], launch.argv, launch.env)
    except BaseException as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{os.fsdecode(error.filename or launch.argv[0])}: {error.strerror}"
        os.write(errors, text.encode(errors="replace")[:4000])
    finally:
        os._exit(127)


def receive_listener(channel: socket.socket) -> tuple[int | None, str]:
    """The shim's end: the listener, or None with the reason ("": none was wanted, or the script could not come to it)."""
    message, fds, _, _ = socket.recv_fds(channel, 4096, 1)
    if fds:
        os.set_inheritable(fds[0], False)
        return fds[0], ""
    return None, message.removeprefix(_NONE_WANTED).decode(errors="replace")


def _set_filter(launch: Launch, channel: socket.socket) -> None:
    if launch.capture in ("off", "watch"):
        channel.send(_NONE_WANTED)
        return
    try:
        listener = install_filter(build_filter(os.uname().machine))
    except (OSError, KeyError) as error:
        channel.send(f"this kernel refuses seccomp user notification: {error}".encode())
        return
    socket.send_fds(channel, [_HERE_IT_IS], [listener])
    os.close(listener)
