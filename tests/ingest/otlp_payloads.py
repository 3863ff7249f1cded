"""OTLP requests for tests, in both encodings."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def attribute(key: str, value: Any) -> KeyValue:
    """Return one attribute."""
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def export_request(
    spans: int = 1, *, attributes: dict[str, Any] | None = None, **overrides: Any
) -> ExportTraceServiceRequest:
    """Return a request of ``spans`` model calls in one trace; ``overrides`` are fields of the protobuf Span."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add()
    scope.resource.attributes.append(attribute("service.name", "checkout"))
    members = scope.scope_spans.add()
    trace_id, now = secrets.token_bytes(16), time.time_ns()
    for _ in range(spans):
        values = {
            "trace_id": trace_id,
            "span_id": secrets.token_bytes(8),
            "name": "chat gpt-4o",
            "kind": 3,
            "start_time_unix_nano": now - 2_000_000_000,
            "end_time_unix_nano": now - 1_000_000_000,
        } | overrides
        span = members.spans.add(**values)
        for key, value in (
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o",
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 100,
            }
            | (attributes or {})
        ).items():
            span.attributes.append(attribute(key, value))
    return request


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """Return ``request`` as OTLP JSON: hex ids, where protobuf's own JSON form has base64."""
    document = MessageToDict(request)
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = _hex(span[name])
    return json.dumps(document).encode()


def _hex(base64_text: str) -> str:
    import base64

    return base64.b64decode(base64_text).hex()


def body_of(request: ExportTraceServiceRequest, content_type: str) -> bytes:
    """Return ``request`` in the encoding that ``content_type`` names."""
    return request.SerializeToString() if content_type == PROTOBUF else as_json(request)
