"""`grid completion SHELL`, and the names that a shell completes.

Completing must be quick and must never fail: it makes no home, starts no engine, and offers nothing when in doubt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from gridkeep.cli.output import echo
from gridkeep.model import EXPERIMENT_SUFFIX
from gridkeep.settings import home_from

if TYPE_CHECKING:
    from gridkeep.catalog.base import Catalog

_RUNS = 200  # the newest ones
_EXPERIMENTS = 100


@click.command(short_help="Print the script that completes `grid` in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, and names of runs and experiments.

    \b
    bash:  grid completion bash >> ~/.bashrc
    zsh:   grid completion zsh >> ~/.zshrc
    fish:  grid completion fish > ~/.config/fish/completions/grid.fish
    """
    from click.shell_completion import get_completion_class

    from gridkeep.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None, "click knows the three"
    echo(found(cli, {}, "grid", "_GRID_COMPLETE").source())


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of runs that begin with `incomplete`, newest first."""
    return _names(incomplete, with_experiments=False)


def complete_experiment(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of runs, and once one run is meant, of its experiments too."""
    return _names(incomplete, with_experiments=True)


def complete_cluster(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of clusters that begin with `incomplete`."""
    return _offered(
        lambda catalog: [each.name for each in catalog.clusters() if each.name.startswith(incomplete)]
    )


def _names(incomplete: str, *, with_experiments: bool) -> list[str]:
    def names(catalog: Catalog) -> list[str]:
        names = [run.name for run in catalog.runs(limit=_RUNS) if run.name.startswith(incomplete)]
        meant = catalog.run(names[0] if len(names) == 1 else _run_part(incomplete))
        if with_experiments and meant is not None:
            found = catalog.experiments(meant.run_id, limit=_EXPERIMENTS)
            names += [one.name for one in found if one.name.startswith(incomplete)]
        return names

    return _offered(names)


def _offered(names: Callable[[Catalog], list[str]]) -> list[str]:
    """What `names` finds in the catalog; nothing where there is none."""
    try:
        path = home_from().catalog
        if not os.path.exists(path):
            return []
        from gridkeep.catalog.sqlite import open_catalog

        catalog = open_catalog(path)
        try:
            return names(catalog)
        finally:
            catalog.close()
    except Exception:  # a shell that is being typed in is no place for an error
        return []


def _run_part(text: str) -> str:
    """`my-run` of `my-run-exp1`, and of what is on the way to it: `my-run-ex`, `my-run-`."""
    head, _, tail = text.rpartition("-")
    on_the_way = "exp".startswith(tail) or EXPERIMENT_SUFFIX.search(text)
    return head if head and on_the_way else text
