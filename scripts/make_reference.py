"""Writes the pages of docs/reference from the code. `--check` writes nothing and fails when they are stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from gridkeep.api.app import make_api
from gridkeep.api.docs import calls
from gridkeep.cli.doctor import setting_text
from gridkeep.cli.main import ALIASES, COMMANDS, cli
from gridkeep.settings import Settings

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
_MADE = "<!-- Made from the code by scripts/make_reference.py: edit there. -->"


def cli_reference() -> str:
    """Every command with its help, as the command line shows it."""
    parts = [f"# Command line\n\n{_MADE}\n", _help_of(cli, "grid", None)]
    root = click.Context(cli, info_name="grid", max_content_width=100, terminal_width=100)
    for section, commands in COMMANDS.items():
        parts.append(f"## {section}\n")
        for name in commands:
            command = cli.get_command(root, name)
            assert command is not None, name
            aliases = [alias for alias, meant in ALIASES.items() if meant == name]
            also = f", also `grid {aliases[0]}`" if aliases else ""
            parts.append(f"### `grid {name}`{also}\n\n{_help_of(command, name, root)}")
            if isinstance(command, click.Group):
                group = click.Context(command, info_name=name, parent=root)
                for inner, each in command.commands.items():
                    parts.append(f"### `grid {name} {inner}`\n\n{_help_of(each, inner, group)}")
    return "\n".join(parts)


def _help_of(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    context.help_option_names = ["-h", "--help"]
    return f"```text\n{command.get_help(context)}\n```\n"


def settings_reference() -> str:
    """Every setting with its default and what it means."""
    return "\n".join(_settings_lines()) + "\n"


def _settings_lines() -> Iterator[str]:
    yield f"# Settings\n\n{_MADE}\n"
    yield "A setting comes from its variable, else from `config.toml` in the home, else from its default."
    yield "`grid doctor --settings` lists those in force.\n"
    yield "| setting | default | variable | meaning |"
    yield "| --- | --- | --- | --- |"
    defaults = Settings()
    for item in fields(Settings):
        default = setting_text(item.name, getattr(defaults, item.name))
        meaning = item.metadata["doc"].replace("|", "\\|")
        yield f"| `{item.name}` | `{default}` | `GRIDKEEP_{item.name.upper()}` | {meaning} |"


def api_reference() -> str:
    """Every call of the server with its parameters."""
    return "\n".join(_api_lines()) + "\n"


def _api_lines() -> Iterator[str]:
    yield f"# REST API\n\n{_MADE}\n"
    yield "A key goes into the header `x-api-key`, or `Authorization: Bearer`. How to run a server, and what is behind these"
    yield "calls: [server.md](../server.md). A server shows the calls that it has at `/docs` and `/openapi.json`."
    for call in calls(make_api().openapi()):
        yield f"\n## {call.method} {call.path}\n\n{call.said}"
        for title, rows in (("parameter", call.query), ("field", call.body)):
            if rows:
                yield f"\n| {title} | type | |\n| --- | --- | --- |"
                yield from (f"| `{name}` | {kind} | {said} |" for name, kind, said in rows)


def main(arguments: list[str]) -> int:
    made = {"cli.md": cli_reference(), "settings.md": settings_reference(), "api.md": api_reference()}
    if arguments == ["--check"]:
        stale = [name for name, text in made.items() if not _is(REFERENCE / name, text)]
        if stale:
            print(f"stale: {', '.join(stale)}; run `python scripts/make_reference.py`", file=sys.stderr)
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
