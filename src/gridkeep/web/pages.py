"""Making pages: templates filled in, and the static files that they name.

Everything that goes into a template is escaped, and names of files are made visible before (`printable`): both are hostile.
A template that is given too little fails. Static files are named with a hash of what they hold, so they may be kept forever.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gridkeep.web import words

_HERE = os.path.dirname(__file__)
_STATIC = os.path.join(_HERE, "static")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Static:
    """A static file: what it holds, its media type, and a part of its hash."""

    content: bytes
    media: str
    version: str


def render(template: str, **values: object) -> str:
    """The HTML of a template of `templates/` with these values."""
    return _environment().get_template(template).render(**values)


@cache
def static(name: str) -> Static | None:
    """The static file of that name. htmx is not there where the build could not have it: pages work without."""
    ending = os.path.splitext(name)[1]
    if ending not in _TYPES or os.path.basename(name) != name:
        return None
    try:
        with open(os.path.join(_STATIC, name), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    return Static(content, _TYPES[ending], hashlib.sha256(content).hexdigest()[:_HASH_LENGTH])


def static_url(name: str) -> str | None:
    """Its address on the server, if there is such a file."""
    found = static(name)
    return None if found is None else f"/static/{found.version}/{name}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(os.path.join(_HERE, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(static=static_url)
    return environment
