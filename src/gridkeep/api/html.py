"""Answers that are pages: what a browser may do with one, beside what it says.

A page runs the scripts that it names itself and no other, shows itself in no frame, and sends forms to this server only.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from starlette.responses import HTMLResponse

from gridkeep.web.pages import render


def page(
    template: str,
    *,
    user: str | None,
    live: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> HTMLResponse:
    """The page that a template of `web/templates` makes of these values. `user`: who looks at it, None for a stranger.
    `live`: the number of the last change that it shows, for one that is to follow the changes."""
    nonce = secrets.token_urlsafe(16)
    text = render(template, nonce=nonce, user=user, live=live, **values)
    return HTMLResponse(text, status, headers={**_policy(nonce), **(headers or {})})


def _policy(nonce: str) -> dict[str, str]:
    allowed = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"content-security-policy": "; ".join(allowed), "cross-origin-opener-policy": "same-origin"}
