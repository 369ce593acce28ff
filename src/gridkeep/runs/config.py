"""The YAML file of `--config`: Grid's own format, so that existing files go on working.

What it says is the same as options of the command line, which win over it. Knows nothing of what is done with them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gridkeep.errors import ConfigError
from gridkeep.runs.sweep import STRATEGIES
from gridkeep.settings import parse_duration, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What the file says; None where it says nothing. Durations are seconds."""

    cpus: float | None = None
    gpus: int | None = None
    memory: str | None = None
    parallel: int | None = None
    timeout: float | None = None
    auto_resume: bool | None = None
    exclude: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    on_build: list[str] = field(default_factory=list)
    on_experiment_start: list[str] = field(default_factory=list)
    on_experiment_end: list[str] = field(default_factory=list)
    strategy: str | None = None
    num_trials: int | None = None
    seed: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    without_effect: list[str] = field(default_factory=list)  # keys of Grid's that do nothing here


# ------------------------------------------------------------------------------------------- what values may be


def _cpus(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError("must be a number above 0")


def _whole(least: int | None = None) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
            return value
        raise ValueError("must be a whole number" + ("" if least is None else f" of {least} or more"))

    return parse


def _memory(value: object) -> str:
    parse_size(str(value))
    return str(value)


def _seconds(value: object) -> float:
    if (seconds := parse_duration(str(value))) > 0:
        return seconds
    raise ValueError("must be longer than nothing")


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _texts(value: object) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if isinstance(listed, list) and all(isinstance(each, str) for each in listed):
        return listed
    raise ValueError("must be text or a list of texts")


def _environment(value: object) -> dict[str, str]:
    """Names to text: YAML's own words are written as YAML writes them, `true` and not `True`."""
    if not isinstance(value, dict):
        raise ValueError("must name variables and their values")
    found = {}
    for name, each in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"has {name!r}, which cannot be the name of a variable")
        if isinstance(each, dict | list):
            raise ValueError(f"has a value for {name} that is no text")
        text = str(each).lower() if isinstance(each, bool) else "" if each is None else str(each)
        if "\0" in text:
            raise ValueError(f"has a value for {name} with a NUL")
        found[name] = text
    return found


def _strategy(value: object) -> str:
    if value in STRATEGIES:
        return str(value)
    raise ValueError(f"must be one of {', '.join(STRATEGIES)}")


def _params(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must name the script's options and their values")
    for name, each in value.items():
        if not isinstance(name, str) or not name.strip("-"):
            raise ValueError(f"has {name!r}, which is no name of an option; put it in quotes")
        if isinstance(each, dict):
            raise ValueError(f"has several levels below {name}, and options have none")
    return value


# A field of RunConfig and how its value is read, or a section of more keys.
Known = Mapping[str, "Known | tuple[str, Callable[[object], Any]]"]

_KNOWN: Known = {
    "compute": {
        "train": {
            "actions": {
                "on_build": ("on_build", _texts),
                "on_experiment_start": ("on_experiment_start", _texts),
                "on_experiment_end": ("on_experiment_end", _texts),
            },
            "auto_resume": ("auto_resume", _switch),
            "cpus": ("cpus", _cpus),
            "environment": ("environment", _environment),
            "exclude": ("exclude", _texts),
            "gpus": ("gpus", _whole(0)),
            "memory": ("memory", _memory),
            "parallel": ("parallel", _whole(1)),
            "timeout": ("timeout", _seconds),
        },
    },
    "hyper_params": {
        "params": ("params", _params),
        "settings": {
            "strategy": ("strategy", _strategy),
            "strategy_options": {"num_trials": ("num_trials", _whole(1)), "seed": ("seed", _whole())},
        },
    },
}
# What Grid's own files may hold besides: accepted, and said to have no effect.
_WITHOUT_EFFECT = frozenset(
    {
        "compute.provider",
        "compute.train.actions.on_after_training_end",
        "compute.train.actions.on_before_training_start",
        "compute.train.actions.on_image_build",
        "compute.train.datastore_mount_dir",
        "compute.train.datastore_name",
        "compute.train.datastore_version",
        "compute.train.datastores",
        "compute.train.disk_size",
        "compute.train.framework",
        "compute.train.instance",
        "compute.train.max_nodes",
        "compute.train.min_nodes",
        "compute.train.nodes",
        "compute.train.scale_down_seconds",
        "compute.train.use_spot",
    }
)


# -------------------------------------------------------------------------------------------------------- reading


def load(path: str) -> RunConfig:
    """Reads the file. Raises ConfigError, which names the line, or the key with the known ones."""
    document = _document(path)
    found: dict[str, Any] = {"without_effect": []}
    _read(path, "", document, _KNOWN, found)
    return RunConfig(**found)


def _document(path: str) -> object:
    import yaml  # slow to load, and few runs have a file

    hint = "Mend that file; `grid run --help` tells what it may hold."
    try:
        with open(path, "rb") as file:
            return yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the path given to --config."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path} is not valid YAML{where}: {error.problem or error.context}.", hint
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"{path} is not valid YAML: {reason}.", hint) from None


def _read(path: str, where: str, section: object, known: Known, found: dict[str, Any]) -> None:
    if section is None:  # a key with nothing below it
        return
    if not isinstance(section, dict):
        raise ConfigError(
            f"{path}: {where or 'the file'} must hold keys with values.", f"Known are {', '.join(known)}."
        )
    for key, value in section.items():
        name = f"{where}.{key}" if where else str(key)
        if name in _WITHOUT_EFFECT:
            found["without_effect"].append(name)
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{near[0]}`? " if near else ""
            raise ConfigError(
                f"{path}: `{name}` is no known key.", f"{hint}Known are {', '.join(sorted(known))}."
            )
        meaning = known[key]
        if isinstance(meaning, Mapping):
            _read(path, name, value, meaning, found)
        elif value is not None:
            try:
                found[meaning[0]] = meaning[1](value)
            except ValueError as error:
                raise ConfigError(f"{path}: `{name}` cannot be used: it {_problem(error)}.", None) from None


def _problem(error: ValueError) -> str:
    text = str(error)
    return text if text.startswith(("must ", "has ")) else f"is wrong, as {text}"
