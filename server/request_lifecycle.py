"""What happens round every request: its id, its span, its place in the metrics and the log."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from sanic import Request, Sanic
from sanic.response import BaseHTTPResponse

from server import tracing
from server.observations import RequestFinished, observe

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
UNROUTED = "unrouted"

# Whatever else a caller may think of must not become a label of a metric, which is kept for good.
KNOWN_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "QUERY"})
OTHER_METHOD = "_OTHER"  # OpenTelemetry's word


def install(app: Sanic[Any, Any]) -> None:
    """Follow every request of ``app``."""
    # The id is settled before routing, so that an unknown address has one too.
    app.register_middleware(begin_request, "request", priority=1000)
    app.register_middleware(finish_response, "response", priority=1000)


async def begin_request(request: Request) -> None:
    """Note the arrival and settle the request id: the caller's if well formed, else a new one."""
    request.ctx.started_at = time.perf_counter()
    settle_request_id(request)
    request.ctx.span = tracing.start_request_span(request)


def settle_request_id(request: Request) -> None:
    """Keep the caller's request id if it is well formed, else make one; once a request."""
    if getattr(request.ctx, "request_id", None) is None:
        offered = request.headers.get("x-request-id", "")
        request.ctx.request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


async def finish_response(request: Request, response: BaseHTTPResponse) -> None:
    """Headers that every answer carries, and the observation of the request."""
    request_id = getattr(request.ctx, "request_id", None)
    if request_id is None:  # refused before the first middleware ran
        request_id = request.ctx.request_id = uuid.uuid4().hex
    response.headers["x-request-id"] = request_id
    response.headers.setdefault("x-content-type-options", "nosniff")
    route = request.route
    template = f"/{route.path}" if route is not None else UNROUTED
    principal = getattr(request.ctx, "principal", None)
    observe(
        RequestFinished(
            method=request.method if request.method in KNOWN_METHODS else OTHER_METHOD,
            route=template,
            status=response.status,
            seconds=time.perf_counter() - getattr(request.ctx, "started_at", time.perf_counter()),
            request_id=request_id,
            subject=principal.subject if principal is not None else "",
        )
    )
    span = getattr(request.ctx, "span", None)
    if span is not None:
        tracing.finish_request_span(span, template, response.status, request_id)
