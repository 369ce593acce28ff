"""How an experiment ended, in the product's words, from what its shim wrote down."""

from __future__ import annotations

import signal
from typing import NamedTuple

from gridkeep.capture.session import Session
from gridkeep.model import Outcome, State, iso


class Verdict(NamedTuple):
    """State, outcome and reason to record; `ended_at` is when the script ended."""

    state: State
    outcome: Outcome
    reason: str | None
    exit_code: int | None
    ended_at: float


def verdict_of(
    session: Session, *, now: float, start_error: str | None, stop_reason: str | None, timeout: float | None
) -> Verdict:
    """`now`: when it was found to be over, the same however often that is asked; `stop_reason`: somebody asked for the stop,
    with these words; `timeout`: the seconds that it had, if they ran out."""
    ending = session.ending()
    if start_error is not None and stop_reason is None:
        return Verdict(State.FAILED, Outcome.START, start_error, None, now)
    if ending is None:
        if stop_reason is not None:
            return Verdict(State.STOPPED, Outcome.TERMINATED, stop_reason, None, now)
        reason = f"supervisor lost: nothing is left of the script's processes at {iso(now)}"
        return Verdict(State.FAILED, Outcome.LOST, reason, None, now)
    at = ending.ended_at
    if ending.error is not None:
        return Verdict(State.FAILED, Outcome.START, f"could not be started: {ending.error}", None, at)
    outcome = Outcome.SIGNAL if ending.signal is not None else Outcome.EXIT
    if ending.signal is None and ending.exit_code is None:
        outcome = Outcome.LOST
    if stop_reason is not None:
        return Verdict(State.STOPPED, outcome, stop_reason, ending.exit_code, at)
    if timeout is not None:
        return Verdict(State.FAILED, Outcome.TIMEOUT, f"timed out after {timeout:g} s", ending.exit_code, at)
    if ending.signal is not None:
        return Verdict(State.FAILED, outcome, f"killed by {_signal_name(ending.signal)}", None, at)
    if ending.exit_code is None:
        return Verdict(State.FAILED, Outcome.LOST, "its exit status was lost with its shim", None, at)
    if ending.exit_code == 0:
        return Verdict(State.COMPLETED, outcome, None, 0, at)
    return Verdict(State.FAILED, outcome, f"exit code {ending.exit_code}", ending.exit_code, at)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
