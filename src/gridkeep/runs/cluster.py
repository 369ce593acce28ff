"""Clusters: where runs execute and where their files are kept. Adding, checking and deleting them.

A cluster is a name for a place. It holds no credentials, and deleting it touches no byte in its store. Knows nothing of how
things are printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from gridkeep.errors import Conflict, GridError, UsageError
from gridkeep.model import Cluster
from gridkeep.runs.context import Context
from gridkeep.stores import open_store
from gridkeep.terminal import many, printable

LOCAL = "local"  # is always there
ENGINES = ("local",)

_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")  # the clouds' own rules are narrower
_PREFIX_LIMIT = 500  # bytes: a key has 1,000, and files have names of their own
_KINDS = {"s3": "s3://bucket/prefix", "gs": "gs://bucket/prefix", "az": "az://container/prefix"}
_FORMS = "A store is file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of looking at a cluster's store: `error` is None when all is well."""

    cluster: Cluster
    error: GridError | None

    def sentence(self) -> str:
        """For people, after the cluster's name."""
        if self.error is None:
            return f"{place(self.cluster)}: writes, lists, reads and deletes"
        return f"{self.error.message} {self.error.hint or ''}".strip()


def make_cluster(
    name: str, store: str, *, endpoint: str | None = None, region: str | None = None, engine: str = LOCAL
) -> Cluster:
    """From what a user wrote. Raises UsageError for what cannot be meant."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{printable(name)!r} cannot be a cluster's name.",
            "Use 1 to 63 lowercase letters, digits and inner hyphens.",
        )
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {printable(engine)!r}.", f"There is: {', '.join(ENGINES)}.")
    uri = store_uri(store)
    if uri.startswith("file://") and (endpoint or region):
        raise UsageError("A folder has no endpoint and no region.", "Leave --endpoint and --region out.")
    if region is not None and not re.fullmatch("[A-Za-z0-9-]+", region):
        raise UsageError(f"{printable(region)!r} is no region.", "A region is a word such as eu-central-1.")
    return Cluster(name=name, engine=engine, store=uri, endpoint=_endpoint(endpoint), region=region)


def store_uri(text: str) -> str:
    """The URI of a store as it is kept: without a slash at its end. Raises UsageError."""
    scheme, separator, rest = text.partition("://")
    shown = printable(text)
    if scheme == "file" and separator:
        if not rest.startswith("/") or "\0" in rest:
            raise UsageError(f"{shown} is no store: its folder must be a full path.", _FORMS)
        return f"file://{os.path.abspath(rest)}"
    if scheme not in _KINDS or not separator:
        raise UsageError(f"{shown} is no store.", _FORMS)
    bucket, *names = rest.rstrip("/").split("/")
    if "@" in bucket:  # whatever stands before it is not to be shown again
        raise UsageError(
            f"Credentials are no part of a store's URI: a store is {_KINDS[scheme]}.",
            "They come from the environment.",
        )
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{printable(bucket)!r} is no name of a bucket: a store is {_KINDS[scheme]}.", _FORMS
        )
    if len("/".join(names).encode()) > _PREFIX_LIMIT:
        raise UsageError("The prefix of that store is too long.", f"It may have {_PREFIX_LIMIT} bytes.")
    if any(name in ("", ".", "..") or not name.isprintable() or "\\" in name for name in names):
        raise UsageError(
            f"{shown} is no store: a name in its prefix is not fit.", f"A store is {_KINDS[scheme]}."
        )
    return f"{scheme}://{'/'.join([bucket, *names])}"


def place(cluster: Cluster) -> str:
    """Where its store is, for people."""
    return f"{cluster.uri} at {cluster.endpoint}" if cluster.endpoint else cluster.uri


def _endpoint(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in text or "?" in text or "#" in text or re.search(r"\s|[^\x20-\x7e]", text):
        raise UsageError("That is no endpoint.", "An endpoint is http(s)://HOST[:PORT], without credentials.")
    return text.rstrip("/")


# ----------------------------------------------------------------------------------------------------------- commands


def add(context: Context, cluster: Cluster, *, check: bool = True) -> bool:
    """Adds it, and makes the folder of a local store; tells whether it was not there already. With `check` only when its
    store does all that is wanted of it. Raises Conflict when another has the name, and what the store raises."""
    there = context.catalog.cluster(cluster.name)
    if there is None:
        if check:
            _check_first(context, cluster)
        else:
            open_store(cluster, create=True, environ=context.environ)
        there = context.catalog.add_cluster(cluster)
    elif there == cluster:
        return False
    if there != cluster:
        hint = "Add this one by another name, or `grid cluster delete` that one first."
        if cluster.name == LOCAL:
            hint = "It is always there, with its store in the home: add this one by another name."
        raise Conflict(f"There is a cluster named {cluster.name} already: its store is {place(there)}.", hint)
    return True


def _check_first(context: Context, cluster: Cluster) -> None:
    try:
        context.check_store(cluster, create=True)
    except GridError as error:
        not_added = "The cluster was not added; `--no-check` adds it all the same."
        error.hint = f"{error.hint} {not_added}" if error.hint else not_added
        raise


def check(context: Context, name: str | None = None) -> Iterator[Checked]:
    """Looks whether each store, or that of one cluster, does all that is wanted of it. Raises NotFound."""
    clusters = context.catalog.clusters() if name is None else [context.cluster(name)]

    def look(cluster: Cluster) -> Checked:
        try:
            context.check_store(cluster)
        except GridError as error:
            return Checked(cluster, error)
        return Checked(cluster, None)

    with ThreadPoolExecutor(len(clusters)) as pool:  # one that is silent holds up no other
        yield from pool.map(look, clusters)


def delete(context: Context, name: str) -> Cluster:
    """Forgets a cluster; returns what it was. No byte in its store is touched. Raises NotFound, and Conflict for `local` and
    for one with runs."""
    cluster = context.cluster(name)
    if name == LOCAL:
        raise Conflict("The cluster local is always there.", "Its store is in the home.")
    if runs := context.catalog.delete_cluster(name):
        raise Conflict(
            f"The cluster {name} has {many(runs, 'run')}, whose files would be out of reach.",
            "`grid history` and `grid status` list them (`--json` names their cluster), `grid delete` deletes them.",
        )
    return cluster
