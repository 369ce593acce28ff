"""Signed URLs: they give the bytes of one artifact to whoever has them, until they end.

On a store that signs by itself (S3, Google, Azure) they are the store's own, and the bytes never pass the server. On others
they lead to the server, signed for the artifact, its hash, the end, and whether it is an attachment: a file that was
replaced, or a URL that was changed, is refused. Knows nothing of HTTP but how the URL looks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from gridkeep.errors import Forbidden, GridError
from gridkeep.model import Artifact, Listed
from gridkeep.runs.context import Context
from gridkeep.runs.signing import LONGEST, Signer
from gridkeep.stores.base import Store

_AGAIN = "Ask for a fresh one."


class Links:
    """Makes signed URLs for a home's artifacts, and checks those that come back."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.signer = Signer(context.home)

    def ttl(self, asked: float | None = None) -> float:
        """Seconds that a URL made now is good for. Raises GridError when that is none, or longer than 7 days."""
        ttl = self._context.settings.signed_url_ttl if asked is None else asked
        if asked is not None and not 0 < asked <= LONGEST:
            raise GridError("A signed URL is good for more than 0 s and at most 7 days.", _AGAIN)
        return min(ttl, LONGEST)

    def sign(
        self,
        store: Store,
        artifacts: Sequence[Artifact | Listed],
        *,
        base: str,
        ttl: float,
        download: bool = False,
    ) -> list[str | None]:
        """A URL for each, in their order, None for those without bytes in the store. `store` is that of their cluster,
        `base` the server's own address without a slash at its end."""
        signed = store.sign([artifact.key or "" for artifact in artifacts if artifact.downloadable], ttl)
        if signed is not None:
            each = iter(signed)
            return [next(each) if artifact.downloadable else None for artifact in artifacts]
        sign, expires = self.signer.secret().sign, str(math.ceil(time.time() + ttl))
        terms, attachment = _terms(expires, download), "&download=1" if download else ""
        before, between = f"{base}/v1/artifacts/", f"/content?expires={expires}&signature="
        return [
            f"{before}{artifact.artifact_id}{between}{sign(_message(artifact, terms))}{attachment}"
            if artifact.downloadable
            else None
            for artifact in artifacts
        ]

    def check(self, artifact: Artifact, *, expires: str, signature: str, download: bool) -> None:
        """Raises Forbidden, in words, unless the URL with these parts was made here for this artifact as it is now, and has
        not ended."""
        if not self.signer.verify(_message(artifact, _terms(expires, download)), signature):
            raise Forbidden("This URL was changed, or the file was replaced since it was made.", _AGAIN)
        if int(expires) <= time.time():
            raise Forbidden("This URL has ended.", _AGAIN)


def _message(artifact: Artifact | Listed, terms: str) -> str:
    return f"content\n{artifact.artifact_id}\n{artifact.sha256}\n{terms}"


def _terms(expires: str, download: bool) -> str:
    return f"{expires}\n{download:d}"
