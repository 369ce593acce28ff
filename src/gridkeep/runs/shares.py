"""Share links: making one, what it opens, and its end.

A link shows one file, folder, experiment or run to whoever has it, until it ends or is revoked, and not a byte beside: what
is asked for below it is looked up by its exact path, and no path is ever put together by rules of a file system. Its token
is shown once and kept as a hash. Knows nothing of HTTP but where a link leads.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace

from gridkeep.catalog.access import Role
from gridkeep.catalog.base import Catalog
from gridkeep.catalog.shares import Share
from gridkeep.errors import Forbidden, Gone, GridError, NotFound
from gridkeep.model import JSON, Artifact, ArtifactState, Experiment, Run, iso, new_ulid, path_json
from gridkeep.runs.access import Caller, digest_of, note
from gridkeep.runs.artifact_bytes import no_bytes
from gridkeep.settings import Settings, parse_duration
from gridkeep.terminal import printable

_BYTES = 24  # of randomness in a token
_ID = re.compile("shr_[0-9a-z]{26}")
_IN_ADDRESS = re.compile("/s/([^/?#]+)")
_LONGEST = 200  # characters; no token is as long
SHOWN = (ArtifactState.STORED, ArtifactState.GROWING, ArtifactState.PENDING, ArtifactState.MISSING)
_NO_LINK = "There is no such link."
_ASK = "Ask whoever sent it for a fresh one."


@dataclass(frozen=True, slots=True)
class Place:
    """A run; with `experiment` that one of it; with `path` that file or folder of it. `artifact` is set for a file."""

    run: Run
    experiment: Experiment | None = None
    path: bytes | None = None
    artifact: Artifact | None = None

    @property
    def name(self) -> str:
        """For people."""
        name = self.run.name if self.experiment is None else self.experiment.name
        return name if self.path is None else f"{name}:{printable(self.path)}"


def find_place(catalog: Catalog, run: Run, experiment: Experiment | None, path: bytes | None) -> Place:
    """The place of that path. Raises NotFound where nothing is, Conflict for a file without bytes in the store."""
    if experiment is None or not path:
        return Place(run, experiment)
    place = _at(catalog, run, experiment, path.rstrip(b"/"), folder=path.endswith(b"/"))
    if place is None:
        raise NotFound(
            f"{experiment.name} has nothing at {printable(path)}.",
            f"`grid ls {experiment.name}` shows its files.",
        )
    if place.artifact is not None and not place.artifact.downloadable:
        raise no_bytes(place.name, place.artifact)
    return place


# -------------------------------------------------------------------------------------------------------- making, ending


def lifetime(settings: Settings, asked: float | str | None) -> float:
    """Seconds that a link made now lives. Raises GridError for what is no duration, or longer than any link may live."""
    if asked is None:
        return min(settings.share_ttl, settings.share_ttl_max)
    try:
        ttl = parse_duration(asked)
    except ValueError as error:
        raise GridError(f"{error}.", "Write it as in 90m, 24h or 7d.") from None
    if not 0 < ttl <= settings.share_ttl_max:
        days = settings.share_ttl_max / 86400
        raise GridError(
            f"A link lives for more than 0 s and at most {days:g} days.",
            "The setting `share_ttl_max` says so.",
        )
    return ttl


def make_share(catalog: Catalog, place: Place, *, by: str, ttl: float) -> tuple[Share, str]:
    """A new link to that place, and its token, which nobody can be told again. Raises NotFound when it was deleted."""
    token, now = secrets.token_urlsafe(_BYTES), time.time()
    share = Share(
        share_id=f"shr_{new_ulid(now)}",
        digest=digest_of(token),
        run_id=place.run.run_id,
        experiment_id=None if place.experiment is None else place.experiment.experiment_id,
        path=place.path,
        folder=place.path is not None and place.artifact is None,
        created_by=by,
        created_at=now,
        expires_at=now + ttl,
    )
    if not catalog.add_share(share):
        raise NotFound(f"{place.name} was deleted.")
    note(catalog, by, "share.create", share.share_id, of=place.name, expires_at=iso(share.expires_at))
    return share, token


def link(base: str, token: str) -> str:
    """`base` is a server's address without a slash at its end."""
    return f"{base}/s/{token}"


def find_share(catalog: Catalog, word: str) -> Share:
    """By its id, its address or its token. Raises NotFound."""
    word = id_or_token(word)
    share = catalog.share(word) if _ID.fullmatch(word) else _with(catalog, word)
    if share is None:
        raise NotFound(_NO_LINK, "`grid share --list` shows yours.")
    return share


def id_or_token(word: str) -> str:
    """From an address (also of something below the link) its token; what is no address stays."""
    found = _IN_ADDRESS.search(word)
    return found[1] if found else word


def revoke(catalog: Catalog, share: Share, *, by: str) -> Share:
    """Ends it at once; the link as it is then. One that was revoked before stays so."""
    if catalog.revoke_share(share.share_id, now := time.time()):
        note(catalog, by, "share.revoke", share.share_id)
        return replace(share, revoked_at=now)
    return catalog.share(share.share_id) or share


