"""GET /docs: the routes on one page, made from the OpenAPI schema. No script, nothing from another origin."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse

router = APIRouter()
# a page of its own without scripts; its few styles are in it
CSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
h1{font-size:1.5rem}h2{margin-top:2.2rem;border-bottom:1px solid #d7dee5;text-transform:capitalize}
section{margin:1.2rem 0 1.8rem}h3{font:600 1rem ui-monospace,monospace;margin:0 0 .3rem;overflow-wrap:anywhere}
b{display:inline-block;min-width:3.2rem;color:#0b6b53}p{margin:.3rem 0;white-space:pre-line}
table{border-collapse:collapse;margin:.5rem 0}td{padding:.15rem .9rem .15rem 0;vertical-align:top}
td:first-child{font-family:ui-monospace,monospace}.r{color:#a33}
@media(prefers-color-scheme:dark){body{background:#10171e;color:#dce5ec}h2{border-color:#2b3947}b{color:#5cc8a8}.r{color:#f0928c}}"""


@router.get("/openapi.json", include_in_schema=False)
async def schema(request: Request) -> RedirectResponse:
    """Where programs look for the schema first."""
    return RedirectResponse(request.app.openapi_url)


@router.get("/api/v1/docs", include_in_schema=False)
@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    schema = request.app.openapi()
    parts: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            parts.setdefault(tag, []).append(_route(path, method, operation, _body(schema, operation)))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(routes)}" for tag, routes in parts.items())
    page = (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>API of {escape(schema['info']['title'])}</title><style>{STYLE}</style>"
            f"<h1>API of {escape(schema['info']['title'])}</h1><p>{escape(schema['info']['description'])}</p>"
            "<p>Send a token of `park token create` as `Authorization: Bearer TOKEN`. Errors are problem documents (RFC 9457). "
            f'The schema for programs: <a href="{escape(request.app.openapi_url)}">{escape(request.app.openapi_url)}</a></p>'
            f"{body}</html>")
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


def _body(schema: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """The schema of an operation's JSON body; empty where it takes none."""
    said = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for choice in [said, *said.get("anyOf", [])]:
        if "$ref" in choice:
            found: dict[str, Any] = schema["components"]["schemas"][choice["$ref"].rsplit("/", 1)[1]]
            return found
    return {}


def _route(path: str, method: str, operation: dict[str, Any], body: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(p['name'])}{'<span class=r>*</span>' if p.get('required') else ''}<td>{escape(p['in'])}"
        f"<td>{escape(_type(p.get('schema', {})))}<td>{escape(p.get('description', ''))}"
        for p in operation.get("parameters", []))
    rows += "".join(
        f"<tr><td>{escape(name)}{'<span class=r>*</span>' if name in body.get('required', ()) else ''}<td>body"
        f"<td>{escape(_type(field))}<td>{escape(field.get('description', ''))}"
        for name, field in body.get("properties", {}).items())
    table = f"<table>{rows}</table>" if rows else ""
    return (f"<section><h3><b>{method.upper()}</b> {escape(path)}</h3><p>{escape(operation.get('description', ''))}</p>"
            f"{table}</section>")


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"{_type(schema.get('items', {}))}, repeated"
    default = f" = {schema['default']}" if schema.get("default") not in (None, "") else ""
    return f"{schema.get('type', '')}{default}"
