"""`grid run`: submit a script or a sweep.

Options come before SCRIPT; everything after it is the script's own. What is said goes to stderr, and the run's name alone is
the last line of stdout.
"""

from __future__ import annotations

import math
import os
from typing import Any

import click

from gridkeep.cli.completion import complete_cluster
from gridkeep.cli.output import echo, message
from gridkeep.errors import GridError
from gridkeep.model import RunSpec
from gridkeep.runs.context import open_context
from gridkeep.runs.submit import Request, Submission, submit
from gridkeep.runs.sweep import STRATEGIES
from gridkeep.settings import parse_duration, parse_size
from gridkeep.terminal import many, size


def _cpus(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter("it must be a number above 0.")
    return value


def _memory(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_size(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from None
    return value


def _timeout(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    if not 0 < seconds < math.inf:
        raise click.BadParameter("it must be longer than nothing.")
    return seconds


def _env(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    named = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE.")
        named[name] = value
    return named


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Run a script or a sweep, and keep every file that it writes.",
    options_metavar="[OPTIONS]",
)
@click.argument("script", type=click.Path())
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", help="The run's name; made up when left out.")
@click.option("--cluster", help="Where it runs and its files are kept.", shell_complete=complete_cluster)
@click.option(
    "--strategy", type=click.Choice(STRATEGIES), help="How a sweep is made.  [default: grid_search]"
)
@click.option("--num_trials", "--num-trials", type=click.IntRange(1), help="How many random_search draws.")
@click.option("--seed", type=int, help="Makes what is drawn by chance repeatable.")
@click.option("--parallel", type=click.IntRange(1), help="How many experiments are executed at once.")
@click.option("--cpus", type=float, callback=_cpus, help="What the engine reserves for each.  [default: 1]")
@click.option("--gpus", type=click.IntRange(0), help="The same for GPUs.  [default: 0]")
@click.option("--memory", callback=_memory, help="The same for memory, as 8GB.")
@click.option(
    "--env", multiple=True, metavar="K=V", callback=_env, help="A variable for the script. Repeatable."
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="RUN-expN[:PATH]",
    help="Artifacts of an earlier run, to be read under inputs/. Repeatable.",
)
@click.option(
    "--auto_resume/--no-auto_resume",
    "--auto-resume",
    "auto_resume",
    default=None,
    help="Start it again in its folder when its machine was lost.",
)
@click.option(
    "--timeout", metavar="TIME", callback=_timeout, help="The longest that an experiment may run: 90s, 2h."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Files not to keep, as in .gitignore. Repeatable."
)
@click.option("--in-place", is_flag=True, help="Run where you stand, without a working copy.")
@click.option("--no-capture", is_flag=True, help="Do not watch the script's writes.")
@click.option("--follow", is_flag=True, help="Show its output until it has ended; exit 0 when all completed.")
@click.option(
    "--config", type=click.Path(dir_okay=False), metavar="FILE.yml", help="Options and sweep as YAML."
)
@click.option("--dry-run", is_flag=True, help="Say what would be submitted, and do nothing.")
def command(
    args: tuple[str, ...], follow: bool, no_capture: bool, dry_run: bool, **options: Any
) -> int | None:
    """Run SCRIPT, and keep every file that it writes.

    SCRIPT is a .py or .sh file, a command, or the path of an executable. An argument that is a list makes a sweep, an
    experiment for each value: --lr "[0.1,0.01]", "range(1,10,2)", "uniform(1e-5,1e-1,3)".
    """
    environ = dict(os.environ)
    request = Request(
        args=args, cwd=_cwd(), environ=environ, capture=not no_capture, dry_run=dry_run, **options
    )
    with open_context() as context:
        submitted = submit(context, request)
        name = submitted.run.name
        if dry_run:
            message("Dry run: nothing was submitted.\n" + "\n".join(_summary(submitted)))
            echo(experiment.command for experiment in submitted.experiments)
            return None
        message("\n".join(["Run submitted!", *_hints(name), "", *_summary(submitted)]))
        if not follow:
            echo(name)
            return None
        from gridkeep.runs.follow import follow as follow_run

        try:
            return follow_run(context, name)
        finally:
            echo(name)  # the last line of stdout, after what the script printed


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise GridError("The current folder is gone.", "Change to one that exists.") from None


def _hints(name: str) -> list[str]:
    return [
        f"`grid status {name}` shows its experiments.",
        f"`grid artifacts {name}` gets its files.",
        f"`grid logs {name}-exp0` shows its output.",
    ]


def _summary(submitted: Submission) -> list[str]:
    run, copy = submitted.run, submitted.copy
    rows = {
        "Script": run.spec.display,
        "Name": run.name,
        "Experiments": f"{len(submitted.experiments):,}",
        "Strategy": _strategy(run.spec),
        "Cluster": run.cluster,
        "Store": submitted.store,
        "Code": f"in place, {run.spec.root}",
    }
    if copy is not None:
        rows["Code"] = f"a copy of {copy.root}: {many(copy.files, 'file')}, {size(copy.bytes)}"
        rows["Linked"] = ", ".join(copy.linked) or "nothing"
    column = max(map(len, rows)) + 1
    lines = [f"{f'{title}:':<{column}} {text}" for title, text in rows.items()]
    if copy is not None and copy.linked:
        lines.append("Experiments share what is linked: a write through a link changes your own file.")
    return lines + [f"Note: {note}" for note in submitted.notes]


def _strategy(spec: RunSpec) -> str:
    return spec.strategy if spec.seed is None else f"{spec.strategy}, seed {spec.seed}"
