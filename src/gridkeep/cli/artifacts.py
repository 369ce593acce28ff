"""`grid artifacts`: downloads the files of runs and experiments, or says where they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import message, print_json_array
from gridkeep.errors import UsageError
from gridkeep.model import JSON
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.select import Selection, each_artifact, find_targets
from gridkeep.settings import DOWNLOADS


@click.command(short_help="Download the files of runs or experiments.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_experiment)
@click.option(
    "--download_dir",
    "--download-dir",
    default=f"./{DOWNLOADS}",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where the files go.",
)
@click.option(
    "-m",
    "--match_regex",
    "--match-regex",
    metavar="RE",
    help="Only paths in which Python's re.search finds RE.",
)
@click.option(
    "--type", "types", multiple=True, metavar="T", help="Only artifacts of this type; may be repeated."
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also files that the run removed again, in their last stored version.",
)
@click.option(
    "--bucket_path", "--bucket-path", is_flag=True, help="Only print where in the store the files lie."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Only print a JSON array of the artifacts, in every state."
)
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="How many files to get at once.")
@click.option("--follow", is_flag=True, help="Go on until the runs are complete.")
def command(
    names: tuple[str, ...],
    download_dir: str,
    match_regex: str | None,
    types: tuple[str, ...],
    everything: bool,
    bucket_path: bool,
    as_json: bool,
    jobs: int | None,
    follow: bool,
) -> int:
    """Download the artifacts of runs or experiments NAME: DIR/RUN/RUN-expN/… for a run, DIR/RUN-expN/… for an
    experiment.

    Only what is needed: a file that is there with the same bytes is kept, and a download that was cut off goes on.
    Every file is verified before it gets its name. Exit status 1 when something that is listed could not be had.
    """
    if as_json and bucket_path:
        raise UsageError("--json and --bucket_path exclude each other.", "Leave one of them out.")
    selection = Selection.parse(match_regex, types, removed=everything)
    with open_context() as context:
        if as_json:
            print_json_array(_listed(context, names, selection))
            return 0
        if bucket_path:
            _print_bucket_paths(context, names)
            return 0
        return _download(context, names, download_dir, selection, jobs, follow)


def _listed(context: Context, names: tuple[str, ...], selection: Selection) -> Iterator[JSON]:
    for target in find_targets(context, names):
        experiment = target.experiment
        for artifact in each_artifact(context.catalog, experiment.experiment_id, selection):
            yield artifact.to_json(experiment.name)


def _print_bucket_paths(context: Context, names: tuple[str, ...]) -> None:
    from gridkeep.cli.bucket_table import print_table
    from gridkeep.runs.bucket import bucket_path

    print_table(
        [(target.experiment.name, bucket_path(context, target)) for target in find_targets(context, names)]
    )


def _download(
    context: Context,
    names: tuple[str, ...],
    directory: str,
    selection: Selection,
    jobs: int | None,
    follow: bool,
) -> int:
    from gridkeep.cli.download_view import shown_progress, summary
    from gridkeep.runs.collect import collect

    with shown_progress(sys.stderr) as progress:
        report = collect(context, names, directory, selection, jobs=jobs, follow=follow, progress=progress)
    for line in summary(report, directory):
        message(line)
    return 1 if report.failed else 0
