"""`grid cluster`: the places where runs execute and where their files are kept."""

from __future__ import annotations

from collections.abc import Iterator

import click

from gridkeep.cli.completion import complete_cluster
from gridkeep.cli.output import echo, print_json_array, printable, table
from gridkeep.model import JSON, Cluster
from gridkeep.runs.cluster import ENGINES, Checked, add, check, delete, make_cluster, place
from gridkeep.runs.context import Context, open_context


@click.group(short_help="Add, list, check and delete clusters: where the files of runs are kept.")
def command() -> None:
    """A cluster is a name for a store: a folder, or a bucket of S3, Google Cloud Storage or Azure. `grid run --cluster NAME`
    keeps a run's files there; the setting `cluster` says which one is used otherwise.

    Credentials come from the environment, as each cloud's own tools take them, and are never kept.
    """


@command.command("add", short_help="Add a cluster.")
@click.argument("name")
@click.option(
    "--store", required=True, metavar="URI", help="s3://bucket/prefix, gs://…, az://… or file:///folder."
)
@click.option("--endpoint", metavar="URL", help="Where an S3-compatible, or another cloud's, server is.")
@click.option("--region", metavar="R", help="The bucket's region.")
@click.option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], help="What executes its runs.")
@click.option("--no-check", is_flag=True, help="Add it even if its store cannot be used now.")
def add_command(
    name: str, store: str, endpoint: str | None, region: str | None, engine: str, no_check: bool
) -> None:
    """Add the cluster NAME, once its store was seen to write, list, read and delete. A folder is made."""
    cluster = make_cluster(name, store, endpoint=endpoint, region=region, engine=engine)
    with open_context() as context:
        added = add(context, cluster, check=not no_check)
    if not added:
        echo(f"{name} is there already: {printable(place(cluster))}.")
    elif no_check:
        echo(f"{name} added: {printable(place(cluster))}, not checked.")
    else:
        echo(f"{name} added: {printable(Checked(cluster, None).sentence())}.")


@command.command("list", short_help="List the clusters.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_command(as_json: bool) -> None:
    """List the clusters with their stores, and how many runs are on each. The one that `grid run` uses has a `*`."""
    with open_context() as context:
        default = context.settings.cluster
        shapes = [_shape(context, cluster) for cluster in context.catalog.clusters()]
    if as_json:
        print_json_array(shapes)
        return
    rows = [
        [
            f"{each['name']} *" if each["name"] == default else each["name"],
            each["engine"],
            f"{each['runs']:,}",
            each["region"] or "",
            each["endpoint"] or "",
            each["store"],
        ]
        for each in shapes
    ]
    echo(table(["Cluster", "Engine", "Runs", "Region", "Endpoint", "Store"], rows, right=["Runs"]))


def _shape(context: Context, cluster: Cluster) -> JSON:
    names = ("name", "engine", "store", "endpoint", "region")
    shape = {name: getattr(cluster, name) for name in names}
    runs = context.catalog.runs_on(cluster.name)
    return {**shape, "default": cluster.name == context.settings.cluster, "runs": runs}


@command.command("check", short_help="Check that stores can be used.")
@click.argument("name", required=False, shell_complete=complete_cluster)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def check_command(name: str | None, as_json: bool) -> int:
    """Write, list, read and remove a probe object in the store of cluster NAME, or in those of all, and say what is wrong.

    Exit status 1 when something is.
    """
    failed = False

    def noted(results: Iterator[Checked]) -> Iterator[Checked]:
        nonlocal failed
        for result in results:
            failed = failed or result.error is not None
            yield result

    with open_context() as context:
        results = noted(check(context, name))
        if as_json:
            print_json_array(_result(each) for each in results)
        else:
            echo(f"{each.cluster.name}: {printable(each.sentence())}" for each in results)
    return 1 if failed else 0


def _result(each: Checked) -> JSON:
    error = each.error
    return {
        "name": each.cluster.name,
        "store": each.cluster.store,
        "ok": error is None,
        "error": error and error.message,
        "hint": error and error.hint,
    }


@command.command("delete", short_help="Forget a cluster; nothing in its store is touched.")
@click.argument("name", shell_complete=complete_cluster)
def delete_command(name: str) -> None:
    """Forget the cluster NAME, which must have no runs. Nothing in its store is touched."""
    with open_context() as context:
        cluster = delete(context, name)
    echo(f"{name} deleted; nothing in {printable(place(cluster))} was touched.")
