"""`grid share`: links to files for others, made here or by the server that GRID_URL names."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import click

from gridkeep.cli.completion import complete_experiment
from gridkeep.cli.output import echo, message, print_json, table
from gridkeep.cli.places import split_place
from gridkeep.cli.server import ask, server_url
from gridkeep.errors import GridError, NotFound, UsageError
from gridkeep.model import EXPERIMENT_SUFFIX, JSON, iso, path_json
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.select import find_experiment
from gridkeep.runs.servers import running
from gridkeep.runs.shares import (
    Place,
    find_place,
    find_share,
    id_or_token,
    lifetime,
    link,
    make_share,
    revoke,
    share_json,
)
from gridkeep.runs.signing import LONGEST


@click.command(short_help="Make a link to files for others; list and revoke links.")
@click.argument("place", metavar="[NAME[:PATH]]", required=False, shell_complete=complete_experiment)
@click.argument("path", metavar="[PATH]", required=False)
@click.option(
    "--expires", metavar="TIME", help="How long it lives, as in 90m, 24h or 7d; 24h unless told otherwise."
)
@click.option("--list", "listing", is_flag=True, help="Show the links, with how often they were opened.")
@click.option("--revoke", "gone", metavar="ID|URL", help="End a link at once.")
@click.option("--json", "as_json", is_flag=True, help="With --list: a JSON array.")
def command(
    place: str | None, path: str | None, expires: str | None, listing: bool, gone: str | None, as_json: bool
) -> None:
    """Make a link, the last line of stdout, that shows a run, an experiment, or a file or folder of one to whoever has it.

    It ends by itself, or when it is revoked, and dies with what it leads to. It leads to the server that runs on this home
    (`grid serve`), or to the one at GRID_URL; with GRID_API_KEY set, that one makes it. Of a file in a cloud, without a
    server, it is the cloud's own: it lives for at most 7 days, is not listed here, and cannot be revoked.
    """
    if sum((place is not None, listing, gone is not None)) != 1:
        raise UsageError(
            "Say what to share, or `--list`, or `--revoke ID|URL`.",
            "As in `grid share my-run-exp0:out/a.png`.",
        )
    if (as_json and not listing) or (expires is not None and place is None):
        raise UsageError("`--json` goes with `--list`, and `--expires` with what to share.")
    url, key = server_url(), os.environ.get("GRID_API_KEY")
    if url and key:
        _on_server(url, key, _words(place, path), expires, gone, as_json)
        return
    with open_context() as context:
        if place is not None:
            print(_made(context, _words(place, path), expires, url))
        elif gone is not None:
            _say_revoked(_revoked(context, gone))
        else:
            _show([_shape(context, share) for share in context.catalog.shares(limit=_ALL)], as_json)


_ALL = 1_000_000
_Words = tuple[str, bytes | None]


def _words(place: str | None, path: str | None) -> _Words:
    """A name and a path; the path may stand behind a colon or as a word of its own."""
    name, after_colon = split_place(place) if place else ("", None)
    if path is None:
        folder = b"/" if place and place.endswith("/") and after_colon else b""
        return name, None if after_colon is None else after_colon + folder
    if after_colon is not None:
        raise UsageError("The path is there twice.", "Write NAME:PATH, or NAME PATH.")
    return name, os.fsencode(path).lstrip(b"/") or None


# ------------------------------------------------------------------------------------------------------------------ here


def _made(context: Context, words: _Words, expires: str | None, url: str | None) -> str:
    name, path = words
    if path is not None:
        target = find_experiment(context, name, "share")
        place = find_place(context.catalog, target.run, target.experiment, path)
    elif (found := context.find(name)) is not None:
        place = Place(*found)
    else:
        raise NotFound(
            f"{name} does not exist - can not share", "`grid status` and `grid history` show your runs."
        )
    ttl = lifetime(context.settings, expires)
    base = url or next(iter(running(context.home)), None)
    if base is None:
        return _clouds_own(context, place, ttl)
    share, token = make_share(context.catalog, place, by=context.user, ttl=ttl)
    message(
        f"{place.name}, until {_minute(iso(share.expires_at))} UTC. `grid share --revoke {share.share_id}` ends it."
    )
    return link(base, token)


def _clouds_own(context: Context, place: Place, ttl: float) -> str:
    """Of a file in a cloud, that needs no server."""
    signed = None
    if place.artifact is not None:
        ttl = min(ttl, LONGEST)
        signed = context.store(place.run.cluster).sign([place.artifact.key or ""], ttl)
    if not signed:
        raise GridError(
            "No server runs on this home that a link could lead to.",
            "Start one with `grid serve`, in another terminal.",
        )
    message(f"{place.name}, for {ttl / 3600:g} h. It is the store's own link: it cannot be revoked.")
    return signed[0]


def _revoked(context: Context, word: str) -> JSON:
    share = find_share(context.catalog, word)
    return _shape(context, revoke(context.catalog, share, by=context.user))


def _shape(context: Context, share: Any) -> JSON:
    run = context.catalog.run(share.run_id)
    experiment = None if share.experiment_id is None else context.catalog.experiment(share.experiment_id)
    if run is None:
        raise NotFound("This link was deleted just now.")
    return share_json(share, run, experiment)


# ------------------------------------------------------------------------------------------------------------ on a server


def _on_server(
    url: str, key: str, words: _Words, expires: str | None, gone: str | None, as_json: bool
) -> None:
    name, _ = words
    if gone is not None:
        _say_revoked(ask(url, key, "DELETE", f"/v1/shares/{quote(id_or_token(gone), safe='')}"))
    elif name:
        made = ask(url, key, "POST", "/v1/shares", _wanted(url, key, words) | {"expires_in": expires})
        message(
            f"{name}, until {_minute(made['expires_at'])} UTC. `grid share --revoke {made['share_id']}` ends it."
        )
        print(made["url"])
    else:
        _show(ask(url, key, "GET", "/v1/shares?limit=1000"), as_json)


def _wanted(url: str, key: str, words: _Words) -> JSON:
    """What to share, as the server wants it named. With a path, a run's name means its only experiment."""
    name, path = words
    named = {} if path is None else path_json(path)
    if EXPERIMENT_SUFFIX.search(name):
        return {"experiment": name, **named}
    if path is None:
        return {"run_id": name}
    first, *others = ask(url, key, "GET", f"/v1/runs/{quote(name, safe='')}/experiments?limit=2")
    if others:
        raise UsageError(f"{name} has several experiments.", f"Name one of them, as in {first['name']}.")
    return {"experiment": first["name"], **named}


# --------------------------------------------------------------------------------------------------------------- printing


def _show(shares: list[JSON], as_json: bool) -> None:
    if as_json:
        print_json(shares)
        return
    headers = ["Link", "State", "Until", "Opens", "Last Opened", "By", "Of"]
    echo(table(headers, [_row(share) for share in shares], right={"Opens"}))


def _row(share: JSON) -> list[str]:
    of = share["experiment"] or share["run"]
    path = "" if share["path"] is None else f":{share['path']}"
    times = _minute(share["expires_at"]), _minute(share["last_opened_at"])
    return [
        share["share_id"],
        share["state"],
        times[0],
        str(share["opens"]),
        times[1],
        share["created_by"],
        of + path,
    ]


def _say_revoked(share: JSON) -> None:
    message(f"{share['share_id']} is revoked: it opens nothing any more.")


def _minute(text: str | None) -> str:
    return "-" if text is None else f"{text[:10]} {text[11:16]}"
