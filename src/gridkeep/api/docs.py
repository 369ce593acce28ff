"""`/docs`: the OpenAPI document as a page. Made by the server, without scripts, with nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gridkeep import __version__

Document = Mapping[str, Any]

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Gridkeep API</title>
<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
h2{font-size:1rem;margin:2rem 0 .2rem}code,h2{font-family:ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top}p{margin:.2rem 0 .6rem}
</style>
"""


@router.get("/docs", response_class=HTMLResponse)
async def page(request: Request) -> Response:
    """Every call, with its parameters."""
    text = _HEAD + "".join(_body(request.app.openapi()))
    return HTMLResponse(text, headers={"content-security-policy": _POLICY})


def _body(document: Document) -> Iterator[str]:
    yield f"<h1>Gridkeep API</h1><p>Version {escape(__version__)}. "
    yield "A key goes into the header <code>x-api-key</code>, or <code>Authorization: Bearer</code>. "
    yield 'For programs: <a href="/openapi.json">openapi.json</a>.</p>'
    for call in calls(document):
        yield f"<h2>{call.method} {escape(call.path)}</h2><p>{escape(call.said)}</p>"
        cells = [
            f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{escape(said)}"
            for name, kind, said in (*call.query, *call.body)
        ]
        if cells:
            yield f"<table>{''.join(cells)}</table>"


# ---------------------------------------------------------------------------------------------------------- the document


Row = tuple[str, str, str]  # name, kind, what it is for


@dataclass(frozen=True, slots=True)
class Described:
    """One call as the document has it."""

    method: str
    path: str
    said: str
    query: list[Row]
    body: list[Row]


def calls(document: Document) -> Iterator[Described]:
    """Every call of an OpenAPI document, in its order."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield Described(
                method.upper(),
                path,
                " ".join(operation.get("description", "").split()),
                list(_query(operation)),
                list(_fields(operation, document)),
            )


def _query(operation: Document) -> Iterator[Row]:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query":
            yield parameter["name"], _kind(parameter["schema"]), parameter.get("description", "")


def _fields(operation: Document, document: Document) -> Iterator[Row]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for name, field in schema.get("properties", {}).items():
            needed = " (needed)" if name in schema.get("required", ()) else ""
            yield name, _kind(field) + needed, field.get("description", "")


def _kind(schema: Document) -> str:
    if "anyOf" in schema:
        return " or ".join(kind for each in schema["anyOf"] if (kind := _kind(each)) != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any"))
