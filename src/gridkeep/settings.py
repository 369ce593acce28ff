"""Every duration, size and habit that a user may want to change, and where the home's things lie.

A setting comes from the environment (`GRIDKEEP_<NAME>`), else from `GRIDKEEP_HOME/config.toml`, else from its default here.
`grid doctor --settings` and `docs/reference/settings.md` are made from this file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gridkeep.errors import ConfigError

DOWNLOADS = "grid_artifacts"  # the folder that `grid artifacts` fills unless told otherwise

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES |= {f"{unit}{end}": scale for unit, scale in list(_SIZES.items()) if len(unit) == 1 for end in ("b",)}
_SIZES |= {
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_duration(text: str | float) -> float:
    """Seconds from `90`, `"90s"`, `"15m"`, `"24h"`, `"1h30m"`. Raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)", str(text).strip().lower())
    if not parts or re.sub(r"\s", "", str(text).lower()) != "".join(number + unit for number, unit in parts):
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m or 24h")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_size(text: str | float) -> int:
    """Bytes from `1000`, `"10MB"`, `"2GiB"`, `"1.5g"`. Raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return int(text)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(text).strip().lower())
    if not match or match[2] not in _SIZES:
        raise ValueError(f"{text!r} is not a size such as 500MB or 2GiB")
    return int(float(match[1]) * _SIZES[match[2]])


def _parse_list(text: str | list[str]) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else list(text)


def _parse_count(text: str | int) -> int | None:
    if text in ("", "auto", None):
        return None
    if (number := int(text)) < 1:
        raise ValueError(f"{text!r} is not a number of 1 or more")
    return number


def _parse_capture(text: str) -> str:
    if text not in ("auto", "c", "python", "watch"):
        raise ValueError(f"{text!r} is none of auto, c, python, watch")
    return text


def _setting(default: Any, parse: Callable[[Any], Any], doc: str) -> Any:
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"parse": parse, "doc": doc})
    return field(default=default, metadata={"parse": parse, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force. Durations are seconds, sizes bytes."""

    cluster: str = _setting("local", str, "The cluster that `grid run` uses unless `--cluster` names one.")
    parallel: int | None = _setting(
        None,
        _parse_count,
        "How many experiments of a run are executed at once; unset, as many as the CPUs allow.",
    )
    capture: str = _setting("auto", _parse_capture, "How writes are seen: auto, c, python or watch.")
    exclude: list[str] = _setting([], _parse_list, "Patterns (git's syntax) of files that no run keeps.")
    linger: float = _setting(
        10.0, parse_duration, "How long descendants may go on after the script's end before they get SIGTERM."
    )
    kill_grace: float = _setting(5.0, parse_duration, "Time between SIGTERM and SIGKILL.")
    quiet: float = _setting(
        0.5,
        parse_duration,
        "How long a rewritten file must be quiet before it is sent; doubled at each rewrite.",
    )
    quiet_max: float = _setting(30.0, parse_duration, "The most that a rewritten file has to be quiet.")
    growing_interval: float = _setting(
        10.0, parse_duration, "How long after its opening a file that is still being written is first put up."
    )
    growing_interval_max: float = _setting(
        60.0, parse_duration, "The most time between two copies of a growing file."
    )
    sync_timeout: float = _setting(
        86400.0, parse_duration, "How long after the script's end a store that is away or full is waited for."
    )
    store_timeout: float = _setting(
        60.0,
        parse_duration,
        "How long a request to a cloud may be silent before it is given up and made again.",
    )
    retry_max: float = _setting(15.0, parse_duration, "The longest pause between two tries to reach a store.")
    transfer_threads: int = _setting(
        8, int, "How many files an experiment sends, or a download gets, at once."
    )
    download_timeout: float = _setting(
        60.0, parse_duration, "How long a download waits for a byte before it gives a file up."
    )
    signed_url_ttl: float = _setting(
        900.0, parse_duration, "How long a signed URL is good for; at most 7 days."
    )
    share_ttl: float = _setting(86400.0, parse_duration, "How long a share link lives unless told otherwise.")
    share_ttl_max: float = _setting(
        30 * 86400.0, parse_duration, "The longest that a share link may live, whoever asks."
    )
    session_ttl: float = _setting(
        7 * 86400.0, parse_duration, "How long a browser that has logged in stays so."
    )
    login_code_ttl: float = _setting(
        3600.0, parse_duration, "How long the link that `grid serve` prints can be used, once."
    )
    shutdown_grace: float = _setting(
        10.0, parse_duration, "How long a server that is told to end finishes what is under way."
    )
    upload_limit: int = _setting(2 * 10**9, parse_size, "A file over this size is not taken by a server.")
    copy_warn: int = _setting(50 * 10**6, parse_size, "A working copy over this size gets a warning.")
    copy_limit: int = _setting(2 * 10**9, parse_size, "A working copy over this size is refused.")
    link_file: int = _setting(
        10 * 10**6, parse_size, "A file that git ignores is linked, not copied, over this size."
    )
    link_folder: int = _setting(
        100 * 10**6, parse_size, "A folder that git ignores is linked over this size."
    )
    link_folder_files: int = _setting(1000, int, "A folder that git ignores is linked over this many files.")
    max_experiments: int = _setting(10_000, int, "A sweep of more experiments than this is refused.")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds everything of one user on one machine, and the names of what lies in it."""

    path: str

    @property
    def catalog(self) -> str:
        return os.path.join(self.path, "catalog.db")

    @property
    def config(self) -> str:
        return os.path.join(self.path, "config.toml")

    @property
    def store(self) -> str:
        return os.path.join(self.path, "store")

    @property
    def server_secrets(self) -> str:
        """What a server signs URLs with."""
        return os.path.join(self.path, "server-secrets.json")

    @property
    def uploads(self) -> str:
        """Files that clients of a server sent for runs to come."""
        return os.path.join(self.path, "uploads")

    @property
    def servers(self) -> str:
        """Where the servers that run say where they are."""
        return os.path.join(self.path, "servers")

    @property
    def engine_lock(self) -> str:
        return os.path.join(self.path, "engine.lock")

    @property
    def submit_lock(self) -> str:
        return os.path.join(self.path, "submit.lock")

    @property
    def delete_lock(self) -> str:
        """Held by the one process that deletes."""
        return os.path.join(self.path, "delete.lock")

    @property
    def log(self) -> str:
        return os.path.join(self.path, "log")

    def work(self, ulid: str) -> str:
        """The working copy of an experiment, or what a run's experiments are copied from."""
        return os.path.join(self.path, "work", ulid)

    def supervisor_lock(self, ulid: str) -> str:
        """Held by an experiment's supervisor for its life."""
        return os.path.join(self.journal(ulid), "supervisor.lock")

    def ledger(self, ulid: str) -> str:
        """How far each file of an experiment has come; there from its beginning until its end is proven."""
        return os.path.join(self.journal(ulid), "ledger.db")

    def journal(self, ulid: str) -> str:
        """The journal, ledger, output log and lock of an experiment; the environment of a run."""
        return os.path.join(self.path, "journal", ulid)


