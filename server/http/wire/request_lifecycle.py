"""Facts noted about every request, from its head to its answer: id, span, limit, metrics and log line."""

from __future__ import annotations

import random
import re
import time
from types import SimpleNamespace
from typing import Any, Final

from opentelemetry.trace import Span
from sanic import Request
from sanic.response import BaseHTTPResponse

from server.access.principal import Principal
from server.rate_limit.redis_trip import RedisTrip
from server.storage.read_source import ReadSource, read_source
from server.telemetry import tracing
from server.telemetry.observations import RequestFinished, observe_request

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
UNROUTED = "unrouted"

# Any other invented method must not become a label of a metric, which is kept permanently.
KNOWN_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "QUERY"})
OTHER_METHOD = "_OTHER"  # OpenTelemetry's word

ABANDONED: Final = 499
"""Status of a request whose caller went away before the answer: nginx's number, which is in logs and metrics only."""

_LIMIT: Final = "x-ratelimit-limit"


class RequestContext(SimpleNamespace):
    """``request.ctx``: facts that become known about a request on its way."""

    started_at: float
    """When its head had arrived, as ``time.perf_counter()``."""
    request_id: str
    span: Span | None = None
    principal: Principal | None = None
    trip: RedisTrip | None = None
    """Its round trip to Redis, once the caller is known."""
    header_lines: bytes = b""
    """The headers of every answer to the request, as they are sent; known when it is finished."""
    is_finished = False
    is_at_work = False
    """Whether its handler has begun, for any but a stream."""
    known: dict[str, Any]
    """Cache for facts derived from the header lines, kept while the client repeats these on its connection."""


def begin_request(request: Request) -> None:
    """Note the arrival, choose the request id (the caller's if it is well formed, else a new one), begin the span."""
    context = request.ctx
    context.started_at = time.perf_counter()
    read_source.set(ReadSource())
    offered = request.headers.get("x-request-id")
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        context.request_id = offered
    else:
        context.request_id = f"{random.getrandbits(128):032x}"  # it has to be unique, not secret
    if tracing.OwnSpans.tracer is not None:
        context.span = tracing.start_request_span(request)


def finish_request(request: Request, response: BaseHTTPResponse) -> None:
    """Add the headers that every answer carries to ``response``, which is about to be sent, and report the request as
    done.

    Runs once per request: an answer that fails on its way out is replaced by another.
    """
    context = request.ctx
    if context.is_finished:
        return
    context.is_finished = True
    lines = b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % context.request_id.encode()
    if context.trip is not None and _LIMIT not in response.headers:
        lines += context.trip.limit_lines
    context.header_lines = lines
    _report(request, response.status)


def note_abandoned(request: Request) -> None:
    """Report a request as done that has nobody left to answer."""
    if not request.ctx.is_finished:
        request.ctx.is_finished = True
        _report(request, ABANDONED)


def _report(request: Request, status: int) -> None:
    context, route, principal = request.ctx, request.route, request.ctx.principal
    template = f"/{route.path}" if route is not None else UNROUTED
    method = request.method if request.method in KNOWN_METHODS else OTHER_METHOD
    observe_request(
        RequestFinished(
            method=method,
            route=template,
            status=status,
            seconds=time.perf_counter() - context.started_at,
            request_id=context.request_id,
            subject=principal.subject if principal is not None else "",
        )
    )
    if context.span is not None:
        tracing.finish_request_span(context.span, method, template, status, context.request_id)
