"""`grid login`: a link that lets a browser in to a server."""

from __future__ import annotations

import os

import click

from gridkeep.catalog.access import Role
from gridkeep.cli.output import message
from gridkeep.cli.server import ask, checked_url
from gridkeep.runs.access import Caller, make_login_code
from gridkeep.runs.context import open_context


@click.command(short_help="Print a link that lets a browser in to a server.")
@click.argument("url", metavar="URL", default="http://127.0.0.1:8787")
def command(url: str) -> None:
    """Print a link, the last line of stdout, that lets one browser in to the server at URL, once.

    With GRID_API_KEY set, the server makes it, and the browser acts as that key. Without, it is made here, for a server on
    this home, and the browser acts as you.
    """
    address, key = checked_url(url), os.environ.get("GRID_API_KEY")
    link = str(ask(address, key, "POST", "/v1/login-links")["url"]) if key else _made_here(address)
    message("This link lets one browser in, once:")
    print(link)


def _made_here(url: str) -> str:
    with open_context() as context:
        owner = Caller(context.user, Role.ADMIN)
        code = make_login_code(context.catalog, owner, context.settings.login_code_ttl)
    return f"{url}/login?code={code}"
