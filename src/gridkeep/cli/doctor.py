"""`grid doctor`: what works on this machine, what does not, and why."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import click

from gridkeep import __version__, capture
from gridkeep.capture.session import has_native_shim
from gridkeep.capture.watch import is_installed
from gridkeep.cli.output import echo, print_json, printable, table
from gridkeep.errors import GridError
from gridkeep.runs import dispatch
from gridkeep.runs.cluster import Checked, check
from gridkeep.runs.context import Context, open_context
from gridkeep.runs.unfinished import place_of, submissions
from gridkeep.settings import Settings, home_from, parse_duration, with_sources
from gridkeep.supervisor.cleanup import leftovers
from gridkeep.terminal import many, size

_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
_SCARCE = 10**9  # free bytes below which the home gets a warning


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `level` is `ok`, `warning` or `failed`; `facts` are for machines, `more` for people."""

    name: str
    level: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)


@click.command(short_help="Say what works on this machine, what does not, and why.")
@click.option("--settings", "show_settings", is_flag=True, help="List all settings with value and source.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(show_settings: bool, as_json: bool) -> int:
    """Say what works on this machine, what does not, and why. Exit status 1 when something has failed."""
    if show_settings:
        _settings(as_json)
        return 0
    findings = list(examine())
    if as_json:
        print_json(
            [{"name": one.name, "level": one.level, "text": one.text, **one.facts} for one in findings]
        )
    else:
        echo(f"gridkeep {__version__}")
        rows: list[list[str]] = []
        for one in findings:
            rows += [[one.name, one.level, one.text], *(["", "", line] for line in one.more)]
        echo(table(["", "", ""], rows)[1:])
    return 1 if any(one.level == "failed" for one in findings) else 0


def examine() -> Iterator[Finding]:
    """Looks at everything in turn; what cannot be looked at is a finding too."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield _capture()
    try:
        # What is, not what would be after this command: no engine is started.
        with open_context(start_engine=False) as context:
            yield _home(context)
            yield _catalog(context)
            yield from _leftovers(context)
            yield from _deletions(context)
            yield from map(_store, check(context))
            yield _engine(context)
    except GridError as error:
        yield Finding(
            "home", "failed", f"{error.message} {error.hint or ''}".strip(), {"path": home_from().path}
        )
    yield _tool("ffmpeg", ("ffmpeg",), "videos of browser runs")
    yield _tool("browser", _BROWSERS, "browser runs")


def _capture() -> Finding:
    """The mode that a run gets, and what each mode would take here."""
    mode, why = capture.probe()
    refused, native = why if mode == "watch" else None, has_native_shim()
    try:
        wanted, source = with_sources(home_from())["capture"]
    except GridError:
        wanted, source = "auto", ""  # what is wrong with the settings is a finding of its own
    level = "ok" if mode in ("c", "python") else "warning"
    if wanted == "watch":
        mode, why, level = "watch", f"{source} asks for it", "warning"
    elif wanted == "c" and not native:
        mode, why, level = (
            "none",
            f"{source} asks for the C shim, which is not there: no run starts",
            "failed",
        )
    elif wanted == "python" and refused is None:
        mode, why = "python", f"{source} asks for it; {why}"
    kernel = refused and "cannot be had where the kernel refuses"
    compiler = "works" if native else "was not compiled: install again where there is a C compiler"
    modes = {
        "c": kernel or compiler,
        "python": kernel or "works, at more cost to scripts that write many small files",
        "watch": f"works, and sees only the working copy and the folders that it links to, {_means()}",
        "off": "`grid run --no-capture`; only the working copy is looked through, at the end",
    }
    more = [f"{name}: {text}" for name, text in modes.items() if name != mode or name == "watch"]
    return Finding("capture", level, f"{mode}: {why}", {"mode": mode, "why": why, "modes": modes}, more)


def _means() -> str:
    if is_installed():
        return "by events (watchfiles) and by looking"
    return "by looking every second or so; `pip install 'gridkeep[watch]'` adds events"


def _home(context: Context) -> Finding:
    path = context.home.path
    free = shutil.disk_usage(path).free
    mode = stat.S_IMODE(os.stat(path).st_mode)
    kind = _filesystem(path)
    facts = {"path": path, "filesystem": kind, "free_bytes": free, "mode": f"{mode:04o}"}
    text = f"{printable(path)} ({kind}, {size(free)} free)"
    if mode & 0o077:
        return Finding("home", "warning", f"{text}: others may look into it, `chmod 700` ends that", facts)
    return Finding("home", "warning" if free < _SCARCE else "ok", text, facts)


def _filesystem(path: str) -> str:
    """The type of the filesystem that holds `path`: that of the mount with the longest path to it, the last one if
    several lie upon each other (proc(5), mountinfo)."""
    path, best, kind = os.path.realpath(path), "", "unknown filesystem"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                point = (
                    before.split()[4].encode("latin-1", "ignore").decode("unicode_escape")
                )  # \040 is a space
                if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                    best, kind = point, after.split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        pass
    return kind


def _catalog(context: Context) -> Finding:
    from gridkeep.catalog.sqlite import SqliteDatabase

    database = SqliteDatabase(context.home.catalog)
    try:
        version = database.version()
    finally:
        database.close()
    warning = context.catalog.warning
    text = f"{printable(context.home.catalog)} (version {version})"
    facts = {"version": version, "warning": warning}
    return Finding(
        "catalog", "warning" if warning else "ok", f"{text}: {warning}" if warning else text, facts
    )


def _leftovers(context: Context) -> Iterator[Finding]:
    """What the home holds of experiments that the catalog does not know: nothing of it is ever removed unasked."""
    unknown = leftovers(context.home, context.catalog)
    if unknown:
        places = {
            place_of(each)
            for each in submissions(context.home)
            if unknown.intersection(one.experiment_id for one in each.experiments)
        } or {(f"file://{context.home.store}", None)}
        commands = [
            f"`grid catalog rebuild {printable(_options(*each))}`" for each in sorted(places, key=str)
        ]
        found = len(unknown)
        what = f"{many(found, 'experiment')} in the home {'is' if found == 1 else 'are'} not in the catalog"
        text = f"{what}; {' and '.join(commands)} brings back those of that store"
        yield Finding("leftovers", "warning", text, {"experiments": found})


def _deletions(context: Context) -> Iterator[Finding]:
    """Those that were begun and are not over: the store may be away, or refuse the credentials of whoever asked."""
    if left := context.catalog.deleting():
        runs = " ".join(sorted({one.run for one in left}))
        text = f"{many(len(left), 'experiment')} not deleted to the end yet; `grid delete {runs}` goes on with it"
        yield Finding("deletions", "warning", text, {"experiments": len(left)})


def _options(store: str, endpoint: str | None) -> str:
    return f"{store} --endpoint {endpoint}" if endpoint else store


def _store(checked: Checked) -> Finding:
    facts = {"cluster": checked.cluster.name, "uri": checked.cluster.uri}
    level = "ok" if checked.error is None else "failed"
    return Finding(f"store {checked.cluster.name}", level, checked.sentence(), facts)


def _engine(context: Context) -> Finding:
    alive = dispatch.engine_alive(context.home)
    waiting = len(context.catalog.unfinished())
    facts = {"alive": alive, "unfinished": waiting}
    if not alive and waiting:
        return Finding(
            "engine", "warning", f"not running, with {many(waiting, 'experiment')} unfinished", facts
        )
    return Finding("engine", "ok", "running" if alive else "not running; it starts when there is work", facts)


def _tool(name: str, programs: tuple[str, ...], purpose: str) -> Finding:
    path = next(filter(None, map(shutil.which, programs)), None)
    return Finding(name, "ok", path or f"not found; only {purpose} need it", {"path": path})


def setting_text(name: str, value: Any) -> str:
    """A setting's value as one would write it."""
    parse = next(item.metadata["parse"] for item in fields(Settings) if item.name == name)
    if value is None:
        return "auto"
    if isinstance(value, list):
        return ", ".join(value) or "(none)"
    return f"{value:g}s" if parse is parse_duration else str(value)


def _settings(as_json: bool) -> None:
    found = with_sources(home_from())
    if as_json:
        print_json({name: {"value": value, "source": source} for name, (value, source) in found.items()})
        return
    rows = [[name, setting_text(name, value), source] for name, (value, source) in found.items()]
    echo(table(["Setting", "Value", "Source"], rows))
