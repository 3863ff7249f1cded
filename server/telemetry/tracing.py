"""Spans of our own requests, so that the observatory can be observed like anything else.

Without an SDK the OpenTelemetry API does nothing; :func:`configure` installs one if an endpoint is set. A caller's
``traceparent`` (W3C Trace Context) is honoured, so that the question asked by a panel and the time it took here are one
trace. Receiving telemetry is not traced: a server that exports to itself would never stop.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sanic import Request

from server import __version__

_propagator = TraceContextTextMapPropagator()
RECEIVER = "/v1/"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the HTTP semantic conventions that our own spans follow."""


class OwnSpans:
    """The tracer of request spans; None unless :func:`configure` was given an endpoint."""

    tracer: trace.Tracer | None = None


def configure(endpoint: str) -> TracerProvider | None:
    """Export our own spans over OTLP/HTTP to ``endpoint``; return None (at no cost) if it is empty."""
    if not endpoint:
        OwnSpans.tracer = None
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    service = {"service.name": "llm-observatory", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    OwnSpans.tracer = provider.get_tracer("llm-observatory", __version__, schema_url=SCHEMA_URL)
    return provider


def start_request_span(request: Request) -> Span | None:
    """Start a server span for ``request``, a child of the caller's if it sent one; return None if spans are off."""
    if OwnSpans.tracer is None or request.path.startswith(RECEIVER):
        return None
    offered = request.headers.get("traceparent")
    parent: Context | None = _propagator.extract({"traceparent": offered}) if offered else None
    # The path has no query: filters may hold what a person wrote.
    known = {"http.request.method": request.method, "url.path": request.path, "url.scheme": request.scheme}
    return OwnSpans.tracer.start_span(request.method, context=parent, kind=SpanKind.SERVER, attributes=known)


def finish_request_span(span: Span, method: str, route: str, status: int, request_id: str) -> None:
    """End ``span`` with the name and attributes of the HTTP semantic conventions."""
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {"http.route": route, "http.response.status_code": status, "observatory.request_id": request_id}
        )
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))
    span.end()
