"""On which condition an object is put: that under its key still lies what its writer knows of, or nothing.

A request whose answer was lost may be on its way yet, and come to the store when a newer one of the same key was confirmed
long ago. What it may replace is not there any more then, and the store refuses it. Knows stores by what they raise only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from gridkeep.errors import StoreUnavailable
from gridkeep.stores.cloud_errors import is_unable, is_unmet

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult

_REMEMBERED = 4096  # keys
_TRIES = 5  # of one put, each after another look at what is there


def replacing(there: PutResult | ObjectMeta) -> PutMode:
    """The condition on which this version may be replaced, with those of its names that it has."""
    names: Any = {"e_tag": there["e_tag"], "version": there["version"]}
    return cast("PutMode", {name: value for name, value in names.items() if value is not None})


class Conditions:
    """Of all keys of a bucket. `look` gives the condition on which what is under a path now may be replaced."""

    def __init__(self, look: Callable[[str], PutMode]) -> None:
        self._look = look
        self._last: OrderedDict[str, PutMode] = OrderedDict()  # what this process put there
        self._lock = threading.Lock()
        self._able = True  # until the store says that it knows no such conditions

    def put(
        self, path: str, attempt: Callable[[PutMode], PutResult], *, look_first: bool = False
    ) -> PutResult:
        """What is under `path` when `attempt` has put it there, on the condition that it is given. Unless it is to
        `look_first`, that is what this process put there last, or nothing: what is new, and what is written again and again,
        takes one request. Raises what `attempt` raises; StoreUnavailable when another is always faster."""
        mode = self._look(path) if look_first else self._recall(path)
        for _ in range(_TRIES):
            try:
                return self._note(path, attempt(mode if self._able else "overwrite"))
            except Exception as error:
                if is_unable(error) and self._able:
                    self._able = False
                elif is_unmet(error):
                    named, mode = mode, self._look(path)
                    if mode == named:  # it refuses what holds: it means something else by it
                        mode = "overwrite"
                else:
                    raise
        raise StoreUnavailable(f"The object {path} is replaced by another at every try.", "It is sent again.")

    def _recall(self, path: str) -> PutMode:
        with self._lock:
            return self._last.get(path, "create")

    def _note(self, path: str, made: PutResult) -> PutResult:
        with self._lock:
            self._last[path] = replacing(made)
            self._last.move_to_end(path)
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        return made
