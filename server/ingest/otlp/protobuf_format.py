"""OTLP protobuf bodies: split by the wire format, parsed one span at a time.

Traces, logs and metrics have the same frame (resource, scope, items) with the same field numbers,
so one walk serves both.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from server.ingest.otlp import wire_format
from server.ingest.otlp.message_shape import descriptor_of, shape_of
from server.ingest.otlp.payload import (
    Attributes,
    AttributeValue,
    DecodedEvent,
    DecodedLink,
    DecodedLog,
    DecodedLogRecords,
    DecodedResource,
    DecodedScope,
    DecodedSpan,
    DecodedSpans,
    DecodeLimits,
    TooLarge,
    Unreadable,
)
from server.ingest.otlp.repair import repaired_message

M = TypeVar("M", bound=Message)

# Requests, resources and scopes of traces, logs and metrics have their parts under the same numbers (a test says so).
_REQUEST_FIELD = ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER
_HEAD_FIELD = ResourceSpans.RESOURCE_FIELD_NUMBER
_ITEMS_FIELD = ResourceSpans.SCOPE_SPANS_FIELD_NUMBER
_SCHEMA_FIELD = ResourceSpans.SCHEMA_URL_FIELD_NUMBER

_CLOSE_LOOK_BYTES = 64 * 1024
"""A message smaller than this cannot hold enough empty values to matter in memory."""
_DESCEND_BYTES = 128
_MAX_DEPTH = 100


@dataclass(slots=True)
class _Frame:
    """Positions of the parts of one resource/scope pair in the body."""

    resource: list[tuple[int, int]]
    scope: list[tuple[int, int]]
    items: list[tuple[int, int]]
    schema_url: str = ""


class ValueBudget:
    """Counts the values of one request against ``DecodeLimits.max_values``."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def spend(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            raise TooLarge(f"the request has more than {self.limit} attribute values, events and links")


def decode_spans(body: bytes, limits: DecodeLimits) -> list[DecodedSpans]:
    """Return the spans of an ``ExportTraceServiceRequest``. Raises Unreadable, TooLarge."""
    budget, heads = ValueBudget(limits.max_values), _Heads(body, limits)
    groups = []
    for frame in _frames(body, limits, "spans"):
        spans = [_span(_parse(Span, body, [part], "span", limits), budget) for part in frame.items]
        groups.append(DecodedSpans(*heads.of(frame, budget), spans))
    return groups


def decode_log_records(body: bytes, limits: DecodeLimits) -> list[DecodedLogRecords]:
    """Return the records of an ``ExportLogsServiceRequest``. Raises Unreadable, TooLarge."""
    budget, heads = ValueBudget(limits.max_values), _Heads(body, limits)
    groups = []
    for frame in _frames(body, limits, "log records"):
        records = [_log(_parse(LogRecord, body, [part], "log", limits), budget) for part in frame.items]
        groups.append(DecodedLogRecords(*heads.of(frame, budget), records))
    return groups


def metrics(body: bytes, limits: DecodeLimits) -> Iterator[tuple[Resource, Metric]]:
    """Give the metrics of an ``ExportMetricsServiceRequest``, each with its resource. Raises Unreadable, TooLarge."""
    each = replace(limits, max_fields_per_span=limits.max_values)  # it holds many points
    resource, parts = Resource(), None
    for frame in _frames(body, limits, "metrics"):
        if frame.resource is not parts:
            resource, parts = _parse(Resource, body, frame.resource, "resource", limits), frame.resource
        for part in frame.items:
            yield resource, _parse(Metric, body, [part], "metric", each)


def _frames(body: bytes, limits: DecodeLimits, what: str) -> list[_Frame]:
    """Find and count all items before one is parsed (pre-scan). Empty scopes and resources count as one each."""
    frames: list[_Frame] = []
    max_items = limits.max_spans
    counter = _ItemCounter(max_items + limits.max_groups, f"the request has more than {max_items} {what}")
    for start, end in wire_format.messages(body, 0, len(body), _REQUEST_FIELD):
        counter.add()
        resource, scopes, resource_schema = _head_and_items(body, start, end, counter)
        for scope_start, scope_end in scopes:
            head, items, schema = _head_and_items(body, scope_start, scope_end, counter)
            frames.append(_Frame(resource, head, items, schema or resource_schema))
    if sum(len(frame.items) for frame in frames) > max_items:
        raise TooLarge(counter.message)
    return frames


class _ItemCounter:
    """Caps the pre-scan: at most one scope and one resource per item."""

    def __init__(self, most: int, message: str) -> None:
        self.left = most
        self.message = message

    def add(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TooLarge(self.message)


def _head_and_items(
    body: bytes, start: int, end: int, counter: _ItemCounter
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], str]:
    """Return the positions of the head (resource or scope) and the items (scopes or spans) of a message, and its schema
    URL.
    """
    head: list[tuple[int, int]] = []
    items: list[tuple[int, int]] = []
    schema_url = ""
    for number, wire_type, at, stop in wire_format.fields(body, start, end):
        if number in (_HEAD_FIELD, _ITEMS_FIELD):
            if wire_type != wire_format.LENGTH:
                raise Unreadable("a protobuf field has the wrong wire type")
            counter.add()
            (head if number == _HEAD_FIELD else items).append((at, stop))
        elif number == _SCHEMA_FIELD and wire_type == wire_format.LENGTH:
            schema_url = body[at:stop].decode("utf-8", "replace")
    return head, items, schema_url


