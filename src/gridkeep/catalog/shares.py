"""The part of a catalog's contract on share links: what each lets whoever has it see, until when, and how often it did.

A link goes with what it leads to: once that is being deleted, no call knows it any more. Its token is never here, only the
SHA-256. Knows nothing of HTTP, nor of who may share what. What all calls share is said in `base`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A link without its token. It leads to a run; with `experiment_id` to that one of it; with `path` as well to that
    file or folder of it."""

    share_id: str  # "shr_" + ULID
    digest: str
    run_id: str
    experiment_id: str | None = None
    path: bytes | None = None
    folder: bool = False
    created_by: str
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    opens: int = 0
    last_opened_at: float | None = None

    @property
    def scope(self) -> str:
        """`run`, `experiment`, `folder` or `file`."""
        if self.path is not None:
            return "folder" if self.folder else "file"
        return "run" if self.experiment_id is None else "experiment"

    def state(self, now: float) -> str:
        """`live`, `ended` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "live" if now < self.expires_at else "ended"


class ShareCatalog(Protocol):
    """See the module's docstring."""

    def add_share(self, share: Share) -> bool:
        """False, and nothing is added, when what it leads to is being deleted, or gone."""
        ...

    def share(self, share_id: str) -> Share | None:
        """Also one that has ended or was revoked."""
        ...

    def share_with(self, digest: str) -> Share | None:
        """The same by its token's hash."""
        ...

    def shares(
        self,
        *,
        user: str | None = None,
        run_id: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Share]:
        """Newest first (share_ids are ordered by time), those that have ended or were revoked, too. `user`: those that they
        made, and those of their runs. `before`: the share_id after which the page starts."""
        ...

    def revoke_share(self, share_id: str, at: float) -> bool:
        """It opens nothing any more, at once. False when it was not, or no more, there to be revoked."""
        ...

    def note_open(self, share_id: str, at: float) -> None:
        """Counts one more."""
        ...
