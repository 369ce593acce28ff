"""Following a run: the output of its experiments as it comes, how far their files are, and how it ended.

Only looks: the run needs nobody who follows it, and goes on when the follower leaves. Reads the catalog only when it
has changed, and never spends more than a part of its time on that, so that a few hundred experiments can be followed.
"""

from __future__ import annotations

import sys
import time
from typing import BinaryIO, TextIO

from gridkeep.errors import GridError, NotFound
from gridkeep.model import ArtifactState, Experiment, Run, State
from gridkeep.runs.context import Context
from gridkeep.runs.logs import OutputLog
from gridkeep.runs.pulse import Pulse
from gridkeep.runs.sight import blindness
from gridkeep.terminal import LiveLine, duration, is_terminal, many, printable, size

_REST = 5  # for each second that reading the catalog takes, so many go by before it is read again
_LONGEST_LINE = 1 << 16  # an unfinished line that is longer is shown in pieces
_COUNTED_WAITING = 1000  # files that wait are counted up to this number
_NAMED = 20  # experiments that did not complete are named up to this number
_DETACHED = 130
_WAITING = (ArtifactState.GROWING, ArtifactState.PENDING)


def follow(context: Context, run_name: str, out: BinaryIO | None = None, err: TextIO | None = None) -> int:
    """Streams the run's output to `out` and what there is to say to `err` until it has ended. Returns the exit
    status: 0 when all experiments completed, 1 when not, 130 when Ctrl-C ended the following (the run goes on).
    Raises NotFound."""
    out, err = out or sys.stdout.buffer, err or sys.stderr
    run = context.catalog.run(run_name)
    if run is None:
        raise NotFound(
            f"There is no Run named {run_name}.", "`grid status` and `grid history` list your Runs."
        )
    follower = _Follower(context, run, out, err)
    try:
        return follower.follow()
    except KeyboardInterrupt:
        follower.say(f"Detached; the run goes on. `grid status {run.name}` shows how it stands.")
        return _DETACHED
    finally:
        follower.close()


