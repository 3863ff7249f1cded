"""The envelope of every REST answer.

{"status": "success", "data": …, "pagination": {"cursor", "has_more", "limit"}, "next_cursor": …,
 "meta": {"timestamp", "execution_time_ms", "cached", "version", "request_id"}}
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from server.storage.read_source import read_source
from server.text.json_text import API_VERSION, dumps


def meta(request: Request, *, cached: bool = False, **more: Any) -> dict[str, Any]:
    """Return the ``meta`` block. ``execution_time_ms`` counts from the arrival of the request."""
    source = read_source.get()
    where = {} if source is None else source.meta()
    return {**_own_meta(request), **shared_meta(cached=cached, **where, **more)}


def shared_meta(*, cached: bool, **more: Any) -> dict[str, Any]:
    """Return the part of ``meta`` that is the same for every request with the same answer."""
    return {"cached": cached, "version": API_VERSION, **more}


def meta_text(request: Request, shared: bytes) -> bytes:
    """Return the ``meta`` block in JSON; ``shared`` is that of :func:`shared_meta`."""
    return b"%b,%b" % (orjson.dumps(_own_meta(request), option=orjson.OPT_UTC_Z)[:-1], shared[1:])


def _own_meta(request: Request) -> dict[str, Any]:
    context = request.ctx
    return {
        "timestamp": datetime.now(UTC),
        "execution_time_ms": int((time.perf_counter() - context.started_at) * 1e6) / 1000,
        "request_id": context.request_id,
    }


def success(
    request: Request,
    data: Any,
    *,
    pagination: Mapping[str, Any] | None = None,
    meta_fields: Mapping[str, Any] | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTTPResponse:
    """Return a successful answer.

    If ``data`` is a list, the cursor is also at the top level as ``next_cursor``, where generic clients look for it; it
    is null on the last page and in lists that are never paged, but never missing.
    """
    body: dict[str, Any] = {"status": "success", "data": data}
    if pagination is not None:
        body["pagination"] = dict(pagination)
    if pagination is not None or isinstance(data, list):
        body["next_cursor"] = (pagination or {}).get("cursor")
    body["meta"] = meta(request, **dict(meta_fields or {}))
    return json_response(body, status=status, headers=headers)


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """Return ``body`` as an ``application/json`` answer."""
    return HTTPResponse(dumps(body), status=status, headers=dict(headers or {}), content_type="application/json")
