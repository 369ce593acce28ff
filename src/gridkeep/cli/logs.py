"""`grid logs`: what an experiment printed."""

from __future__ import annotations

import sys

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import message
from gridkeep.errors import NotFound
from gridkeep.model import Experiment, State
from gridkeep.runs.context import open_context
from gridkeep.runs.logs import OutputLog, follow_log


@click.command(short_help="Show what an experiment printed.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("-f", "--follow", is_flag=True, help="Go on until the experiment has ended.")
@click.option("-l", "--lines", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def command(experiment: str, follow: bool, lines: int | None) -> None:
    """Write what EXPERIMENT printed to stdout, byte for byte. A run's name means its first experiment."""
    with open_context() as context:
        found = context.find(experiment)
        one = found and (found[1] or context.catalog.experiment(f"{found[0].name}-exp0"))
        if not found or not one:
            raise NotFound(
                f"There is no experiment named {experiment}.",
                "`grid status RUN` lists the experiments of a Run.",
            )
        with OutputLog(context, found[0], one) as log:
            if not log.exists():
                message(_why_nothing(one))
            elif lines is not None:
                log.to_last_lines(lines)
            for chunk in follow_log(context, log, one.experiment_id) if follow else log.read():
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def _why_nothing(one: Experiment) -> str:
    if one.state is State.QUEUED:
        return f"{one.name} is queued and has printed nothing yet."
    if one.state.active:
        return f"{one.name} has printed nothing yet."
    return f"{one.name} has no output log{f': {one.reason}' if one.reason else ''}."