class _Heads:
    """Reads the resource and the scope of each frame. Frames of one resource share what was read of it: otherwise a
    large resource with many scopes would be read, and held, once for each."""

    def __init__(self, body: bytes, limits: DecodeLimits) -> None:
        self._body = body
        self._limits = limits
        self._last: tuple[list[tuple[int, int]], DecodedResource] | None = None

    def of(self, frame: _Frame, budget: ValueBudget) -> tuple[DecodedResource, DecodedScope]:
        """Return the resource and the scope of ``frame``."""
        if self._last is None or self._last[0] is not frame.resource:
            resource = _parse(Resource, self._body, frame.resource, "resource", self._limits)
            attributes = _attributes(resource.attributes, budget)
            self._last = frame.resource, DecodedResource(attributes, resource.dropped_attributes_count)
        scope = _parse(InstrumentationScope, self._body, frame.scope, "scope", self._limits)
        attributes = _attributes(scope.attributes, budget)
        return self._last[1], DecodedScope(scope.name, scope.version, attributes, frame.schema_url)


def _parse(kind: type[M], body: bytes, parts: list[tuple[int, int]], name: str, limits: DecodeLimits) -> M:
    """Parse one message. Several parts of one singular field merge, as if their bytes were joined."""
    data = body[parts[0][0] : parts[0][1]] if len(parts) == 1 else b"".join(body[start:end] for start, end in parts)
    if len(data) > _CLOSE_LOOK_BYTES:
        _count_fields(data, descriptor_of(kind), name, limits.max_fields_per_span)
    try:
        return kind.FromString(data)
    except ProtobufError:
        pass
    try:
        return kind.FromString(repaired_message(data, descriptor_of(kind)))
    except ProtobufError as error:
        raise Unreadable(f"a {name} is not valid protobuf (cut, or nested too deeply)") from error


def _count_fields(data: bytes, kind: Descriptor, name: str, limit: int) -> None:
    """Refuse a message with more fields than ``limit``, however they are nested."""
    used = 0
    pending: list[tuple[int, int, Descriptor, int]] = [(0, len(data), kind, 0)]
    while pending:
        start, end, part, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise Unreadable(f"a {name} is nested too deeply")
        parts = shape_of(part).messages
        for number, wire_type, at, stop in wire_format.fields(data, start, end):
            used += 1
            if used > limit:
                raise TooLarge(f"a {name} has more than {limit} fields")
            if stop - at > _DESCEND_BYTES and wire_type == wire_format.LENGTH and number in parts:
                pending.append((at, stop, parts[number], depth + 1))


def _span(span: Span, budget: ValueBudget) -> DecodedSpan:
    status = span.status
    return DecodedSpan(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes, budget),
        list(_events(span, budget)) if span.events else [],
        list(_links(span, budget)) if span.links else [],
        status.code,
        status.message,
        span.trace_state,
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
    )


def _events(span: Span, budget: ValueBudget) -> Iterator[DecodedEvent]:
    budget.spend(len(span.events))
    for event in span.events:
        yield DecodedEvent(
            event.name, event.time_unix_nano, _attributes(event.attributes, budget), event.dropped_attributes_count
        )


def _links(span: Span, budget: ValueBudget) -> Iterator[DecodedLink]:
    budget.spend(len(span.links))
    for link in span.links:
        yield DecodedLink(
            link.trace_id.hex(),
            link.span_id.hex(),
            _attributes(link.attributes, budget),
            link.trace_state,
            link.dropped_attributes_count,
        )


def _log(record: LogRecord, budget: ValueBudget) -> DecodedLog:
    attributes = _attributes(record.attributes, budget)
    return DecodedLog(
        record.event_name or _text(attributes.get("event.name")),
        record.time_unix_nano or record.observed_time_unix_nano,
        record.trace_id.hex(),
        record.span_id.hex(),
        _value(record.body, budget),
        attributes,
        record.severity_number,
    )


def _text(value: AttributeValue) -> str:
    return value if isinstance(value, str) else ""


def _attributes(pairs: Any, budget: ValueBudget) -> Attributes:
    """Return key-value pairs as a dict; of a repeated key the last one counts."""
    budget.spend(len(pairs))
    result: Attributes = {}
    for pair in pairs:
        value = pair.value
        # Most values are text or whole numbers, and reading those directly costs half of WhichOneof.
        result[pair.key] = value.string_value or value.int_value or _value(value, budget)
    return result


def _value(value: Any, budget: ValueBudget) -> AttributeValue:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        items = value.array_value.values
        budget.spend(len(items))
        return [_value(item, budget) for item in items]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values, budget)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode("ascii")
    return getattr(value, kind)
