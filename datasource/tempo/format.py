"""Spans in Tempo's form: OTLP protobuf for one trace, strict protobuf-JSON for a search.

Rules learnt from Grafana's converter: every span needs an explicit status, every ScopeSpans a scope, every
ResourceSpans a resource with at least one attribute; otherwise spans are dropped or the converter fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from datasource.tempo.spanset_search import value_of
from datasource.traces.references import drawable
from datasource.traces.span_attributes import (
    Row,
    event_time,
    microseconds,
    plain,
    resource_attributes,
    service_name,
    span_attributes,
)
from server.ingest.otlp.wire_format import write_varint

_KINDS: Final[dict[str, Span.SpanKind.ValueType]] = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
_STATUS: Final[dict[str, Status.StatusCode.ValueType]] = {
    "OK": Status.STATUS_CODE_OK,
    "ERROR": Status.STATUS_CODE_ERROR,
}
SCOPE_NAME: Final = "llm-observatory"


def traces_data(rows: Sequence[Row]) -> bytes:
    """Return one trace as a serialised OTLP ``TracesData``: the body of ``/api/traces/{id}``."""
    by_resource: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in drawable(rows):
        by_resource.setdefault(tuple(resource_attributes(row)), []).append(row)
    data = TracesData(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_key_values(resource)),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=SCOPE_NAME),
                        spans=[_span(row) for row in members],
                    )
                ],
            )
            for resource, members in by_resource.items()
        ]
    )
    return data.SerializeToString()


def trace_by_id(rows: Sequence[Row]) -> bytes:
    """Return the same as a ``TraceByIDResponse`` (field 1, length-delimited): the body of ``/api/v2/traces/{id}``."""
    trace = traces_data(rows)
    return b"\x0a" + write_varint(len(trace)) + trace


def _span(row: Row) -> Span:
    start = microseconds(row["ts"]) * 1000
    return Span(
        trace_id=_id_bytes(row["trace_id"], 16),
        span_id=_id_bytes(row["span_id"], 8),
        parent_span_id=_id_bytes(row["parent_span_id"], 8) if row.get("parent_span_id") else b"",
        name=row["span_name"],
        kind=_KINDS.get(row["span_kind"], Span.SPAN_KIND_UNSPECIFIED),
        start_time_unix_nano=start,
        end_time_unix_nano=start + round(row["duration_ms"] * 1e6),
        attributes=_key_values(span_attributes(row)),
        events=[
            Span.Event(
                time_unix_nano=max(microseconds(event_time(event)) * 1000, 0),
                name=str(event.get("name") or ""),
                attributes=_key_values((event.get("attributes") or {}).items()),
            )
            for event in row.get("events") or ()
        ],
        links=[
            Span.Link(trace_id=_id_bytes(link["trace_id"], 16), span_id=_id_bytes(link["span_id"], 8))
            for link in row.get("links") or ()
            if link.get("trace_id") and link.get("span_id")
        ],
        status=Status(
            code=_STATUS.get(row["status_code"], Status.STATUS_CODE_UNSET), message=str(row.get("error_message") or "")
        ),
    )


def _id_bytes(text: str, size: int) -> bytes:
    """Return the id in OTLP's form; one that is not hexadecimal (only possible for rows from elsewhere) is replaced by
    a hash, the same wherever it occurs.
    """
    try:
        raw = bytes.fromhex(text.zfill(size * 2))
    except ValueError:
        raw = b""
    return raw if len(raw) == size else blake2b(text.encode(), digest_size=size).digest()


def _key_values(pairs: Iterable[tuple[str, Any]]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any_value(plain(value))) for name, value in pairs if value is not None]


def _any_value(value: str | int | float | bool) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(2**63) <= value < 2**63 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)


def search_hit(
    summary: Mapping[str, Any], matched: Sequence[Row], spans_per_set: int, selected: Sequence[str] = ()
) -> dict[str, Any]:
    """Return one trace of a search answer. 64-bit numbers are strings, as in protobuf's JSON."""
    start = microseconds(summary["start_ts"])
    return {
        "traceID": summary["trace_id"],
        "rootServiceName": service_name(summary),
        "rootTraceName": str(summary.get("root_span_name") or ""),
        "startTimeUnixNano": str(start * 1000),
        "durationMs": max(0, (microseconds(summary["end_ts"]) - start) // 1000),
        "spanSets": [
            {
                "matched": len(matched),
                "spans": [_matched_span(row, selected) for row in matched[:spans_per_set]],
            }
        ],
    }


def _matched_span(row: Row, selected: Sequence[str]) -> dict[str, Any]:
    # Every span has every key: Grafana makes a column of each, and columns of different lengths break its table.
    shown = {
        "service.name": service_name(row),
        "gen_ai.response.model": row.get("model") or "",
        "status": row["status_code"].lower(),
        **{name.removeprefix("resource.").removeprefix("span."): _selected(row, name) for name in selected},
    }
    return {
        "spanID": row["span_id"],
        "name": row["span_name"],
        "startTimeUnixNano": str(microseconds(row["ts"]) * 1000),
        "durationNanos": str(round(row["duration_ms"] * 1e6)),
        "attributes": [{"key": key, "value": {"stringValue": str(value)}} for key, value in shown.items()],
    }


def _selected(row: Row, name: str) -> str:
    value = value_of(row, name)
    if value is None:
        return ""
    return value.lower() if name in ("status", "span:status") else str(value)
