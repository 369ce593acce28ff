"""What every command works with: the home, the settings, the catalog and the stores of the clusters.

Opening it makes the home if there is none, and starts the engine when work lies waiting for one.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.errors import HomeError, NotFound
from gridkeep.model import Cluster, Experiment, Run
from gridkeep.runs import dispatch
from gridkeep.settings import Home, Settings, home_from, load
from gridkeep.stores import open_store
from gridkeep.stores.base import Store

_IMPATIENT = 6.0  # seconds without a sign of a store that is only to be checked; it is asked three times


@dataclass
class Context:
    """An open home. Use it as a context manager."""

    home: Home
    settings: Settings
    catalog: Catalog
    user: str
    environ: Mapping[str, str]  # of whoever gave the command: stores are opened with its credentials
    _stores: dict[Cluster, Store] = field(default_factory=dict)

    def store(self, cluster: str) -> Store:
        """The store of a cluster. Raises NotFound, or what opening it raises."""
        found = self.cluster(cluster)  # a server lives longer than what a name stands for
        if found not in self._stores:
            self._stores[found] = open_store(found, environ=self.environ, timeout=self.settings.store_timeout)
        return self._stores[found]

    def check_store(self, cluster: Cluster, *, create: bool = False) -> None:
        """Looks whether the store of a cluster, which need not have been added yet, does all that is wanted of it; one that
        is silent is not waited for long. `create` makes the folder of a local one. Raises what opening or checking it
        raises."""
        timeout = min(_IMPATIENT, self.settings.store_timeout)
        open_store(cluster, create=create, environ=self.environ, timeout=timeout).check()

    def cluster(self, name: str) -> Cluster:
        """Raises NotFound, which names those that there are."""
        if name.isascii() and (found := self.catalog.cluster(name)):
            return found
        known = ", ".join(cluster.name for cluster in self.catalog.clusters())
        raise NotFound(
            f"There is no cluster named {name}; known: {known}.",
            "`grid cluster add NAME --store URI` adds one.",
        )

    def find(self, name: str) -> tuple[Run, Experiment | None] | None:
        """A run (None beside it), or an experiment with its run, by name or id; None when there is neither."""
        if not name.isascii():
            return None  # no name is like that, and a database need not take what is no text
        if run := self.catalog.run(name):
            return run, None
        if (experiment := self.catalog.experiment(name)) and (run := self.catalog.run(experiment.run_id)):
            return run, experiment
        return None

    def close(self) -> None:
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_context(environ: Mapping[str, str] | None = None, *, start_engine: bool = True) -> Context:
    """Opens the home that `environ` (else this process's environment) names. Raises HomeError, ConfigError, CatalogError."""
    environ = os.environ if environ is None else environ
    home = home_from(environ)
    make_home(home)
    settings = load(home, environ)
    catalog = open_catalog(home.catalog)
    if catalog.cluster("local") is None:
        catalog.put_cluster(Cluster(name="local", engine="local", store=f"file://{home.store}"))
    if start_engine:
        dispatch.wake(home, catalog)
    return Context(home, settings, catalog, user_name(environ), environ)


def make_home(home: Home) -> None:
    """Makes the folder and its parts, for their owner only. Raises HomeError."""
    parts = ["", "work", "journal", "log"]
    if not os.path.exists(home.work("")) and not os.path.exists(home.catalog):
        parts.insert(1, "store")  # only once: a store's disk that is away must not look like an empty store
    try:
        _close_to_others(home.path)
        for part in parts:
            os.makedirs(os.path.join(home.path, part), mode=0o700, exist_ok=True)
        if not os.access(home.path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise HomeError(
            f"The home {home.path} cannot be used: {error.strerror}.",
            "Set GRIDKEEP_HOME to a folder that you can write.",
        ) from None


def _close_to_others(folder: str) -> None:
    """A folder that was made to become a home is ours from now on. One that holds anything may be meant for others too, and
    is left as it is; all that we put into it is closed by itself."""
    with suppress(FileNotFoundError, PermissionError):
        if not os.listdir(folder):
            os.chmod(folder, 0o700)


def user_name(environ: Mapping[str, str]) -> str:
    """Whose runs these are: the login name, else the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return environ.get("USER") or str(os.getuid())
