"""Names in a store: which key holds which file of which experiment.

Keys are plain wherever a path can be a key, so that `ls` and `aws s3 ls` show what the run wrote. Where it
cannot, the object lies under `artifacts/_enc/`, named by the SHA-256 of the path's bytes, and the manifest
maps it back. The rule is the same for every store. Knows nothing of what any store is made of.

A *listed path* is how an artifact is called everywhere: relative to the working directory, or `_abs/` and an
absolute path without its first slash. An entry of the working directory that is itself called `_abs` or
`_enc` is listed as `_abs_work` or `_enc_work`, so that the two can never be taken for one another.
"""

from __future__ import annotations

import hashlib
import re

from gridkeep.errors import StoreError

NAME_LIMIT = 240  # bytes of one name
KEY_LIMIT = 1000  # bytes of a key with its store's prefix

_RESERVED = re.compile(rb"_(?:abs|enc)(?:_work)*")
_SHIFTED = re.compile(rb"_(?:abs|enc)(?:_work)+|_enc")
# Control characters (C0, DEL, C1), the two non-characters that XML listings cannot carry, and the backslash.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff\\\\]")


def experiment_prefix(ulid: str) -> str:
    """Where everything of an experiment lies, with a trailing slash."""
    return f"experiments/{ulid}/"


def artifacts_prefix(ulid: str) -> str:
    """Where its files lie, with a trailing slash."""
    return f"experiments/{ulid}/artifacts/"


def output_log_key(ulid: str) -> str:
    """What the run printed."""
    return f"experiments/{ulid}/output.log"


def experiment_key(ulid: str) -> str:
    """The record of the experiment, enough to rebuild the catalog."""
    return f"experiments/{ulid}/experiment.json"


def manifest_key(ulid: str) -> str:
    """The list of all its artifacts, written last."""
    return f"experiments/{ulid}/manifest.jsonl"


def listed_path(relative: bytes) -> bytes:
    """How a path relative to the working directory is listed; no two paths are listed alike."""
    top, slash, rest = relative.partition(b"/")
    return top + b"_work" + slash + rest if _RESERVED.fullmatch(top) else relative


def is_shifted(path: bytes) -> bool:
    """Whether a listed path is one that `listed_path` had to change."""
    return path.startswith((b"_abs_work", b"_enc_work")) and bool(_SHIFTED.fullmatch(path.partition(b"/")[0]))


def artifact_key(ulid: str, path: bytes, *, prefix: str = "") -> str:
    """The key of a listed path; `prefix` is what the store puts before every key and counts toward the
    limit."""
    key = _plain_key(ulid, path)
    if key is None or len(prefix.encode()) + len(key.encode()) > KEY_LIMIT:
        return encoded_key(ulid, path)
    return key


def encoded_key(ulid: str, path: bytes) -> str:
    """The key of a listed path that cannot stand under its own name, be it unfit or in the way of another
    (KeyConflict)."""
    return f"{artifacts_prefix(ulid)}_enc/{hashlib.sha256(path).hexdigest()}"


def names_of(key: str) -> list[str]:
    """The names that a key is made of. Raises StoreError for one that would leave the store's root."""
    names = key.split("/")
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise StoreError(f"{key!r} cannot be a key.")
    return names


def _plain_key(ulid: str, path: bytes) -> str | None:
    names = path.split(b"/")
    if _SHIFTED.fullmatch(names[0]) or any(
        name in (b"", b".", b"..") or len(name) > NAME_LIMIT for name in names
    ):
        return None
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return None
    return None if _UNFIT.search(text) else artifacts_prefix(ulid) + text
