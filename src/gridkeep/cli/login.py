"""`grid login`: a link that lets a browser in to a server."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import click

from gridkeep import __version__
from gridkeep.catalog.access import Role
from gridkeep.cli.output import message
from gridkeep.errors import GridError
from gridkeep.runs.access import Caller, make_login_code
from gridkeep.runs.context import open_context

_TIMEOUT = 20.0  # seconds


@click.command(short_help="Print a link that lets a browser in to a server.")
@click.argument("url", metavar="URL", default="http://127.0.0.1:8787")
def command(url: str) -> None:
    """Print a link, the last line of stdout, that lets one browser in to the server at URL, once.

    With GRID_API_KEY set, the server makes it, and the browser acts as that key. Without, it is made here, for a server on
    this home, and the browser acts as you.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise GridError(f"{url} is no address of a server.", "Write it as in http://127.0.0.1:8787.")
    key = os.environ.get("GRID_API_KEY")
    link = _asked(url.rstrip("/"), key) if key else _made_here(url.rstrip("/"))
    message("This link lets one browser in, once:")
    print(link)


def _made_here(url: str) -> str:
    with open_context() as context:
        owner = Caller(context.user, Role.ADMIN)
        code = make_login_code(context.catalog, owner, context.settings.login_code_ttl)
    return f"{url}/login?code={code}"


def _asked(url: str, key: str) -> str:
    from urllib.error import HTTPError  # only where they are needed: they take a tenth of a command's start
    from urllib.request import Request, urlopen

    headers = {"x-api-key": key, "user-agent": f"gridkeep/{__version__}"}
    try:
        asked = Request(f"{url}/v1/login-links", method="POST", headers=headers)  # noqa: S310 - of http, as checked
        with urlopen(asked, timeout=_TIMEOUT) as answer:  # noqa: S310
            return str(json.load(answer)["url"])
    except HTTPError as error:
        said = "the key is not one of its keys" if error.code == 403 else f"it answered {error.code}"
        raise GridError(f"{url} gave no link: {said}.", "Check GRID_API_KEY and the address.") from None
    except (OSError, ValueError, KeyError) as error:
        raise GridError(f"{url} cannot be reached: {error}.", "Is `grid serve` running there?") from None
