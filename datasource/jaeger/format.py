"""Spans in the form of Jaeger's query service (Jaeger's HTTP JSON, as Grafana decodes it).

Times and durations are whole microseconds: Grafana's decoder refuses fractions. A trace always has a span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

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

_TYPES: Final = ((bool, "bool"), (int, "int64"), (float, "float64"))


def envelope(data: Any, *, total: int = 0, limit: int = 0, errors: Any = None) -> dict[str, Any]:
    """Return the envelope of every answer."""
    return {"data": data, "total": total, "limit": limit, "offset": 0, "errors": errors}


def jaeger_trace(trace_id: str, rows: Sequence[Row], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return one trace, the root first, because Grafana names a trace of a search after its first span.

    ``rows`` must not be empty: Grafana 12.4 fails on a trace without spans.
    """
    processes: dict[str, dict[str, Any]] = {}
    ids: dict[tuple[tuple[str, Any], ...], str] = {}
    spans = []
    for row in _root_first(drawable(rows)):
        resource = tuple(resource_attributes(row))
        process = ids.setdefault(resource, f"p{len(ids) + 1}")
        if process not in processes:
            tags = [_tag(name, value) for name, value in resource if name != "service.name"]
            processes[process] = {"serviceName": service_name(row), "tags": tags}
        spans.append(_span(row, process))
    return {
        "traceID": trace_id,
        "spans": spans,
        "processes": processes,
        "warnings": list(warnings) or None,
    }


def _root_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the root first: the first row without a parent, else the first whose parent is missing."""
    known = {row["span_id"] for row in rows}

    def distance(row: Row) -> int:
        return 0 if not row.get("parent_span_id") else 1 if row["parent_span_id"] not in known else 2

    return sorted(rows, key=distance)


def _span(row: Row, process: str) -> dict[str, Any]:
    trace_id = row["trace_id"]
    tags = [_tag(name, value) for name, value in span_attributes(row)]
    tags.append(_tag("span.kind", row["span_kind"]))
    tags.append(_tag("otel.status_code", row["status_code"]))
    if row["status_code"] == "ERROR":
        tags.append(_tag("error", True))
        if row.get("error_message"):
            tags.append(_tag("otel.status_description", row["error_message"]))
    return {
        "traceID": trace_id,
        "spanID": row["span_id"],
        "processID": process,
        "operationName": row["span_name"],
        "flags": 1,
        "startTime": microseconds(row["ts"]),
        "duration": round(row["duration_ms"] * 1000),
        "references": list(_references(row)),
        "tags": tags,
        "logs": [_log(event) for event in row.get("events") or ()],
        "warnings": None,
    }


def _references(row: Row) -> Iterable[dict[str, str]]:
    if row.get("parent_span_id"):
        yield {"refType": "CHILD_OF", "traceID": row["trace_id"], "spanID": row["parent_span_id"]}
    for link in row.get("links") or ():
        if link.get("trace_id") and link.get("span_id"):
            yield {"refType": "FOLLOWS_FROM", "traceID": link["trace_id"], "spanID": link["span_id"]}


def _log(event: dict[str, Any]) -> dict[str, Any]:
    fields = [_tag("event", event.get("name") or "event")]
    fields.extend(_tag(name, plain(value)) for name, value in (event.get("attributes") or {}).items())
    return {"timestamp": microseconds(event_time(event)), "fields": fields}


def _tag(key: str, value: Any) -> dict[str, Any]:
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return {"key": key, "type": name, "value": value}
    return {"key": key, "type": "string", "value": str(value)}
