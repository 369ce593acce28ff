"""What one argument of a sweep stands for: the values of a list, of a range, or of one of six distributions.

Pure. Text is read by `ast` and never executed. Text that only looks like a list, and is none, stands
for itself; a call of a known function with wrong arguments is an error.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from gridkeep.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Draw:
    """A distribution with the number of values to draw from it."""

    size: int
    sample: Callable[[Random], object]

    def values(self, rng: Random) -> list[object]:
        """Raises ConfigError when a value is too large to be a number."""
        try:
            found = [self.sample(rng) for _ in range(self.size)]
            if all(math.isfinite(value) for value in found if isinstance(value, float)):
                return found
        except OverflowError:
            pass
        raise ConfigError(
            "A distribution of the sweep yields numbers that are too large.", "Narrow its arguments."
        )


def length(axis: Sequence[object] | Draw) -> int:
    """How many values an axis of the sweep has."""
    if isinstance(axis, Draw):
        return axis.size
    if isinstance(axis, range):  # len() refuses those of more than 2**63 numbers
        return max(0, -(-(axis.stop - axis.start) // axis.step))
    return len(axis)


def swept_values(text: str) -> Sequence[object] | Draw | None:
    """The values that `text` stands for; None when it stands for itself."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")) and not _CALL.fullmatch(stripped):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = ast.parse(stripped, mode="eval").body
        if isinstance(node, ast.List):
            listed = ast.literal_eval(node)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    if isinstance(node, ast.List):
        return checked(listed, text)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    return _called(node.func.id, node, text)


def _called(function: str, node: ast.Call, text: str) -> range | Draw:
    try:
        positional = [ast.literal_eval(each) for each in node.args]
        named = {each.arg or "**": ast.literal_eval(each.value) for each in node.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise _unreadable(text, "its arguments are not plain numbers or lists") from None
    make = _FUNCTIONS[function]
    try:
        bound = inspect.signature(make).bind(*positional, **named)
        return make(*bound.args, **bound.kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unreadable(text, str(error)) from None


def checked(values: Sequence[object], text: str) -> Sequence[object]:
    """`values`, read from `text`, if there are any and a program can get each. Raises ConfigError."""
    if not values:
        raise _unreadable(text, "it has no values")
    try:
        for value in values:
            passable(str(value))
    except ValueError:  # Python writes no integer of thousands of digits
        raise _unreadable(text, "a number in it is too long") from None
    return values


def passable(text: str) -> str:
    """`text` if a program can get it as an argument. Raises ConfigError."""
    try:
        if b"\0" not in os.fsencode(text):
            return text
    except UnicodeEncodeError:
        pass
    raise ConfigError(
        f"{text!a} cannot be an argument of a program.", "Remove its NUL or surrogate characters."
    )


def _unreadable(text: str, problem: str) -> ConfigError:
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return ConfigError(
        f"The sweep `{readable(shown)}` cannot be read: {problem}.",
        "Mend it, or pass it on as text with `--strategy none`.",
    )


def typed(text: str) -> object:
    """The JSON value of an argument as typed: a number where it is plainly one."""
    if text in ("True", "False"):
        return text == "True"
    if _WHOLE.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text) and re.search(r"[.eE]", text) and math.isfinite(number := float(text)):
        return number
    return readable(text)


def json_value(value: object) -> object:
    """`value` as JSON can hold it: what is no JSON becomes text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [json_value(each) for each in value]
    if isinstance(value, dict):
        return {readable(str(key)): json_value(each) for key, each in value.items()}
    return readable(str(value))


def readable(text: str) -> str:
    """`text` with its undecodable bytes as U+FFFD, so that it can be shown and kept."""
    return _SURROGATE.sub("\ufffd", text)


# ---------------------------------------------------------------------- the functions, with numpy's arguments


def _range(*bounds: object) -> range:
    if not 1 <= len(bounds) <= 3:
        raise ValueError("range takes one to three whole numbers")
    values = range(*(_whole("an argument of range", bound) for bound in bounds))
    if not length(values):
        raise ValueError("it has no values")
    return values


def _uniform(low: object = 0.0, high: object = 1.0, size: object = None) -> Draw:
    start, end = _real("low", low), _real("high", high)
    _require(start <= end, "low is above high")
    return Draw(_size(size), lambda rng: rng.uniform(start, end))


def _normal(loc: object = 0.0, scale: object = 1.0, size: object = None) -> Draw:
    mean, deviation = _real("loc", loc), _real("scale", scale)
    _require(deviation >= 0, "scale is negative")
    return Draw(_size(size), lambda rng: rng.normalvariate(mean, deviation))


def _lognormal(mean: object = 0.0, sigma: object = 1.0, size: object = None) -> Draw:
    center, deviation = _real("mean", mean), _real("sigma", sigma)
    _require(deviation >= 0, "sigma is negative")
    return Draw(_size(size), lambda rng: rng.lognormvariate(center, deviation))


def _loguniform(low: object, high: object, size: object = None) -> Draw:
    start, end = _real("low", low), _real("high", high)
    _require(0 < start <= end, "low must be above 0 and not above high")
    ends = math.log(start), math.log(end)
    return Draw(_size(size), lambda rng: min(max(math.exp(rng.uniform(*ends)), start), end))


def _randint(low: object, high: object = None, size: object = None) -> Draw:
    start, end = (0, low) if high is None else (low, high)
    first, last = _whole("low", start), _whole("high", end)
    _require(first < last, "low must be below high")
    return Draw(_size(size), lambda rng: rng.randrange(first, last))


def _choice(a: object, size: object = None) -> Draw:
    if not isinstance(a, list) or not a:
        raise ValueError("its first argument must be a list with values")
    checked(a, str(a))
    return Draw(_size(size), lambda rng: rng.choice(a))


def _real(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number")
    return float(value)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError(f"{name} must be a whole number")
    return value


def _size(size: object) -> int:
    _require(size is not None, "size, the number of values to draw, is missing")
    number = _whole("size", size)
    _require(number >= 1, "size must be 1 or more")
    return number


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


_FUNCTIONS: dict[str, Callable[..., range | Draw]] = {
    "range": _range,
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "loguniform": _loguniform,
    "randint": _randint,
    "choice": _choice,
}
_CALL = re.compile(rf"(?:{'|'.join(_FUNCTIONS)})\s*\(.*\)", re.DOTALL)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
