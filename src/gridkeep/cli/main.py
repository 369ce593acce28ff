"""The command `grid`: from a name to its command, and from whatever goes wrong to two lines and an exit status.

A command's module is imported when it is called, so that `grid --help` costs no more than click. Knows nothing of what
the commands do.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import TextIOWrapper

import click

from gridkeep import __version__
from gridkeep.cli import interrupt
from gridkeep.cli.output import message, printable
from gridkeep.errors import GridError
from gridkeep.settings import home_from

# section -> name -> (where the command is, what it does)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Running": {
        "run": ("gridkeep.cli.run:command", "Run a script or a sweep, and keep every file that it writes."),
        "stop": ("gridkeep.cli.stop:command", "Stop runs or experiments; their files are kept."),
    },
    "Looking": {
        "status": ("gridkeep.cli.status:command", "Show active runs, or the experiments of a run."),
        "history": ("gridkeep.cli.history:command", "Show finished runs, newest first."),
        "logs": ("gridkeep.cli.logs:command", "Show what an experiment printed."),
        "ls": ("gridkeep.cli.ls:command", "List the files of an experiment."),
        "cat": ("gridkeep.cli.cat:command", "Write one file of an experiment to stdout."),
    },
    "Artifacts": {
        "artifacts": ("gridkeep.cli.artifacts:command", "Download the files of runs or experiments."),
        "share": ("gridkeep.cli.share:command", "Make a link to files for others; list and revoke links."),
        "verify": ("gridkeep.cli.verify:command", "Check what the store holds against the manifest."),
        "sync": ("gridkeep.cli.sync:command", "Try again to store files that could not be stored in time."),
        "delete": (
            "gridkeep.cli.delete:command",
            "Delete runs or experiments with all that was kept of them.",
        ),
    },
    "Serving": {
        "serve": ("gridkeep.cli.serve:command", "Serve the REST API and the web pages."),
        "key": ("gridkeep.cli.key:command", "Make, list and revoke API keys."),
        "login": ("gridkeep.cli.login:command", "Print a link that lets a browser in to a server."),
    },
    "The rest": {
        "cluster": (
            "gridkeep.cli.cluster:command",
            "Add, list, check and delete clusters: where files are kept.",
        ),
        "catalog": ("gridkeep.cli.catalog:command", "Bring back a catalog that was lost."),
        "doctor": ("gridkeep.cli.doctor:command", "Say what works on this machine, what does not, and why."),
        "completion": (
            "gridkeep.cli.completion:command",
            "Print the script that completes `grid` in a shell.",
        ),
    },
}
ALIASES = {"train": "run", "cancel": "stop"}
_TABLE = {name: entry for section in COMMANDS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """A group that knows its commands by the table above and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in _TABLE:
            return None
        module, attribute = _TABLE[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if (
            name not in _TABLE
            and name not in ALIASES
            and not name.startswith("-")
            and not ctx.resilient_parsing
        ):
            from difflib import get_close_matches

            near = get_close_matches(name, [*_TABLE, *ALIASES], n=3)
            advice = f" Did you mean {' or '.join(f'`grid {one}`' for one in near)}?" if near else ""
            raise click.UsageError(f"There is no command `{name}`.{advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, _TABLE))
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(longest), text) for name, (_, text) in commands.items()])

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [CompletionItem(n, help=text) for n, (_, text) in _TABLE.items() if n.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted.",
)
@click.version_option(__version__, prog_name="grid")
def cli() -> None:
    """Run scripts and sweeps; every file that they write is kept, and comes back proven complete."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Whatever happens, the user sees words and no traceback."""
    _open_closed_streams()
    if args is None:
        interrupt.watch()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name is worth a crash
    try:
        result = cli.main(args, prog_name="grid", standalone_mode=False)
        sys.stdout.flush()
        return result if type(result) is int else 0
    except GridError as error:
        return _say(error.message, error.hint, error.exit_code)
    except click.ClickException as error:
        sys.stdout.flush()
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # What reads our output has enough. The interpreter flushes once more at its end: give it nowhere to complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _explain(error)
    except Exception as error:
        return _unexpected(error)


def _open_closed_streams() -> None:
    """Whoever closed one of ours (`>&-`) gets nothing there, and no file of ours takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "r" if number == 0 else "w"))


def _say(text: str, hint: str | None, exit_code: int = 1) -> int:
    """One line each, whatever was typed: a name may hold a newline."""
    message(f"Error: {printable(text)}")
    if hint:
        message(f"Hint: {printable(hint)}")
    return exit_code


_CAUSES = {
    errno.ENOSPC: ("There is no space left", "Free some space there and try again."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space there and try again."),
    errno.EIO: ("The disk fails", "Look into the system's log (`dmesg`), and try again."),
    errno.EACCES: ("Permission is denied", "Check who owns it and what its permissions are."),
    errno.EPERM: ("Permission is denied", "Check who owns it and what its permissions are."),
    errno.EROFS: ("The filesystem is read-only", "Choose a place that you can write."),
    errno.EMFILE: ("Too many files are open", "Raise the limit with `ulimit -n` and try again."),
}


def _explain(error: OSError) -> int:
    if error.errno not in _CAUSES:
        return _unexpected(error)
    cause, hint = _CAUSES[error.errno]
    where = error.filename2 or error.filename
    return _say(f"{cause}: {os.fsdecode(where)}." if isinstance(where, str | bytes) else f"{cause}.", hint)


def _unexpected(error: Exception) -> int:
    """A fault of ours: its traceback goes to a file. Arguments stay out of it, they may hold secrets."""
    import traceback  # costs every start 5 ms, and is hardly ever needed

    text = f"An unexpected {type(error).__name__} ended this command."
    try:
        folder = home_from().log
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log")
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", errors="backslashreplace"
        ) as log:
            log.write(f"gridkeep {__version__}, Python {sys.version.split()[0]}\n")
            traceback.print_exception(error, file=log)
    except OSError as trouble:
        return _say(text, f"Its details could not be kept ({trouble.strerror}: {trouble.filename}).")
    return _say(text, f"Its details are in {path}; please report it.")


if __name__ == "__main__":
    sys.exit(main())
