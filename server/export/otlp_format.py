"""OTLP JSON lines, as the Collector's file exporter writes them: one span in each, and a trailer.

The attributes have the names of OpenTelemetry's conventions where these have one, so that other backends read the file;
what they have no name for is under ``llm_observatory.``. This product takes the file in as it was
(:mod:`server.ingest.mapping.exported_spans`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.export.ndjson_format import TRAILER_KEY
from server.ingest.mapping.exported_spans import (
    COLUMNS,
    EXPORT_SCOPE,
    INPUT_MESSAGES,
    JSON_PREFIX,
    KEPT_PREFIX,
    OUTPUT_MESSAGES,
    RESERVED,
    STATUS_CODES,
    TAGS,
)
from server.ingest.mapping.span_mapping import SPAN_KINDS
from server.ingest.mapping.span_scores import EVALUATION, OWN_NAMES, is_told_by, score_attributes
from server.ingest.mapping.span_times import to_ns
from server.ingest.messages.message_rendering import render_messages
from server.queries.lists.row_layout import Row
from server.text.json_text import dumps

Json = dict[str, Any]

SCOPE_VERSION: Final = "2"
"""Version of the form of the file. Since 2 it has the scores of its spans."""
SCORES: Final = "scores"
"""The key under which rows have their scores (:mod:`server.export.span_scores`)."""
_MOST_LEVELS: Final = 8
"""Receivers refuse deeper nesting of attribute values; see ``server.ingest.otlp``."""
_INT64: Final = range(-(2**63), 2**63)
_MESSAGES: Final = {"input_text": "input_messages", "output_text": "output_messages"}


class OtlpEncoder:
    """Encodes whole spans.

    The trailer is a message without spans, ``{"resourceSpans": [], "export_trailer": {"rows": …, "sha256": …}}``, which
    receivers take for an empty request. Its members are those of NDJSON's.
    """

    def __init__(self, *, trailer: bool, rows_before: int) -> None:
        self._trailer = trailer
        self._rows = rows_before
        self._checksum = hashlib.sha256()
        self.volume = 0

    def begin(self) -> bytes:
        """Return nothing: the first line is a span."""
        return b""

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return a line for each row."""
        lines = b"".join(dumps(_message(row)) + b"\n" for row in rows)
        self._checksum.update(lines)
        self._rows += len(rows)
        self.volume += len(lines)
        return lines

    def end(self) -> Iterator[bytes]:
        """Yield the trailer, or nothing if the encoder was made without one."""
        if not self._trailer:
            return
        trailer = {"rows": self._rows, "sha256": self._checksum.hexdigest()}
        yield dumps({"resourceSpans": [], TRAILER_KEY: trailer}) + b"\n"


def _message(row: Row) -> Json:
    resource = {"attributes": _attributes(row["resource_attributes"] or {})}
    scope = {"name": EXPORT_SCOPE, "version": SCOPE_VERSION}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": [_span(row)]}]}]}


def _span(row: Row) -> Json:
    start = to_ns(row["ts"])
    span: Json = {
        "traceId": row["trace_id"],
        "spanId": row["span_id"],
        "name": row["span_name"],
        "kind": SPAN_KINDS.index(row["span_kind"]),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + round(row["duration_ms"] * 1000) * 1000),
        "attributes": [*_columns(row), *_attributes(row["attributes"] or {}, RESERVED)],
        "status": {"code": STATUS_CODES.index(row["status_code"])},
    }
    if row["parent_span_id"]:
        span["parentSpanId"] = row["parent_span_id"]
    if row["error_message"]:
        span["status"]["message"] = row["error_message"]
    events = [*_events(row)]
    if events:
        span["events"] = events
    if row["links"]:
        span["links"] = [_link(link) for link in row["links"]]
    return span


def _columns(row: Row) -> list[Json]:
    found: dict[str, Any] = {}
    for text, messages in _MESSAGES.items():
        said = row[messages]
        if said and row[text] == render_messages(said):
            row = {**row, text: None}
    for item in COLUMNS:
        value = row[item.column]
        if value is None:
            continue
        if isinstance(value, Decimal):
            value = format(value, "f")
        elif isinstance(value, dict):
            value = dumps(value).decode()
        found[item.attribute] = [value] if item.column == "finish_reason" else value
    for name, messages in ((INPUT_MESSAGES, row["input_messages"]), (OUTPUT_MESSAGES, row["output_messages"])):
        if messages is not None:
            found[name] = dumps(messages).decode()
    if row["tags"]:
        found[TAGS] = list(row["tags"])
    return [{"key": name, "value": _value(value)} for name, value in found.items()]


def _attributes(attributes: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> list[Json]:
    pairs = []
    for name, value in attributes.items():
        if not _has_form(value, _MOST_LEVELS):
            pairs.append({"key": JSON_PREFIX + name, "value": _value(dumps(value).decode())})
        elif name in reserved or name.startswith((KEPT_PREFIX, JSON_PREFIX)):
            pairs.append({"key": KEPT_PREFIX + name, "value": _value(value)})
        else:
            pairs.append({"key": name, "value": _value(value)})
    return pairs


def _has_form(value: Any, levels: int) -> bool:
    match value:
        case bool() | str() | float() | None:
            return True
        case int():
            return value in _INT64
        case list():
            return levels > 0 and all(_has_form(item, levels - 1) for item in value)
        case dict():
            return levels > 0 and all(_has_form(item, levels - 1) for item in value.values())
        case _:
            return False


def _value(value: Any) -> Json:
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [_value(item) for item in value]}}
        case _:
            return {"kvlistValue": {"values": [{"key": key, "value": _value(item)} for key, item in value.items()]}}


def _events(row: Row) -> Iterator[Json]:
    """Yield the events of a span, and its scores as events: one that an event of the span tells is added to that."""
    scores = list(row.get(SCORES, ()))
    for event in row["events"] or ():
        moment = datetime.fromisoformat(event["ts"]) if event.get("ts") else None
        attributes = event.get("attributes") or {}
        told = next(
            (score for score in scores if is_told_by(score, event["name"], attributes, moment or row["ts"])), None
        )
        own: Mapping[str, Any] = {}
        if told is not None:
            scores.remove(told)
            own = score_attributes(told, is_of_sender=True)
        yield _event(event, moment, attributes, own)
    for score in scores:
        yield _event({"name": EVALUATION}, score["ts"], {}, score_attributes(score))


def _event(
    event: Mapping[str, Any], moment: datetime | None, attributes: Mapping[str, Any], own: Mapping[str, Any]
) -> Json:
    told: Json = {"name": event["name"], "attributes": [*_attributes(attributes, OWN_NAMES), *_attributes(own)]}
    if moment is not None:
        told["timeUnixNano"] = str(to_ns(moment))
    if event.get("dropped_attributes_count"):
        told["droppedAttributesCount"] = event["dropped_attributes_count"]
    return told


def _link(link: Mapping[str, Any]) -> Json:
    told = {"traceId": link["trace_id"], "spanId": link["span_id"]}
    return {**told, "traceState": link.get("trace_state", ""), "attributes": _attributes(link.get("attributes") or {})}
