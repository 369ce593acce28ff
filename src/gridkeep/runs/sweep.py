"""From the arguments of a script to its experiments: `--lr "[0.1,0.01]"` is one experiment for each value.

Pure: knows no files, catalog or command line. `values` tells what a single argument stands for.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from gridkeep.errors import ConfigError
from gridkeep.model import JSON
from gridkeep.runs.values import (
    NUMBER,
    Draw,
    checked,
    json_value,
    length,
    passable,
    readable,
    swept_values,
    typed,
)

STRATEGIES = ("grid_search", "random_search", "none")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the script: `words` as they are, then `glue` and the value joined, if it has one."""

    name: str | None = None  # its key among the parameters
    words: tuple[str, ...] = ()
    glue: str = ""
    text: str | None = None  # the value where there is only one
    values: Sequence[object] | Draw | None = None  # the values where it is swept


@dataclass(frozen=True, slots=True)
class Combination:
    """What one experiment gets: its words on the command line, and its parameters as JSON values."""

    args: list[str]
    params: JSON


@dataclass(frozen=True, slots=True)
class Plan:
    """The experiments of a run. `seed` repeats them where chance had a part; `notes` are for people."""

    combinations: list[Combination]
    seed: int | None
    notes: list[str] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------- reading


def read_arguments(args: Sequence[str], *, sweep: bool = True) -> list[Argument]:
    """The words after the script; lists and distributions are read if `sweep`. Raises ConfigError."""
    found: list[Argument] = []
    seen: dict[str, int] = {}
    positional, options, at = 0, True, 0

    def add(name: str, text: str, words: tuple[str, ...] = (), glue: str = "") -> None:
        values = swept_values(text) if sweep else None
        found.append(Argument(_numbered(name, seen), words, glue, passable(text), values))

    while at < len(args):
        word = args[at]
        at += 1
        if options and word == "--":
            options = False
            found.append(Argument(words=(word,)))
        elif not options or not _is_option(word):
            positional += 1
            add(f"arg{positional}", word)
        elif "=" in word:
            name, text = word.split("=", 1)
            add(name.lstrip("-"), text, glue=f"{name}=")
        elif at < len(args) and not _is_option(args[at]):
            add(word.lstrip("-"), args[at], (word,))
            at += 1
        else:
            found.append(Argument(_numbered(word.lstrip("-"), seen), (passable(word),)))
    return found


def read_params(params: Mapping[str, object], *, sweep: bool = True) -> list[Argument]:
    """The same from a YAML file: a list is swept, text is read like an argument, null makes a bare flag."""
    found = []
    for name, value in params.items():
        option = name if name.startswith("-") else f"--{name}"
        argument = Argument(name.lstrip("-"), (passable(option),))
        if value is not None:
            values: Sequence[object] | Draw | None = None
            if sweep:
                values = checked(value, name) if isinstance(value, list) else swept_values(str(value))
            argument = Argument(argument.name, argument.words, "", passable(str(value)), values)
        found.append(argument)
    return found


def _numbered(name: str, seen: dict[str, int]) -> str:
    """`name`, and for an option that is repeated `name.2`, `name.3`, …"""
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}.{seen[name]}"


def _is_option(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not NUMBER.fullmatch(word)


# --------------------------------------------------------------------------------------------------- planning


def plan(
    arguments: Sequence[Argument],
    *,
    strategy: str = "grid_search",
    num_trials: int | None = None,
    seed: int | None = None,
    limit: int = 10_000,
) -> Plan:
    """The experiments: all combinations, the first argument slowest, or `num_trials` of them without repeats.

    They are counted before any is built. Raises ConfigError.
    """
    axes = [argument.values for argument in arguments if argument.values is not None]
    total = math.prod(length(axis) for axis in axes)
    wanted, notes = total, []
    if strategy == "random_search":
        if num_trials is None:
            raise ConfigError("random_search needs a number of trials.", "Give it with `--num_trials N`.")
        wanted = min(total, num_trials)
        if num_trials > total:
            notes.append(
                f"{num_trials} trials were asked for, and there are {total:,} combinations: all are run."
            )
    elif num_trials is not None:
        notes.append(f"The number of trials has no effect with {strategy}: it is for random_search.")
    for count in (wanted, *(axis.size for axis in axes if isinstance(axis, Draw))):
        if count > limit:
            raise ConfigError(
                f"This sweep is {_count(count)} experiments, and {limit:,} is the most.",
                "Draw some with `--strategy random_search --num_trials N`, or raise `max_experiments`.",
            )
    if seed is None and (strategy == "random_search" or any(isinstance(axis, Draw) for axis in axes)):
        seed = secrets.randbelow(2**31)
    # A stream of chance for each argument, so that editing one does not change the values of the others.
    drawn = [
        axis.values(_chance(seed, str(number))) if isinstance(axis, Draw) else axis
        for number, axis in enumerate(axes)
    ]
    picks = _distinct(_chance(seed, "trials"), total, wanted)
    return Plan([_combination(arguments, _at(drawn, index)) for index in picks], seed, notes)


def _chance(seed: int | None, purpose: str) -> Random:
    return Random(f"{seed}/{purpose}")  # noqa: S311 - not for secrets; text seeds are the same on every machine


def _distinct(rng: Random, total: int, wanted: int) -> Iterator[int]:
    """`wanted` different numbers below `total`, whatever its size; in order when it is all of them."""
    if wanted == total:
        yield from range(total)
        return
    seen: set[int] = set()
    while len(seen) < wanted:
        if (index := rng.randrange(total)) not in seen:
            seen.add(index)
            yield index


def _at(axes: Sequence[Sequence[object]], index: int) -> list[object]:
    """The combination of that number: its digits, one axis each, the last one fastest."""
    picked = []
    for axis in reversed(axes):
        index, digit = divmod(index, length(axis))
        picked.append(axis[digit])
    return picked[::-1]


def _combination(arguments: Sequence[Argument], values: Sequence[object]) -> Combination:
    args: list[str] = []
    params: JSON = {}
    remaining = iter(values)
    for argument in arguments:
        args += argument.words
        shown: object = True
        if argument.values is not None:
            value = next(remaining)
            args.append(f"{argument.glue}{value}")
            shown = json_value(value)
        elif argument.text is not None:
            args.append(argument.glue + argument.text)
            shown = typed(argument.text)
        if argument.name is not None:
            params[readable(argument.name)] = shown
    return Combination(args, params)


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**30 else "more than 10^30"
