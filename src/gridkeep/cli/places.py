"""The words `EXPERIMENT[:PATH]` that some commands take."""

from __future__ import annotations

import os

from gridkeep.errors import UsageError


def split_place(word: str) -> tuple[str, bytes | None]:
    """`my-run-exp0:out/a.txt` -> the name and the exact bytes of the path (None without `:`, or with nothing after
    it)."""
    name, colon, path = word.partition(":")
    if not name:
        raise UsageError(
            f"{word!r} names no experiment.", "Write EXPERIMENT:PATH, as in my-run-exp0:out/model.pt."
        )
    return name, os.fsencode(path).strip(b"/") or None if colon else None
