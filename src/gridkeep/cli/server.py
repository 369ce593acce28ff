"""Speaking to the server that GRID_URL names, with the key in GRID_API_KEY."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

from gridkeep import __version__
from gridkeep.errors import GridError, NotFound

_TIMEOUT = 20.0  # seconds


def server_url() -> str | None:
    """Without a slash at its end. Raises GridError for what is no address."""
    url = os.environ.get("GRID_URL")
    return checked_url(url) if url else None


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises GridError for what is no address."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise GridError(f"{url} is no address of a server.", "Write it as in http://127.0.0.1:8787.")
    return url.rstrip("/")


def ask(url: str, key: str, method: str, path: str, body: Any = None) -> Any:
    """What the server answers, from JSON. Raises GridError in the server's own words, or when it cannot be reached."""
    from urllib.error import HTTPError  # only where they are needed: they take a tenth of a command's start
    from urllib.request import Request, urlopen

    headers = {"x-api-key": key, "user-agent": f"gridkeep/{__version__}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        asked = Request(f"{url}{path}", data, headers, method=method)  # noqa: S310 - of http, as checked
        with urlopen(asked, timeout=_TIMEOUT) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        raise _in_its_words(url, error.code, error.read(10_000)) from None
    except (OSError, ValueError) as error:
        raise GridError(f"{url} cannot be reached: {error}.", "Is `grid serve` running there?") from None


def _in_its_words(url: str, status: int, body: bytes) -> GridError:
    try:
        said = json.loads(body)
        detail, hint = said["detail"], said.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, hint = None, None
    if detail == "Invalid credentials":
        return GridError(
            f"{url} refuses: the key is not one of its keys.", "Check GRID_API_KEY and the address."
        )
    if not isinstance(detail, str):
        return GridError(f"{url} refused: it answered {status}.", "Its log says more.")
    return (NotFound if status == 404 else GridError)(detail, hint)