class _Follower:
    def __init__(self, context: Context, run: Run, out: BinaryIO, err: TextIO) -> None:
        self._context = context
        self._run = run
        self._err = err
        self._live = LiveLine(err)
        self._output = _Output(out, self._live, prefixed=run.experiments > 1)
        self._experiments: list[Experiment] = []
        self._logs: dict[str, OutputLog] = {}
        self._over: set[str] = set()  # ended, and all of their output shown
        self._waits: dict[str, str | None] = {}  # what each was last said to wait for
        self._change = -1
        self._next_look = 0.0

    def follow(self) -> int:
        pulse = Pulse(self._context)
        while True:
            self._look()
            for experiment in self._experiments:
                self._show(experiment)
            if len(self._over) == len(self._experiments):
                return self._conclude()
            if self._output.at_line_start:
                self._live.show(self._progress())
            pulse.wait()

    def say(self, text: str) -> None:
        """A line on `err`, below all output so far."""
        self._live.clear()
        self._output.break_line(self._err)
        self._err.write(f"{printable(text)}\n")
        self._err.flush()

    def close(self) -> None:
        self._live.clear()
        self._output.finish_line()
        for log in self._logs.values():
            log.close()

    def _look(self) -> None:
        """Reads the experiments again if anything in the catalog has changed."""
        begun = time.monotonic()
        if begun < self._next_look:
            return
        change = self._context.catalog.last_change()
        if change == self._change:
            return
        self._experiments = self._context.catalog.experiments(self._run.run_id)
        self._change = change
        self._next_look = begun + _REST * (time.monotonic() - begun)

    def _show(self, experiment: Experiment) -> None:
        """Its new output; once it has ended, its last and how it ended."""
        ulid = experiment.experiment_id
        if ulid in self._over or experiment.state is State.QUEUED:
            return
        if ulid not in self._logs:
            self._logs[ulid] = OutputLog(self._context, self._run, experiment)
        label = f"exp{experiment.index}"
        try:
            for chunk in self._logs[ulid].read():
                self._output.write(label, chunk)
        except GridError as error:  # its store is away: the run is none the worse for it
            if experiment.state.active:
                return
            self.say(f"The output of {experiment.name} cannot be read: {error.message}")
        if experiment.state.active:
            self._say_waiting(experiment)
            return
        self._output.end(label)
        self._logs.pop(ulid).close()
        self._over.add(ulid)
        if self._run.experiments > 1:
            files = f"{many(experiment.artifacts, 'file')}, {size(experiment.bytes)}"
            self.say(f"{experiment.name} {experiment.state} ({files})")

    def _say_waiting(self, experiment: Experiment) -> None:
        if self._waits.get(experiment.experiment_id) != experiment.waiting_for:
            self._waits[experiment.experiment_id] = experiment.waiting_for
            if experiment.waiting_for:
                self.say(f"{experiment.name} is waiting: {experiment.waiting_for}")

    def _progress(self) -> str:
        states = [experiment.state for experiment in self._experiments]
        counted = ", ".join(f"{states.count(state)} {state}" for state in State if state in states)
        stored = sum(experiment.artifacts for experiment in self._experiments)
        waiting = sum(self._waiting(experiment) for experiment in self._experiments)
        kept = sum(experiment.bytes for experiment in self._experiments)
        return f"{self._run.name}: {counted} │ {stored:,} of {many(stored + waiting, 'file')} stored, {size(kept)}"

    def _waiting(self, experiment: Experiment) -> int:
        if experiment.state not in (State.RUNNING, State.SYNCING):
            return 0
        found = self._context.catalog.artifacts(
            experiment.experiment_id, states=_WAITING, limit=_COUNTED_WAITING
        )
        return sum(not artifact.downloadable for artifact in found)

    def _conclude(self) -> int:
        run = self._context.catalog.run(self._run.run_id)
        if run is None:
            self.say(f"{self._run.name} was deleted.")
            return 1
        bad = [experiment for experiment in self._experiments if experiment.state is not State.COMPLETED]
        for experiment in bad[:_NAMED]:
            reason = f": {experiment.reason}" if experiment.reason else ""
            self.say(f"{experiment.name} {experiment.state}{reason}; see `grid logs {experiment.name}`")
        if len(bad) > _NAMED:
            self.say(f"… and {len(bad) - _NAMED} more; see `grid status {run.name}`")
        if blind := blindness(self._experiments):
            self.say(blind)
        if run.missing:
            self.say(f"{many(run.missing, 'file')} missing; `grid artifacts {run.name} --json` names them")
        took = duration(run.to_json()["duration_s"])
        kept = f"{many(run.artifacts, 'file')}, {size(run.bytes)}"
        completed = f"{run.experiments - len(bad)} of {many(run.experiments, 'experiment')} completed"
        self.say(f"{run.name} {run.state}: {completed} in {took}, {kept}")
        return 1 if bad else 0


class _Output:
    """Where the output of all experiments goes: unchanged if there is one, in whole lines with a prefix if there are
    several."""

    def __init__(self, out: BinaryIO, live: LiveLine, *, prefixed: bool) -> None:
        self.at_line_start = True
        self._out = out
        self._live = live
        self._prefixed = prefixed
        self._pieces: dict[str, bytes] = {}  # unfinished lines

    def write(self, label: str, chunk: bytes) -> None:
        if not self._prefixed:
            self._put(chunk)
            return
        text = self._pieces.pop(label, b"") + chunk
        cut = len(text) if len(text) > _LONGEST_LINE else text.rfind(b"\n") + 1
        if text[cut:]:
            self._pieces[label] = text[cut:]
        self._put_lines(label, text[:cut])

    def end(self, label: str) -> None:
        """Shows the line that was left unfinished, and ends it: more follows, on this stream or another."""
        self._put_lines(label, self._pieces.pop(label, b""))
        self.finish_line()

    def finish_line(self) -> None:
        if not self.at_line_start:
            self._put(b"\n")

    def break_line(self, err: TextIO) -> None:
        """Puts what is said next below an unfinished line of output, where both go to one terminal."""
        if not self.at_line_start and self._out.isatty() and is_terminal(err):
            err.write("\n")
            self.at_line_start = True

    def _put_lines(self, label: str, text: bytes) -> None:
        if text:
            prefix = f"{label} │ ".encode()
            lines = text.removesuffix(b"\n").split(b"\n")
            self._put(b"".join(prefix + line + b"\n" for line in lines))

    def _put(self, text: bytes) -> None:
        if text:
            self._live.clear()
            self._out.write(text)
            self._out.flush()
            self.at_line_start = text.endswith(b"\n")
