"""Waiting for work that other processes do, while seeing to it that somebody does it."""

from __future__ import annotations

import time

from gridkeep.runs import dispatch
from gridkeep.runs.context import Context

_WAKE_S = 3.0


class Pulse:
    """The pause between two looks at the catalog. Every few seconds it replaces an engine or supervisor that has
    died, so that whoever waits does not wait for nobody."""

    def __init__(self, context: Context, interval: float = 0.2) -> None:
        self._context = context
        self._interval = interval
        self._next_wake = time.monotonic() + _WAKE_S

    def wait(self) -> None:
        if time.monotonic() >= self._next_wake:
            dispatch.wake(self._context.home, self._context.catalog)
            self._next_wake = time.monotonic() + _WAKE_S
        time.sleep(self._interval)
