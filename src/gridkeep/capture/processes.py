"""Processes seen from outside: descendants, signals to all of them, the exit status of one that is not our child."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import time

_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes); Linux >= 6.13, the exit code since 6.15
_INFO_EXIT = 1 << 3
_PIDFD_INFO = struct.Struct("=QQ11Ii")  # mask, cgroup, eleven ids, exit code

_THREADS = 15  # where their number stands in /proc/PID/stat, behind state and parent


def descendants(ancestor: int) -> list[int]:
    """All living processes below `ancestor`, from one look at /proc. Zombies are not alive, but for those whose threads go
    on without their first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                state, parent, *others = file.read().rpartition(b") ")[2].split()
        except (OSError, ValueError):
            continue
        if state not in b"ZX" or int(others[_THREADS]) > 1:
            children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    unseen = [ancestor]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def state_of(pid: int) -> str:
    """As in /proc: R, S, T (stopped), Z, …; X when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return chr(file.read().rpartition(b") ")[2][0])
    except OSError:
        return "X"


def age(pid: int) -> float:
    """Seconds since the process was started; 0 when it is not there. Source: proc(5), field 22 of stat, in clock ticks
    since boot."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b") ")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def with_variable(name: str, value: str) -> list[int]:
    """Living processes that were started with this variable, as all descendants of a script are unless they cleared it."""
    wanted = os.fsencode(f"{name}={value}")
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                continue
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """To each that is still there and ours to signal."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def exit_status(pidfd: int, patience: float = 2.0) -> int | None:
    """The wait status of an ended process that may never have been our child; None where the kernel does not tell.

    It tells once the process has been reaped by whoever is its parent now: `patience` is how many seconds that may take.
    """
    deadline = time.monotonic() + patience
    while True:
        buffer = bytearray(_PIDFD_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer, True)
            mask, *_, status = _PIDFD_INFO.unpack(buffer)
            if mask & _INFO_EXIT:
                return int(status)
        except OSError as error:
            if error.errno != errno.ESRCH:  # ESRCH: it is being reaped just now
                return None
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