def home_from(environ: Mapping[str, str] | None = None) -> Home:
    """`GRIDKEEP_HOME`, else `~/.gridkeep`."""
    environ = os.environ if environ is None else environ
    return Home(os.path.abspath(os.path.expanduser(environ.get("GRIDKEEP_HOME") or "~/.gridkeep")))


def load(home: Home, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force; `environ` is that of this process unless given. Raises ConfigError."""
    return Settings(**{name: value for name, (value, _) in with_sources(home, environ).items()})


def with_sources(home: Home, environ: Mapping[str, str] | None = None) -> dict[str, tuple[Any, str]]:
    """Each setting's value and where it comes from: a variable's name, the file, or `default`."""
    environ = os.environ if environ is None else environ
    try:
        with open(home.config, "rb") as file:
            config = tomllib.load(file)
    except FileNotFoundError:
        config = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{home.config} is not valid TOML: {error}.", "Mend or remove that file.") from None
    except OSError as error:
        raise ConfigError(
            f"{home.config} cannot be read: {error.strerror}.", "Check its permissions."
        ) from None
    known = {item.name for item in fields(Settings)}
    for name in config.keys() - known:
        raise ConfigError(
            f"{home.config} has an unknown setting `{name}`.",
            "`grid doctor --settings` lists the known ones.",
        )
    defaults = Settings()
    found: dict[str, tuple[Any, str]] = {}
    for item in fields(Settings):
        variable = f"GRIDKEEP_{item.name.upper()}"
        if variable in environ:
            raw, source = environ[variable], variable
        elif item.name in config:
            raw, source = config[item.name], home.config
        else:
            found[item.name] = (getattr(defaults, item.name), "default")
            continue
        try:
            found[item.name] = (item.metadata["parse"](raw), source)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"The setting `{item.name}` (from {source}) cannot be read: {error}.", item.metadata["doc"]
            ) from None
    return found
