"""One logical span, written in both encodings of OTLP, for the tests of the mapping."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch, MappingLimits
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import decode_traces
from server.ingest.pricing.price_book import PriceBook

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000
SECOND = 1_000_000_000
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Raw(bytes):
    """A bytes attribute."""


def any_value(value: Any) -> dict[str, Any]:
    """Return a Python value as an OTLP AnyValue in the JSON encoding."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        named = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value))
        return {"doubleValue": named or value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes in the JSON encoding."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def event(name: str, at: int = NOW_NS, **values: Any) -> dict[str, Any]:
    """Return a span event in the JSON encoding; ``__`` in names stands for a dot."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    return {"name": name, "timeUnixNano": str(at), "attributes": attributes(named)}


def span(values: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return a good span of two seconds in the JSON encoding, with ``fields`` on top."""
    return {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": str(NOW_NS),
        "endTimeUnixNano": str(NOW_NS + 2 * SECOND),
        "attributes": attributes(values or {}),
        **fields,
    }


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None, scope: str = "") -> dict[str, Any]:
    """Return a request of one resource and one scope in the JSON encoding."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(resource or {})},
                "scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}],
            }
        ]
    }


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def as_protobuf(document: dict[str, Any]) -> bytes:
    """Return the same request in protobuf."""
    message = ExportTraceServiceRequest()
    for group in document["resourceSpans"]:
        out = message.resource_spans.add()
        _fill(out.resource.attributes, group["resource"]["attributes"])
        for scope in group["scopeSpans"]:
            scope_out = out.scope_spans.add()
            scope_out.scope.name = scope["scope"]["name"]
            for item in scope["spans"]:
                target = scope_out.spans.add()
                target.trace_id = bytes.fromhex(item.get("traceId", ""))
                target.span_id = bytes.fromhex(item.get("spanId", ""))
                target.parent_span_id = bytes.fromhex(item.get("parentSpanId", ""))
                target.name, target.kind = item["name"], item["kind"]
                target.start_time_unix_nano = int(item["startTimeUnixNano"])
                target.end_time_unix_nano = int(item["endTimeUnixNano"])
                _fill(target.attributes, item["attributes"])
                for entry in item.get("events", ()):
                    added = target.events.add()
                    added.name, added.time_unix_nano = entry["name"], int(entry["timeUnixNano"])
                    _fill(added.attributes, entry["attributes"])
                for entry in item.get("links", ()):
                    link = target.links.add()
                    link.trace_id, link.span_id = bytes.fromhex(entry["traceId"]), bytes.fromhex(entry["spanId"])
                    _fill(link.attributes, entry.get("attributes", []))
                status = item.get("status", {})
                target.status.code = status.get("code", 0)
                target.status.message = status.get("message", "")
                for name, camel in (
                    ("dropped_attributes_count", "droppedAttributesCount"),
                    ("dropped_events_count", "droppedEventsCount"),
                ):
                    setattr(target, name, item.get(camel, 0))
    return message.SerializeToString()


def _fill(target: Any, pairs: list[dict[str, Any]]) -> None:
    for pair in pairs:
        added = target.add()
        added.key = pair["key"]
        _set(added.value, pair["value"])


def _set(target: Any, value: dict[str, Any]) -> None:
    for kind, content in value.items():
        if kind == "stringValue":
            target.string_value = content
        elif kind == "boolValue":
            target.bool_value = content
        elif kind == "intValue":
            target.int_value = int(content)
        elif kind == "doubleValue":
            target.double_value = float(content)
        elif kind == "bytesValue":
            target.bytes_value = base64.b64decode(content)
        elif kind == "arrayValue":
            target.array_value.SetInParent()
            for item in content["values"]:
                _set(target.array_value.values.add(), item)
        else:
            target.kvlist_value.SetInParent()
            _fill(target.kvlist_value.values, content["values"])


def map_document(
    document: dict[str, Any],
    *,
    window: IngestWindow | None = None,
    limits: MappingLimits | None = None,
    pricing: PriceBook | None = None,
) -> MappedBatch:
    """Map a request in both encodings, check that they agree, and return the result."""
    batches = [
        map_spans(decode_traces(body, content_type), now=NOW, window=window, limits=limits, pricing=pricing)
        for body, content_type in ((as_json(document), JSON), (as_protobuf(document), PROTOBUF))
    ]
    assert batches[0] == batches[1]
    return batches[0]


def map_one(
    values: dict[str, Any] | None = None,
    *,
    resource: dict[str, Any] | None = None,
    scope: str = "",
    limits: MappingLimits | None = None,
    pricing: PriceBook | None = None,
    **fields: Any,
) -> SpanRecord:
    """Return the row of one good span with these attributes."""
    batch = map_document(
        request(span(values, **fields), resource=resource, scope=scope), limits=limits, pricing=pricing
    )
    assert batch.rejected == []
    return batch.records[0]


def usd(text: str) -> Decimal:
    return Decimal(text)
