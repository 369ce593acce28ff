"""Errors that a user can cause or must know of.

Each has a message (one sentence: what happened) and a hint (one sentence: what to do). The CLI prints the two lines and
exits 1; the API will turn them into status codes. A traceback shown to a user is a bug.

    GridError
    ├── UsageError            wrong words on the command line (exit 2)
    ├── NotFound              no such run, experiment, artifact or path
    ├── Forbidden             not for whoever asks (another's run, a link that has ended, …)
    ├── Gone                  was there, and has ended (a share link)
    ├── NameTaken             a run of this name exists
    ├── Conflict              not possible in the state that things are in (still running, being deleted, …)
    ├── ConfigError           a setting, a YAML file or a sweep argument that cannot be read
    ├── HomeError             the home cannot be used (not writable, newer version, …)
    ├── CatalogError          the catalog cannot be read or written
    └── StoreError            the store did not do what it was asked
        ├── StoreUnavailable  a passing fault: try again
        │   └── NoCredentials none were found, or they have expired: whoever asks is to know at once
        ├── StoreDenied       permission or no such bucket: trying again does not help
        ├── StoreFull         no space left
        ├── ObjectMissing     no object under that key
        ├── ObjectExists      put-if-absent found one
        └── KeyConflict       the key cannot stand beside one that is there (a file where a folder must be)
"""

from __future__ import annotations


class GridError(Exception):
    """Something that is explained to the user in one sentence, with a hint where there is one."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GridError):
    """The command line does not make sense."""

    exit_code = 2


class NotFound(GridError):
    """No such run, experiment, artifact or path."""


class Forbidden(GridError):
    """Not for whoever asks."""


class Gone(GridError):
    """It was there, and has ended."""


class NameTaken(GridError):
    """A run of this name exists already."""


class Conflict(GridError):
    """Not possible in the state that things are in."""


class ConfigError(GridError):
    """A setting, a YAML file or a sweep argument cannot be understood."""


class HomeError(GridError):
    """The home folder cannot be used."""


class CatalogError(GridError):
    """The catalog cannot be read or written."""


class StoreError(GridError):
    """The store did not do what it was asked."""


class StoreUnavailable(StoreError):
    """A passing fault of the store; trying again may help."""


class NoCredentials(StoreUnavailable):
    """No credentials were found, they have expired, or what gives them does not answer: they may come later."""


class StoreDenied(StoreError):
    """The store refuses (permission, no such bucket); trying again does not help."""


class StoreFull(StoreError):
    """The store has no space left."""


class ObjectMissing(StoreError):
    """There is no object under that key."""


class ObjectExists(StoreError):
    """A put-if-absent found an object under that key."""


class KeyConflict(StoreError):
    """The key cannot stand beside one that is there, as `a/b` beside a file `a` in a folder store."""
