"""The local engine: supervisors as detached processes of this machine. A lock, not a clock, says which of them live."""

from __future__ import annotations

import glob
import os
import signal
import subprocess

from gridkeep.engines.base import Capacity, Job, Phase
from gridkeep.files import is_locked


class LocalEngine:
    """Handles are the paths of the supervisors' locks, so that those of an engine before this one are known too."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, job: Job) -> str:
        if self.phase(job.lock) is Phase.RUNNING:
            return job.lock
        with open(job.log, "ab") as log:
            self._children[job.lock] = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **job.environ},
                start_new_session=True,
            )
        return job.lock

    def phase(self, handle: str) -> Phase:
        child = self._children.get(handle)
        if child is not None and child.poll() is None:
            return Phase.RUNNING
        if is_locked(handle):
            return Phase.RUNNING
        if child is None:
            return Phase.LOST
        return Phase.SUCCEEDED if child.returncode == 0 else Phase.FAILED

    def cancel(self, handle: str) -> None:
        child = self._children.get(handle)
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)

    def capacity(self) -> Capacity:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Capacity(float(len(os.sched_getaffinity(0))), len(glob.glob("/dev/nvidia[0-9]*")), memory)

    def forget(self, handle: str) -> None:
        self._children.pop(handle, None)
