"""Marks of deletions that were begun: a small file in the home for each experiment that is to go.

A mark is made before anything is removed, and goes when everything has gone. So a deletion goes on although the catalog was
lost meanwhile, or is older than it, and with the credentials of whoever asked for it. Knows nothing of how things go.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from gridkeep.model import Cluster, Experiment
from gridkeep.settings import Home
from gridkeep.stores.credentials import of_clouds
from gridkeep.supervisor.credentials import needs_credentials

_LENGTH = 26  # of a ULID, which is the mark's name


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to go. `cluster`: where its objects lie; it and `run_ulid` are None where the mark is damaged. `environ` opens
    a cloud's store as whoever asked for the deletion would."""

    experiment_id: str
    run_ulid: str | None = None
    cluster: Cluster | None = None
    environ: dict[str, str] = field(default_factory=dict)


def make_mark(
    home: Home, experiment: Experiment, cluster: Cluster | None, environ: Mapping[str, str]
) -> None:
    """In place of one that there is. Raises OSError."""
    os.makedirs(_folder(home), mode=0o700, exist_ok=True)
    kept = of_clouds(environ) if cluster and needs_credentials(cluster) else {}
    mark = {"run_ulid": experiment.run_ulid, "cluster": cluster and asdict(cluster), "environ": kept}
    fd = os.open(_path(home, experiment.experiment_id), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(json.dumps(mark))


def clear_mark(home: Home, ulid: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_path(home, ulid))


def marked(home: Home) -> list[str]:
    """The experiment_ids of what is to go."""
    try:
        return sorted(name for name in os.listdir(_folder(home)) if len(name) == _LENGTH and name.isalnum())
    except FileNotFoundError:
        return []


def read_mark(home: Home, ulid: str) -> Mark:
    """Whoever was killed while making it left a damaged one, which still says that the experiment is to go."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        with open(_path(home, ulid), encoding="ascii") as file:
            said = json.load(file)
        cluster = said["cluster"] and Cluster(**said["cluster"])
        return Mark(ulid, str(said["run_ulid"]), cluster, dict(said.get("environ", {})))
    return Mark(ulid)


def _folder(home: Home) -> str:
    return os.path.join(home.path, "deleting")


def _path(home: Home, ulid: str) -> str:
    return os.path.join(_folder(home), ulid)
