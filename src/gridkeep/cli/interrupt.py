"""Ctrl-C ends a command also where a library waits for a store and lets no signal through.

Python acts on a signal when the main thread next comes to a line of it, and joins all threads before it ends: with a server
that is silent, either may take minutes. Whatever is cut off here might have been killed as well: all of it is made for that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

_STILL = 1.0  # seconds that the main thread has not moved since, after which nothing is expected of it
_LOOK_EVERY = 0.1
_INTERRUPTED = 130


def watch() -> None:
    """From now on SIGINT ends this process when its main thread does not. To be called from that."""
    heard, told = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(heard,), name="interrupt", daemon=True).start()


def _wait(heard: int) -> None:
    while signal.SIGINT not in os.read(heard, 64):
        continue
    where, since = _place(), time.monotonic()
    while time.monotonic() - since < _STILL:
        time.sleep(_LOOK_EVERY)
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return  # whoever took it knows what to do
        if (now := _place()) != where:
            where, since = now, time.monotonic()
    os._exit(_INTERRUPTED)


def _place() -> tuple[int, int]:
    """Where the main thread is."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    return (id(frame), frame.f_lasti) if frame else (0, 0)
