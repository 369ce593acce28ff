"""Starting runs: a script with its source, sent before; and, once there is one, the browser."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from gridkeep.api.auth import NotLetIn, Writer
from gridkeep.api.content import disposition
from gridkeep.api.multipart import FileOfForm
from gridkeep.api.shapes import run_shape
from gridkeep.api.site import site_of
from gridkeep.errors import Forbidden, GridError
from gridkeep.model import JSON
from gridkeep.runs.bundle import unpack
from gridkeep.runs.submit import Request as Submission
from gridkeep.runs.submit import submit
from gridkeep.runs.uploads import PREFIX, Incoming, find_upload
from gridkeep.settings import parse_size

router = APIRouter(tags=["start"])

Word = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]

# What of the server's own environment a script gets; its keys and credentials are not among it.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")


def _size(text: str) -> str:
    parse_size(text)
    return text


class Script(BaseModel):
    """A run of a script: what `grid run` takes, by the same names."""

    model_config = ConfigDict(extra="forbid")

    command: Word = Field(min_length=1, description="A .py or .sh file of the source, or a command of PATH.")
    args: list[Word] = Field(default=[], max_length=10_000)
    source: str | None = Field(
        None, max_length=200, description="An upload: an archive of the script's folder."
    )
    name: str | None = Field(None, max_length=100)
    cluster: str | None = Field(None, max_length=100)
    strategy: Literal["grid_search", "random_search", "none"] | None = None
    num_trials: int | None = Field(None, ge=1, le=10**6)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    parallel: int | None = Field(None, ge=1, le=10**6)
    cpus: float | None = Field(None, gt=0, le=10**6)
    gpus: int | None = Field(None, ge=0, le=10**6)
    memory: Annotated[str, Field(max_length=30), AfterValidator(_size)] | None = None
    env: dict[Name, Word] = Field(default={}, max_length=1000)
    inputs: list[Word] = Field(default=[], max_length=1000)
    auto_resume: bool | None = None
    timeout: float | None = Field(None, gt=0, le=10**9, description="Seconds.")
    exclude: list[Word] = Field(default=[], max_length=1000)
    capture: bool = True


class Task(BaseModel):
    """A browser run, as Skyvern's client asks for it; more fields are taken and have no effect yet."""

    prompt: Word
    url: str | None = Field(None, max_length=10_000)
    max_steps: int | None = Field(None, ge=1, le=10_000)
    title: str | None = Field(None, max_length=1000)
    data_extraction_schema: dict[str, Any] | list[Any] | str | None = None


@router.post("/v1/run/scripts", status_code=201)
def run_script(call: Writer, script: Script) -> JSON:
    """Starts a run, as its caller's; its own source, sent to `/v1/upload_file` as a tar or ZIP, is where it starts."""
    context = replace(call.context, user=call.user)
    os.makedirs(context.home.uploads, mode=0o700, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".source-", dir=context.home.uploads)
    try:
        tree = os.path.join(folder, "source")
        if script.source is None:
            os.mkdir(tree)
        else:
            upload = find_upload(context.home, script.source)
            if upload.owner != call.user:
                raise Forbidden(f"The upload {upload.upload_id} is another's.", "Send the file yourself.")
            unpack(upload.content, tree, context.settings.copy_limit)
        asked = script.model_dump(exclude={"command", "source"})
        submitted = submit(
            context, Submission(script=script.command, cwd=tree, environ=_environment(), **asked)
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run = call.catalog.run(submitted.run.run_id)
    return run_shape(run or submitted.run, call.base_url) | {"notes": submitted.notes}


@router.post("/v1/run/tasks", responses={501: {"description": "There is no browser here."}})
def run_task(call: Writer, task: Task) -> Response:
    """Starts a browser run."""
    said = "Browser runs need the extra `gridkeep[browser]`, which is not installed on this server."
    hint = "It comes with a later version: install it where the server runs, with `pip install 'gridkeep[browser]'`."
    return JSONResponse({"detail": said, "hint": hint}, 501)


# -------------------------------------------------------------------------------------------------------------- uploads


@router.post(
    "/v1/upload_file",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                }
            },
        }
    },
)
async def upload_file(call: Writer, request: Request) -> JSON:
    """A file for a run's input: the part `file` of a form. It is kept for a week."""
    home, limit = call.context.home, call.context.settings.upload_limit
    with await run_in_threadpool(Incoming, home, limit) as incoming:
        form = FileOfForm(request.headers.get("content-type", ""), incoming.write)
        try:
            async for piece in request.stream():
                await run_in_threadpool(form.feed, piece)
        except ClientDisconnect:
            raise GridError("The file is cut off.") from None
        name = form.end()
        upload = await run_in_threadpool(lambda: incoming.finish(owner=call.user, filename=name))
    expires = math.ceil(time.time() + call.site.links.ttl())
    signature = call.site.links.signer.secret().sign(_message(upload.upload_id, str(expires)))
    address = f"{call.base_url}/v1/uploads/{upload.upload_id}?expires={expires}&signature={signature}"
    return {
        "s3_uri": f"{PREFIX}{upload.upload_id}",
        "presigned_url": address,
        "upload_id": upload.upload_id,
        "filename": upload.filename,
        "file_size": upload.size,
        "checksum": upload.sha256,
    }


@router.get("/v1/uploads/{upload_id}", response_class=Response)
def uploaded(
    request: Request,
    upload_id: str,
    expires: Annotated[str, Query(max_length=20)] = "",
    signature: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """The file again, by the `presigned_url` that its sending gave."""
    site = site_of(request)
    if not signature:
        raise NotLetIn(tried=False)
    if not site.links.signer.verify(_message(upload_id, expires), signature) or int(expires) <= time.time():
        raise Forbidden("This URL was changed, or has ended.", "Send the file again.")
    upload = find_upload(site.context.home, upload_id)
    headers = {"content-disposition": disposition("attachment", upload.filename.encode(errors="replace"))}
    return FileResponse(upload.content, media_type="application/octet-stream", headers=headers)


def _message(upload_id: str, expires: str) -> str:
    return f"upload\n{upload_id}\n{expires}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
