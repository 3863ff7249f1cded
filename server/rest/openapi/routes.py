"""The description of the API and two pages to read it with, which load nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Final

import orjson
from sanic import Blueprint, HTTPResponse, Request, Sanic

from server.errors import catalogue
from server.fairness.off_loop import in_thread
from server.http.guard import public_document
from server.rest.openapi.document import build_document
from server.rest.openapi.static_document import StaticDocument

description = Blueprint("description")

# Everything the pages need comes from this server; nothing inline runs.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
_HTML: Final = "text/html; charset=utf-8"


@description.get("/openapi.json", name="document")
@public_document
async def show_document(request: Request) -> HTTPResponse:
    """Return this description, as OpenAPI 3.1."""
    app = request.app
    if not hasattr(app.ctx, "openapi"):
        # The routes are final before the first request, so this is built once, by whoever comes first.
        app.ctx.openapi = await app.ctx.spared["openapi"].get(lambda: in_thread(lambda: _description_of(app)))
    document: StaticDocument = app.ctx.openapi
    return document.answer(request)


@description.get("/docs", name="explorer")
@public_document
async def show_explorer(request: Request) -> HTTPResponse:
    """Show a page with the description that sends requests from the browser."""
    return _page("explorer.html", _HTML).answer(request)


@description.get("/docs/explorer.js", name="explorer_script")
@public_document
async def show_script(request: Request) -> HTTPResponse:
    """Return the script of that page."""
    return _page("explorer.js", "text/javascript; charset=utf-8").answer(request)


@description.get("/docs/explorer.css", name="explorer_style")
@public_document
async def show_style(request: Request) -> HTTPResponse:
    """Return the style of that page."""
    return _page("explorer.css", "text/css; charset=utf-8").answer(request)


@description.get("/docs/errors", name="errors")
@public_document
async def show_errors(request: Request) -> HTTPResponse:
    """Show every error code: the target of a problem's ``type``."""
    return _page("errors.html", _HTML).answer(request)


def _description_of(app: Sanic[Any, Any]) -> StaticDocument:
    return StaticDocument(orjson.dumps(build_document(app)), "application/json")


@cache
def _page(name: str, content_type: str) -> StaticDocument:
    """Return a page of the folder ``static``, with the rows of the error catalogue where it has a place for them."""
    body = files("server.rest.openapi").joinpath("static", name).read_bytes()
    rows = "".join(
        f'<tr id="{escape(kind.code)}"><td><code>{escape(kind.code)}</code></td><td>{kind.status}</td>'
        f"<td>{escape(kind.title())}.</td></tr>"
        for kind in sorted(catalogue(), key=lambda kind: (kind.status, kind.code))
    )
    return StaticDocument(body.replace(b"<!-- rows -->", rows.encode()), content_type, _PAGE_HEADERS)
