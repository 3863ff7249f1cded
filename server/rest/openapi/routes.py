"""The description of the API and two pages to read it with, which load nothing from elsewhere."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Final

import orjson
from sanic import Blueprint, HTTPResponse, Request

from server.access.rate_policy import network_of
from server.errors import catalogue
from server.http.client_address import client_address
from server.http.conditional import document_response
from server.http.guard import public
from server.rest.openapi.document import build_document

description = Blueprint("description")

# Everything the pages need comes from this server; nothing inline runs.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@description.get("/openapi.json", name="document")
@public
async def show_document(request: Request) -> HTTPResponse:
    """Return this description, as OpenAPI 3.1."""
    app = request.app
    if not hasattr(app.ctx, "openapi"):
        # The routes are final before the first request, so this is built once.
        app.ctx.openapi = orjson.dumps(build_document(app))
    await _in_turn(request)
    return document_response(request, app.ctx.openapi, "application/json")


@description.get("/docs", name="explorer")
@public
async def show_explorer(request: Request) -> HTTPResponse:
    """Show a page with the description that sends requests from the browser."""
    return await _page(request, _static("explorer.html"), "text/html; charset=utf-8")


@description.get("/docs/explorer.js", name="explorer_script")
@public
async def show_script(request: Request) -> HTTPResponse:
    """Return the script of that page."""
    return await _page(request, _static("explorer.js"), "text/javascript; charset=utf-8")


@description.get("/docs/explorer.css", name="explorer_style")
@public
async def show_style(request: Request) -> HTTPResponse:
    """Return the style of that page."""
    return await _page(request, _static("explorer.css"), "text/css; charset=utf-8")


@description.get("/docs/errors", name="errors")
@public
async def show_errors(request: Request) -> HTTPResponse:
    """Show every error code: the target of a problem's ``type``."""
    rows = "".join(
        f'<tr id="{escape(kind.code)}"><td><code>{escape(kind.code)}</code></td><td>{kind.status}</td>'
        f"<td>{escape(kind.title())}.</td></tr>"
        for kind in sorted(catalogue(), key=lambda kind: (kind.status, kind.code))
    )
    page = _static("errors.html").replace(b"<!-- rows -->", rows.encode())
    return await _page(request, page, "text/html; charset=utf-8")


def _static(name: str) -> bytes:
    return files("server.rest.openapi").joinpath("static", name).read_bytes()


async def _in_turn(request: Request) -> None:
    """Wait if the caller has taken very many documents: they are large, need no credential, and so have no limit."""
    caller, pace = network_of(client_address(request)), request.app.ctx.documents
    pace.count(caller)
    await pace.wait(caller)


async def _page(request: Request, body: bytes, content_type: str) -> HTTPResponse:
    await _in_turn(request)
    response = document_response(request, body, content_type)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
