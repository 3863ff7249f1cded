"""OTLP JSON bodies (opentelemetry-proto, "JSON Protobuf Encoding").

The protobuf library's own JSON parser is not used: it reads hex ids as base64 (24 wrong
bytes, silently), accepts field names OTLP forbids, and accepts ``[]`` as a request.

Accepted: hex ids in either case; enums as numbers or names; 64-bit numbers as
strings or numbers; ``null`` as absent; unknown fields, which are ignored (snake_case names
are unknown fields). Of a repeated key the last one counts, as for a protobuf field sent
twice. Invalid UTF-8 and lone surrogates are replaced (``repair``). Refused, as in protobuf:
bare NaN, values of the wrong type, nesting deeper than the protobuf parser allows.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from server.ingest.otlp.json_pieces import Path, load
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
from server.ingest.otlp.protobuf_format import ValueBudget

JsonObject = dict[str, Any]
G = TypeVar("G")
Item = TypeVar("Item")

_SPAN_KINDS = {
    "SPAN_KIND_UNSPECIFIED": 0,
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_STATUS_CODES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}

_UINT64 = (0, 2**64 - 1)
_INT64 = (-(2**63), 2**63 - 1)
_UINT32 = (0, 2**32 - 1)
_INT32 = (-(2**31), 2**31 - 1)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,19})", re.ASCII)
_DOUBLES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DOUBLE = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)

_SPANS = Path("resourceSpans", "scopeSpans", "spans")
_LOG_RECORDS = Path("resourceLogs", "scopeLogs", "logRecords")

# The depth for attribute values within the protobuf parser's limit of 100 nested messages: a key-value pair and its
# value cost two, each array two more, each key-value list three more.
_DEPTH_LIMIT = 100
_SPAN_DEPTH, _INNER_DEPTH = 2, 3
_ARRAY_COST, _KVLIST_COST = 2, 3


def decode_spans(body: bytes, limits: DecodeLimits) -> list[DecodedSpans]:
    """Return the spans of an ``ExportTraceServiceRequest``. Raises Unreadable, TooLarge."""
    return _groups(body, limits, _SPANS, _span, DecodedSpans)


def decode_log_records(body: bytes, limits: DecodeLimits) -> list[DecodedLogRecords]:
    """Return the records of an ``ExportLogsServiceRequest``. Raises Unreadable, TooLarge."""
    return _groups(body, limits, _LOG_RECORDS, _log, DecodedLogRecords)


def _groups(
    body: bytes,
    limits: DecodeLimits,
    path: Path,
    read_item: Callable[[JsonObject, ValueBudget], Item],
    make_group: Callable[[DecodedResource, DecodedScope, list[Item]], G],
) -> list[G]:
    root = load(body, path, limits)
    if not isinstance(root, dict):
        raise Unreadable("the body is not a JSON object")
    budget = ValueBudget(limits.max_values)
    groups: list[G] = []
    resource_items = _objects(root, path.resources)
    scope_lists = [_objects(item, path.scopes) for item in resource_items]
    if len(resource_items) + sum(map(len, scope_lists)) > limits.max_groups:
        raise TooLarge(f"the request has more than {limits.max_groups} resources and scopes")
    count = 0
    for resource_item, scope_items in zip(resource_items, scope_lists, strict=True):
        resource = _object(resource_item, "resource")
        decoded_resource = DecodedResource(
            _attributes(resource, budget, _SPAN_DEPTH), _number(resource, "droppedAttributesCount", _UINT32)
        )
        for scope_item in scope_items:
            scope = _object(scope_item, "scope")
            items = _objects(scope_item, path.items)
            count += len(items)
            if count > limits.max_spans:
                raise TooLarge(f"the request has more than {limits.max_spans} {path.items}")
            decoded_scope = DecodedScope(
                _text(scope, "name"),
                _text(scope, "version"),
                _attributes(scope, budget, _SPAN_DEPTH),
                _text(scope_item, "schemaUrl") or _text(resource_item, "schemaUrl"),
            )
            groups.append(make_group(decoded_resource, decoded_scope, [read_item(item, budget) for item in items]))
    return groups


def _span(span: JsonObject, budget: ValueBudget) -> DecodedSpan:
    status = _object(span, "status")
    return DecodedSpan(
        _identifier(span, "traceId"),
        _identifier(span, "spanId"),
        _identifier(span, "parentSpanId"),
        _text(span, "name"),
        _enum(span, "kind", _SPAN_KINDS),
        _number(span, "startTimeUnixNano", _UINT64),
        _number(span, "endTimeUnixNano", _UINT64),
        _attributes(span, budget, _SPAN_DEPTH),
        [_event(event, budget) for event in _counted(span, "events", budget)],
        [_link(link, budget) for link in _counted(span, "links", budget)],
        _enum(status, "code", _STATUS_CODES),
        _text(status, "message"),
        _text(span, "traceState"),
        _number(span, "droppedAttributesCount", _UINT32),
        _number(span, "droppedEventsCount", _UINT32),
        _number(span, "droppedLinksCount", _UINT32),
    )


def _event(event: JsonObject, budget: ValueBudget) -> DecodedEvent:
    return DecodedEvent(
        _text(event, "name"),
        _number(event, "timeUnixNano", _UINT64),
        _attributes(event, budget, _INNER_DEPTH),
        _number(event, "droppedAttributesCount", _UINT32),
    )


def _link(link: JsonObject, budget: ValueBudget) -> DecodedLink:
    return DecodedLink(
        _identifier(link, "traceId"),
        _identifier(link, "spanId"),
        _attributes(link, budget, _INNER_DEPTH),
        _text(link, "traceState"),
        _number(link, "droppedAttributesCount", _UINT32),
    )


def _log(record: JsonObject, budget: ValueBudget) -> DecodedLog:
    attributes = _attributes(record, budget, _SPAN_DEPTH)
    event_name = _text(record, "eventName")
    if not event_name and isinstance(attributes.get("event.name"), str):
        event_name = attributes["event.name"]
    body = record.get("body")
    return DecodedLog(
        event_name,
        _number(record, "timeUnixNano", _UINT64) or _number(record, "observedTimeUnixNano", _UINT64),
        _identifier(record, "traceId"),
        _identifier(record, "spanId"),
        _value(_object(record, "body"), budget, 1) if body is not None else None,
        attributes,
        _number(record, "severityNumber", _INT32) if not isinstance(record.get("severityNumber"), str) else 0,
    )


def _wrong(name: str, expected: str) -> Unreadable:
    return Unreadable(f"JSON field {name!r} is not {expected}")


def _object(parent: JsonObject, name: str) -> JsonObject:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object")
    return value


def _objects(parent: JsonObject, name: str) -> list[JsonObject]:
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _wrong(name, "a list of objects")
    return value


def _counted(parent: JsonObject, name: str, budget: ValueBudget) -> list[JsonObject]:
    items = _objects(parent, name)
    budget.spend(len(items))
    return items


def _text(parent: JsonObject, name: str) -> str:
    value = parent.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, "a string")
    return value


def _identifier(parent: JsonObject, name: str) -> str:
    """Return a hex id in lowercase. One that is not hex is kept, so that its span alone is rejected by the mapping."""
    return _text(parent, name).lower()


def _number(parent: JsonObject, name: str, limits: tuple[int, int]) -> int:
    value = parent.get(name)
    return 0 if value is None else _integer(value, name, limits)


def _integer(value: Any, name: str, limits: tuple[int, int]) -> int:
    """Return an integer written as number or string (ProtoJSON also allows 1.0)."""
    if isinstance(value, str):
        # A long number without a leading zero, such as a time, is plain without the pattern, which takes twice as long.
        if (value.isdecimal() and value.isascii() and value[0] >= "1" and len(value) < 20) or _INTEGER.fullmatch(value):
            value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not limits[0] <= value <= limits[1]:
        raise _wrong(name, f"an integer from {limits[0]} to {limits[1]}")
    return value


def _enum(parent: JsonObject, name: str, names: dict[str, int]) -> int:
    """Return an enum from a number or name; an unknown name is an unknown field: absent."""
    value = parent.get(name)
    if isinstance(value, str):
        return names.get(value, 0)
    return 0 if value is None else _integer(value, name, _INT32)


def _attributes(parent: JsonObject, budget: ValueBudget, depth: int, name: str = "attributes") -> Attributes:
    pairs = parent.get(name)
    if pairs is None:
        return {}
    if not isinstance(pairs, list):
        raise _wrong(name, "a list of objects")
    budget.spend(len(pairs))
    result: Attributes = {}
    for pair in pairs:
        if not isinstance(pair, dict):
            raise _wrong(name, "a list of objects")
        key = pair.get("key", "")
        value = pair.get("value")
        if not isinstance(key, str):
            raise _wrong("key", "a string")
        if value is None:
            result[key] = None
        elif not isinstance(value, dict):
            raise _wrong("value", 'an object such as {"stringValue": "text"}')
        else:
            text = value.get("stringValue")
            # A single key with text: nearly every attribute.
            result[key] = text if type(text) is str and len(value) == 1 else _value(value, budget, depth)
    return result


def _value(value: JsonObject, budget: ValueBudget, depth: int) -> AttributeValue:
    """Return an AnyValue. Of several kinds in one object the last known one counts, as in protobuf."""
    if depth > _DEPTH_LIMIT:
        raise Unreadable("an attribute is nested too deeply")
    result: AttributeValue = None
    for kind, content in value.items():
        reader = _VALUE_READERS.get(kind)
        if reader is not None and content is not None:
            result = reader(content, budget, depth)
    return result


def _read_string(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    if not isinstance(content, str):
        raise _wrong("stringValue", "a string")
    return content


def _read_bool(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    if not isinstance(content, bool):
        raise _wrong("boolValue", "true or false")
    return content


def _read_int(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    return _integer(content, "intValue", _INT64)


def _read_double(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    if isinstance(content, str):
        if content in _DOUBLES:
            return _DOUBLES[content]
        if _DOUBLE.fullmatch(content) and not math.isinf(float(content)):
            return float(content)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        return float(content)
    raise _wrong("doubleValue", "a number")


def _read_array(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    if not isinstance(content, dict):
        raise _wrong("arrayValue", "an object with values")
    items = _objects(content, "values")
    budget.spend(len(items))
    if items:
        depth += _ARRAY_COST
    return [_value(item, budget, depth) for item in items]


def _read_kvlist(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    if not isinstance(content, dict):
        raise _wrong("kvlistValue", "an object with values")
    return _attributes(content, budget, depth + _KVLIST_COST, "values")


def _read_bytes(content: Any, budget: ValueBudget, depth: int) -> AttributeValue:
    """Decode base64, standard or URL-safe, padded or not (ProtoJSON), and return it as standard base64."""
    if isinstance(content, str):
        try:
            standard = content.rstrip("=").replace("-", "+").replace("_", "/")
            raw = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
            return base64.b64encode(raw).decode("ascii")
        except ValueError:  # binascii.Error is one, and text beyond ASCII another
            raise _wrong("bytesValue", "base64") from None
    raise _wrong("bytesValue", "base64")


_VALUE_READERS: dict[str, Callable[[Any, ValueBudget, int], AttributeValue]] = {
    "stringValue": _read_string,
    "boolValue": _read_bool,
    "intValue": _read_int,
    "doubleValue": _read_double,
    "arrayValue": _read_array,
    "kvlistValue": _read_kvlist,
    "bytesValue": _read_bytes,
}
