"""What an experiment printed: its output log, read from wherever it lies just now.

While the experiment is active the log lies in its journal on disk; afterwards in the store, and the journal is gone.
The bytes are the same, so one position serves for both. Knows nothing of how they are shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from gridkeep.errors import ObjectMissing
from gridkeep.model import Experiment, Run
from gridkeep.runs.context import Context
from gridkeep.runs.pulse import Pulse
from gridkeep.stores.keys import output_log_key

_CHUNK = 1 << 20
_BLOCK = 1 << 16  # read at once when looking for lines from the end


class OutputLog:
    """One experiment's output, read forward from `position` as it grows. Close it, or use it as a context manager."""

    def __init__(self, context: Context, run: Run, experiment: Experiment) -> None:
        self.position = 0
        self._context = context
        self._cluster = run.cluster
        self._path = os.path.join(context.home.journal(experiment.experiment_id), "output.log")
        self._key = output_log_key(experiment.experiment_id)
        self._file: int | None = None

    def exists(self) -> bool:
        return self._size() is not None

    def read(self) -> Iterator[bytes]:
        """What there is behind `position` now, which moves along. Raises StoreError."""
        # An open file stays readable when the journal is removed: what it holds then is all there will ever be.
        if (file := self._open()) is not None:
            while chunk := os.pread(file, _CHUNK, self.position):
                self.position += len(chunk)
                yield chunk
        elif (size := self._size()) is not None and size > self.position:
            for chunk in self._context.store(self._cluster).get(self._key, start=self.position):
                self.position += len(chunk)
                yield chunk

    def to_last_lines(self, count: int) -> None:
        """Moves `position` to where the last `count` lines begin; in bounded memory."""
        self.position = start_of_last_lines(count, self._size() or 0, self._range)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> OutputLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> int | None:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        return self._file

    def _size(self) -> int | None:
        if (file := self._open()) is not None:
            return os.fstat(file).st_size
        try:
            return self._context.store(self._cluster).head(self._key).size
        except ObjectMissing:
            return None

    def _range(self, start: int, end: int) -> bytes:
        if self._file is not None:
            return os.pread(self._file, end - start, start)
        return b"".join(self._context.store(self._cluster).get(self._key, start=start, end=end))


def follow_log(context: Context, log: OutputLog, experiment_id: str) -> Iterator[bytes]:
    """What there is behind the log's position and all that comes, until the experiment has ended (or was deleted)."""
    pulse = Pulse(context)
    while True:
        experiment = context.catalog.experiment(
            experiment_id
        )  # before reading: what it says is then read whole
        yield from log.read()
        if experiment is None or not experiment.state.active:
            return
        pulse.wait()


def start_of_last_lines(count: int, size: int, read: Callable[[int, int], bytes]) -> int:
    """Where the last `count` lines of `size` bytes begin; `read(start, end)` gives bytes. What follows the last
    newline is a line as well."""
    end = size
    while end > 0 and count > 0:
        start = max(0, end - _BLOCK)
        block = read(start, end)
        stop = len(block) - (
            end == size and block.endswith(b"\n")
        )  # that newline ends the last line, and begins none
        while (found := block.rfind(b"\n", 0, stop)) >= 0:
            count -= 1
            if count == 0:
                return start + found + 1
            stop = found
        end = start
    return end
