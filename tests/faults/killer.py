"""Blows at random moments: who is hit, when, and how, all from a seed.

A moment is a number of seconds after the one before, or the instant at which something appears in the home or the store
(the ledger, the script's start, its end, the manifest, …), for that is where the seams are.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridkeep.files import read_json
from tests.support import processes_of

ROLES = ("script", "child", "supervisor", "engine", "shim", "guard")
SETS = [
    (("script",), 3), (("child",), 2), (("supervisor",), 6), (("engine",), 3), (("shim",), 3), (("guard",), 2),
    (("shim", "guard"), 3), (("supervisor", "engine"), 3), (("supervisor", "shim"), 2), (("shim", "script"), 1),
    (("supervisor", "shim", "guard"), 2), (("engine", "supervisor", "guard"), 1), (ROLES, 3),
]  # fmt: skip
EVENTS = {
    "submitting": "journal/*/submitting",
    "copying": "work/*.partial",
    "environment": "journal/*/environ.json",
    "kept": "journal/*/run.json",
    "copy": "work/*",
    "ledger": "journal/*/ledger.db",
    "launch": "journal/*/capture-*/launch",
    "started": "journal/*/capture-*/started.json",
    "exit": "journal/*/capture-*/exit.json",
    "end": "journal/*/capture-*/end.json",
    "first file": "store/experiments/*/artifacts/*",
    "output": "store/experiments/*/output.log",
    "put": "store/.tmp/*/*",
    "record": "store/experiments/*/experiment.json",
    "manifest": "store/experiments/*/manifest.jsonl",
    "deleting": "deleting/*",
}
_POLL = 0.003  # seconds
_LONGEST = 30.0  # seconds


@dataclass(frozen=True)
class Blow:
    """`roles` get SIGKILL, or with `hold` SIGSTOP and so many seconds later SIGCONT, `delay` seconds after `event` (None:
    the blow before)."""

    roles: tuple[str, ...]
    event: str | None
    delay: float
    hold: float | None = None

    @property
    def kind(self) -> str:
        return ("stop " if self.hold else "kill ") + ("all" if self.roles == ROLES else "+".join(self.roles))


def plan(chance: random.Random) -> list[Blow]:
    """One to four blows."""
    blows = []
    for _ in range(chance.choices([1, 2, 3, 4], [4, 3, 2, 1])[0]):
        roles = chance.choices([roles for roles, _ in SETS], [weight for _, weight in SETS])[0]
        event = chance.choice([None, *EVENTS]) if chance.random() < 0.6 else None
        delay = (
            chance.uniform(0, 2)
            if event is None
            else chance.choice([0, chance.uniform(0, 0.05), chance.uniform(0, 0.4)])
        )
        hold = chance.uniform(0.05, 1.5) if chance.random() < 0.2 else None
        blows.append(Blow(roles, event, delay, hold))
    return blows


def cast(home: Path) -> dict[str, list[int]]:
    """Who plays which part in a home now."""
    parts: dict[str, list[int]] = {role: [] for role in ROLES}
    shims, scripts = set(), set()
    for path in home.glob("journal/*/capture-*/started.json"):
        if started := read_json(str(path)):
            shims.add(started["shim"])
            scripts.add(started["script"])
    for pid in processes_of(home):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if b"GRID_EXPERIMENT_ID=" in environ:
            parts["script" if pid in scripts else "child"].append(pid)
        elif b"\0gridkeep.supervisor\0" in command:
            parts["supervisor"].append(pid)
        elif b"\0gridkeep.runs.dispatcher\0" in command:
            parts["engine"].append(pid)
        elif b"/capture-" in command:
            parts["shim" if pid in shims else "guard"].append(pid)
    return parts


def strike(home: Path, blow: Blow) -> int:
    """Hits whoever is there; returns how many."""
    parts = cast(home)
    victims = [pid for role in blow.roles for pid in parts[role]]
    if blow.hold is None:
        return _send(victims, signal.SIGKILL)
    count = _send(victims, signal.SIGSTOP)
    time.sleep(blow.hold)
    _send(victims, signal.SIGCONT)
    return count


def wait_for_moment(home: Path, blow: Blow, over: Callable[[], bool]) -> None:
    """Until the blow is due, or all is over; for what never comes, not for long."""
    began = checked = time.monotonic()
    while blow.event is not None and not next(home.glob(EVENTS[blow.event]), None):
        if time.monotonic() - checked > 0.2:
            checked = time.monotonic()
            if over() or checked - began > _LONGEST:
                return
        time.sleep(_POLL)
    time.sleep(blow.delay)


def _send(pids: list[int], number: signal.Signals) -> int:
    count = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            count += 1
        except ProcessLookupError:
            continue
    return count
