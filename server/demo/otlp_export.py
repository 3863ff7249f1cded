"""Demo traces as OTLP protobuf, in the form that an SDK's exporter writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server.demo.demo_span import DemoSpan, DemoTrace


def encode(traces: Iterable[DemoTrace]) -> bytes:
    """Return one export request."""
    request = ExportTraceServiceRequest()
    for trace in traces:
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.extend(_attributes(trace.resource))
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = trace.scope
        scope_spans.spans.extend(_span(span) for span in trace.spans)
    return request.SerializeToString()


def _span(span: DemoSpan) -> Span:
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name,
        kind=Span.SPAN_KIND_CLIENT if span.is_client else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_attributes(span.attributes),
        events=[
            Span.Event(name=name, time_unix_nano=at, attributes=_attributes(attributes))
            for name, at, attributes in span.events
        ],
        status=Status(code=Status.STATUS_CODE_OK if span.error is None else Status.STATUS_CODE_ERROR),
    )


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=value)
