"""`grid key`: the API keys of a server."""

from __future__ import annotations

import click

from gridkeep.catalog.access import Key, Role
from gridkeep.cli.output import echo, message, print_json, table
from gridkeep.model import JSON, iso
from gridkeep.runs.access import make_key, revoke_key
from gridkeep.runs.context import open_context
from gridkeep.runs.signing import Signer


@click.group(short_help="Make, list and revoke API keys.")
def command() -> None:
    """Keys for programs that speak to `grid serve`. A key acts as the user who made it."""


@command.command()
@click.option("--name", required=True, metavar="N", help="What it is for.")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default="write",
    show_default=True,
    help="read: look and download; write: also run, share, end and delete one's own; admin: also others'.",
)
def create(name: str, role: str) -> None:
    """Make a key. It is the last line of stdout, and is never shown again."""
    with open_context() as context:
        key, text = make_key(context.catalog, name=name, role=Role(role), owner=context.user)
    message(f"Key {key.key_id} ({key.name}, {key.role}). Keep it: it is shown only now.")
    print(text)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array instead of a table.")
def list_keys(as_json: bool) -> None:
    """Show the keys, without what is secret of them."""
    with open_context() as context:
        keys = context.catalog.api_keys()
    if as_json:
        print_json([_shape(key) for key in keys])
        return
    headers = ["Key", "Name", "Role", "Owner", "Created At", "Last Used", "Revoked At"]
    echo(table(headers, [_row(key) for key in keys]))


@command.command()
@click.argument("key", metavar="KEY")
def revoke(key: str) -> None:
    """End the key of that id or name, and every session that it opened, at once."""
    with open_context() as context:
        gone = revoke_key(context.catalog, key, who=context.user)
    message(f"Key {gone.key_id} ({gone.name}) is revoked.")


@command.command()
@click.option("--at-once", is_flag=True, help="What was signed before is no good any more.")
def rotate(at_once: bool) -> None:
    """Sign URLs with a new secret from now on. URLs that are out go on until they end."""
    with open_context() as context:
        Signer(context.home).rotate(at_once=at_once)
    message("Signed URLs are made with a new secret." + (" Older ones have ended." if at_once else ""))


def _shape(key: Key) -> JSON:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "role": str(key.role),
        "owner": key.owner,
        "created_at": iso(key.created_at),
        "last_used_at": iso(key.last_used_at),
        "revoked_at": iso(key.revoked_at),
    }


def _row(key: Key) -> list[str]:
    times = [_minute(at) for at in (key.created_at, key.last_used_at, key.revoked_at)]
    return [key.key_id, key.name, str(key.role), key.owner, *times]


def _minute(at: float | None) -> str:
    text = iso(at)
    return "-" if text is None else f"{text[:10]} {text[11:16]}"