def may_end(caller: Caller, share: Share, run: Run) -> bool:
    """Who made it may, and whoever may change the run."""
    made_it = caller.user == share.created_by and caller.role.allows(Role.WRITE)
    return made_it or caller.may_change(run)


def end_share(catalog: Catalog, word: str, caller: Caller) -> Share:
    """Revokes the link of that id, address or token; as it is then. Raises NotFound, or Forbidden."""
    share = find_share(catalog, word)
    run = catalog.run(share.run_id)
    if run is None:
        raise NotFound(_NO_LINK)
    if not may_end(caller, share, run):
        raise Forbidden(
            f"This link is {share.created_by}'s.", "Only who made it, its run's owner or an admin revokes it."
        )
    return revoke(catalog, share, by=caller.user)


def shares_for(
    catalog: Catalog, caller: Caller, *, run_id: str | None, before: str | None, limit: int
) -> list[Share]:
    """The links that the caller made, and those to the caller's runs (an admin: all), newest first; also those that have
    ended or were revoked. `before`: the share_id after which the page starts."""
    user = None if caller.role is Role.ADMIN else caller.user
    return catalog.shares(user=user, run_id=run_id, before=before, limit=limit)


def share_json(share: Share, run: Run, experiment: Experiment | None) -> JSON:
    """Without the token, which nobody knows any more."""
    return {
        "share_id": share.share_id,
        "scope": share.scope,
        "state": share.state(time.time()),
        "run": run.name,
        "run_id": run.run_id,
        "experiment": None if experiment is None else experiment.name,
        **path_json(share.path),
        "created_by": share.created_by,
        "created_at": iso(share.created_at),
        "expires_at": iso(share.expires_at),
        "revoked_at": iso(share.revoked_at),
        "opens": share.opens,
        "last_opened_at": iso(share.last_opened_at),
    }


# -------------------------------------------------------------------------------------------------------------- opening


def open_share(catalog: Catalog, token: str) -> Share:
    """The link with that token. Raises NotFound where there is none, or what it led to was deleted; Gone when it has ended
    or was revoked."""
    share = _with(catalog, token)
    if share is None:
        raise NotFound(_NO_LINK, "Check that all of it was copied.")
    state = share.state(time.time())
    if state != "live":
        raise Gone("This link was revoked." if state == "revoked" else "This link has ended.", _ASK)
    return share


def top_of(catalog: Catalog, share: Share) -> Place:
    """What a link leads to, as it is now. Raises NotFound when that is not there any more."""
    run = catalog.run(share.run_id)
    experiment = None if share.experiment_id is None else catalog.experiment(share.experiment_id)
    if run is None or (experiment is None and share.experiment_id is not None):
        raise NotFound(_NO_LINK)
    top: Place | None = Place(run, experiment)
    if experiment is not None and share.path is not None:
        top = _at(catalog, run, experiment, share.path, folder=share.folder)
    if top is None:
        raise NotFound("What this link led to was removed by its run.")
    return top


def below(catalog: Catalog, top: Place, path: bytes) -> Place:
    """What lies at that path below what a link leads to; with a slash at its end a folder. Raises NotFound."""
    names = path.removesuffix(b"/").split(b"/")
    found: Place | None = None
    if top.artifact is None and not any(name in (b"", b".", b"..") or b"\0" in name for name in names):
        experiment = top.experiment
        if experiment is None:
            experiment, names = _experiment(catalog, top.run, names[0]), names[1:]
        if experiment is not None and not names:
            found = Place(top.run, experiment)
        elif experiment is not None:
            whole = b"/".join(names if top.path is None else [top.path, *names])
            found = _at(catalog, top.run, experiment, whole, folder=path.endswith(b"/"))
    if found is None:
        raise NotFound(f"This link has nothing at {printable(path)}.")
    return found


def _with(catalog: Catalog, token: str) -> Share | None:
    return catalog.share_with(digest_of(token)) if 0 < len(token) <= _LONGEST else None


def _experiment(catalog: Catalog, run: Run, name: bytes) -> Experiment | None:
    """By name only, and of that run only."""
    text = name.decode("ascii", errors="replace")
    if not text.startswith(f"{run.name}-exp"):
        return None
    found = catalog.experiment(text)
    return found if found is not None and (found.name, found.run_id) == (text, run.run_id) else None


def _at(catalog: Catalog, run: Run, experiment: Experiment, path: bytes, *, folder: bool) -> Place | None:
    """The file at exactly that path, unless only a `folder` is meant; else the folder."""
    ulid = experiment.experiment_id
    if not folder:
        artifact = catalog.artifact_at(ulid, path)
        if artifact is not None and artifact.state in SHOWN:
            return Place(run, experiment, path, artifact)
    inside = catalog.artifacts(ulid, under=path, after=(path + b"/", ""), states=SHOWN, limit=1)
    return Place(run, experiment, path) if inside else None
