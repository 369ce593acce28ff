"""What can be shown of an artifact: a bounded look at its first bytes, whatever it is."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from gridkeep.api.auth import Reader
from gridkeep.api.content import cluster_of, opened
from gridkeep.api.lookup import the_artifact
from gridkeep.api.shapes import mime_type_of
from gridkeep.errors import StoreError
from gridkeep.model import JSON
from gridkeep.preview.render import PREFIX, preview_of
from gridkeep.runs.artifact_bytes import no_bytes

router = APIRouter(tags=["artifacts"])


@router.get("/v1/artifacts/{artifact_id}/preview", response_model=None, responses={200: {"model": JSON}})
def preview(call: Reader, artifact_id: str) -> Response:
    """What its first 128 KiB show. `kind` is `text` or `json` (with `text`), `table` (with `rows`), `image` (with `width`
    and `height`), `video`, `audio`, `pdf`, or `none`; `cut` says that there is more. What a browser may load to show it by
    itself has a `signed_url`, and what is not shown a `reason`."""
    artifact = the_artifact(call.catalog, artifact_id)
    if artifact.sha256 is None or artifact.size is None:
        raise no_bytes(artifact_id, artifact)
    cluster, end = cluster_of(call.site, artifact), min(artifact.size, PREFIX)
    prefix = b"".join(opened(call.context, cluster, artifact, 0, end)) if end else b""
    whole = end == artifact.size
    if len(prefix) != end or (whole and hashlib.sha256(prefix).hexdigest() != artifact.sha256):
        raise StoreError(
            "The bytes of the object are not those that were recorded.", "`grid verify` says more."
        )
    media = mime_type_of(artifact.path)
    shown = asdict(preview_of(prefix, size=artifact.size, media=media or ""))
    url = None
    if shown.pop("drawn"):
        links, store = call.site.links, call.context.store(cluster)
        [url] = links.sign(store, [artifact], base=call.base_url, ttl=links.ttl())
    shape = {
        "artifact_id": artifact_id,
        "mime_type": media,
        "file_size": artifact.size,
        **shown,
        "signed_url": url,
    }
    return Response(orjson.dumps(shape), media_type="application/json")
