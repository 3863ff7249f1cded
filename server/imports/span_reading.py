"""One row of an export as a span of OTLP in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from server.imports.identifiers import SPAN_DIGITS, TRACE_DIGITS, identifier
from server.imports.import_format import ImportFormat, RowKind
from server.imports.moments import nanoseconds
from server.imports.paths import EMPTY, first_of, flattened, members_below, opened
from server.imports.rows import Record
from server.text.json_text import dumps

TOOL_ATTRIBUTE: Final = "observatory.import.tool"
ID_ATTRIBUTE: Final = "observatory.import.id"
_FIRST_EVENT: Final = "llm.first_token"
_ERROR: Final = 2
_FAILED_FROM: Final = 400
_MESSAGE_LENGTH: Final = 4000


def read_span(table: ImportFormat, kind: RowKind, record: Record, context: Mapping[str, Any]) -> dict[str, Any]:
    """Read the span in ``record``, with the attributes of ``context`` that it lacks.

    Raises ValueError, with a sentence, if a required part is missing or invalid.
    """
    source_trace, source_span = _needed(kind, record, "trace_id"), _needed(kind, record, "span_id")
    trace_id = identifier(source_trace, TRACE_DIGITS, table.ids)
    parent = kind.part(record, "parent_id")
    start = nanoseconds(_needed(kind, record, "start"))
    span: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": identifier(source_span, SPAN_DIGITS, table.ids, within=trace_id),
        "name": str(kind.part(record, "name") or table.title),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(_end(kind, record, start)),
        "attributes": attribute_list({**context, **span_attributes(table, kind, record)}),
    }
    if parent is not None:
        span["parentSpanId"] = identifier(parent, SPAN_DIGITS, table.ids, within=trace_id)
    if _has_failed(kind, record):
        message = kind.part(record, "message")
        span["status"] = {"code": _ERROR, "message": _as_text(message)[:_MESSAGE_LENGTH] if message else ""}
    if events := list(_events(kind, record)):
        span["events"] = events
    return span


def span_attributes(table: ImportFormat, kind: RowKind, record: Record) -> dict[str, Any]:
    """Return the attributes of the span in ``record``, as Python values."""
    found: dict[str, Any] = {TOOL_ATTRIBUTE: table.tool, **kind.constants}
    source_span = kind.part(record, "span_id")
    if source_span is not None:
        found[ID_ATTRIBUTE] = str(source_span)
    for member, prefix in kind.copied.items():
        for name, value in members_below(record, member):
            full = f"{prefix}.{name}" if prefix else name
            found |= dict(flattened(full, value, kind.whole) if kind.flatten else [(full, value)])
    for name, paths in kind.attributes.items():
        value = first_of(record, paths)
        if value is not None and not (name in kind.placeholders and first_of(record, (kind.placeholders[name],))):
            found[name] = value
    for name, rule in kind.otherwise.items():
        value = first_of(record, rule["from"])
        if rule["without"] not in found and value is not None and not _is_zero(value):
            found[name] = value
    for name, rule in kind.only_for.items():
        if str(found.get(name, "")).lower() not in rule["values"]:
            for left_out in rule["attributes"]:
                found.pop(left_out, None)
    return {
        name: value
        for name, value in found.items()
        if value not in EMPTY and not any(name == end or name.endswith(f".{end}") for end in kind.left_out)
    }


def attribute_list(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return ``attributes`` in the form of OTLP."""
    return [{"key": name, "value": _any_value(value)} for name, value in attributes.items()]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if abs(value) < 1 << 63 else {"stringValue": str(value)}
    if isinstance(value, Decimal):
        # As text the number keeps its digits; the mapping reads numbers in texts.
        return {"stringValue": format(value, "f")}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, datetime):
        return {"stringValue": (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
    return {"stringValue": _as_text(value)}


def _is_zero(value: Any) -> bool:
    """Return whether ``value`` is the number 0, or a text of it as in the cells of CSV files."""
    try:
        return not Decimal(str(value))
    except InvalidOperation:
        return False


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value).decode()


def _needed(kind: RowKind, record: Record, part: str) -> Any:
    value = kind.part(record, part)
    if value is None:
        raise ValueError(f"has no {part.replace('_', ' ')}")
    return value


def _end(kind: RowKind, record: Record, start: int) -> int:
    end, duration = kind.part(record, "end"), kind.part(record, "duration_ms")
    if end is not None:
        return nanoseconds(end)
    try:
        return start + int(Decimal(str(duration or 0)) * 1_000_000)
    except ArithmeticError as error:
        raise ValueError(f"{str(duration)[:40]!r} is not a duration") from error


def _has_failed(kind: RowKind, record: Record) -> bool:
    status, http_status = kind.part(record, "status"), kind.part(record, "http_status")
    if (status is not None and str(status) in kind.errors) or kind.part(record, "failure") is not None:
        return True
    return str(http_status).isdigit() and int(str(http_status)) >= _FAILED_FROM


def _events(kind: RowKind, record: Record) -> Iterator[dict[str, Any]]:
    first_token = kind.part(record, "first_token")
    if first_token is not None:
        yield {"name": _FIRST_EVENT, "timeUnixNano": str(nanoseconds(first_token))}
    given = opened(kind.part(record, "events"))
    for event in given if isinstance(given, list) else ():
        moment = first_of(event, ("time_unix_nano", "timestamp")) if isinstance(event, dict) else None
        if moment is not None:
            inner = opened(event.get("attributes")) or {}
            attributes = {name: value for name, value in inner.items() if value not in EMPTY}
            yield {
                "name": str(event.get("name") or ""),
                "timeUnixNano": str(nanoseconds(moment)),
                "attributes": attribute_list(attributes),
            }
