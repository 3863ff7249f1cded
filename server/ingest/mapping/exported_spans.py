"""Spans of an OTLP export of this product, taken in again as they were.

An export names its scope :data:`EXPORT_SCOPE`. Its spans were mapped, priced and redacted once; their attributes are
the row, so nothing is guessed a second time. :data:`COLUMNS` is read in both directions: ``server.export``
writes by it, :func:`restore_span` reads by it. Values are checked and cut as those of any other sender.

Which spans of a trace count is decided again, since an export may have only some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.ingest.counting.call_identity import INHERITABLE
from server.ingest.dialects.canonical_names import OPERATION_TYPES
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.mapping.resource_mapping import MappedResource
from server.ingest.mapping.span_content import read_content
from server.ingest.mapping.span_events import store_events, store_links
from server.ingest.mapping.span_identity import is_identifier
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_usage import usage_of
from server.ingest.mapping.stored_attributes import store_attributes
from server.ingest.messages.coercion import Coerced, cut_text, decode_json, storable, to_number, to_tokens, to_usd
from server.ingest.otlp.payload import Attributes, DecodedSpan
from server.ingest.pricing.price_book import PriceBook

EXPORT_SCOPE: Final = "llm_observatory.export"
KEPT_PREFIX: Final = "llm_observatory.attribute."
"""Before the name of an attribute that would be taken for a column."""
JSON_PREFIX: Final = "llm_observatory.json."
"""Before the name of an attribute whose value has no form in OTLP (a number above 64 bits, deep nesting): JSON text."""
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
STATUS_CODES: Final = ("UNSET", "OK", "ERROR")
_COST_SOURCES: Final = ("reported", "computed", "override", "none")
_LONGEST_DOCUMENT: Final = 16 * 1024

Read = Callable[[Any, int], Coerced]


def _text(value: Any, limit: int) -> Coerced:
    return (cut_text(storable(value)[0], limit)[0], None) if isinstance(value, str) else (None, None)


def _first(value: Any, limit: int) -> Coerced:
    return _text(value[0], limit) if isinstance(value, list) and value else (None, None)


def _tokens(value: Any, limit: int) -> Coerced:
    return to_tokens(value)


def _number(value: Any, limit: int) -> Coerced:
    return to_number(value)


def _flag(value: Any, limit: int) -> Coerced:
    return (value, None) if isinstance(value, bool) else (None, None)


def _rule(value: Any, limit: int) -> Coerced:
    is_rule = isinstance(value, int) and 0 <= value <= limit
    return (value, None) if is_rule else (None, "not_an_integer")


def _usd(value: Any, limit: int) -> Coerced:
    if isinstance(value, str) and value.startswith("-"):  # a cache that cost more than it saved
        amount, reason = to_usd(value[1:])
        return (None if amount is None else -amount), reason
    return to_usd(value)


def _document(value: Any, limit: int) -> Coerced:
    decoded = decode_json(value) if isinstance(value, str) and len(value) <= limit else None
    return (decoded, None) if isinstance(decoded, dict) else (None, None)


@dataclass(frozen=True, slots=True)
class ExportedColumn:
    """One column of a row, the attribute that holds it in an export, and the check of a value that comes back.

    ``read`` receives the value and ``limit``: bytes of a text, or the largest rule.
    """

    column: str
    attribute: str
    read: Read
    limit: int = 0


_LIMITS: Final = MappingLimits()

COLUMNS: Final[tuple[ExportedColumn, ...]] = (
    ExportedColumn("operation_type", "gen_ai.operation.name", _text, 100),
    ExportedColumn("provider", "gen_ai.provider.name", _text, _LIMITS.name),
    ExportedColumn("request_model", "gen_ai.request.model", _text, _LIMITS.name),
    ExportedColumn("model", "gen_ai.response.model", _text, _LIMITS.name),
    ExportedColumn("agent_name", "gen_ai.agent.name", _text, _LIMITS.name),
    ExportedColumn("tool_name", "gen_ai.tool.name", _text, _LIMITS.name),
    ExportedColumn("prompt_name", "gen_ai.prompt.name", _text, _LIMITS.name),
    ExportedColumn("prompt_version", "gen_ai.prompt.version", _text, _LIMITS.name),
    ExportedColumn("finish_reason", "gen_ai.response.finish_reasons", _first, _LIMITS.name),
    ExportedColumn("prompt_tokens", "gen_ai.usage.input_tokens", _tokens),
    ExportedColumn("completion_tokens", "gen_ai.usage.output_tokens", _tokens),
    ExportedColumn("total_tokens", "gen_ai.usage.total_tokens", _tokens),
    ExportedColumn("cached_tokens", "gen_ai.usage.cache_read.input_tokens", _tokens),
    ExportedColumn("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens", _tokens),
    ExportedColumn("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens", _tokens),
    ExportedColumn("user_id", "user.id", _text, _LIMITS.identity),
    ExportedColumn("session_id", "session.id", _text, _LIMITS.identity),
    ExportedColumn("error_type", "error.type", _text, _LIMITS.name),
    ExportedColumn("service_name", "llm_observatory.service_name", _text, _LIMITS.name),
    ExportedColumn("service_version", "llm_observatory.service_version", _text, _LIMITS.name),
    ExportedColumn("environment", "llm_observatory.environment", _text, _LIMITS.name),
    ExportedColumn("ttft_ms", "llm_observatory.ttft_ms", _number),
    ExportedColumn("usage_details", "llm_observatory.usage_details", _document, _LONGEST_DOCUMENT),
    ExportedColumn("cost_source", "llm_observatory.cost_source", _text, 100),
    ExportedColumn("prompt_cost_usd", "llm_observatory.prompt_cost_usd", _usd),
    ExportedColumn("completion_cost_usd", "llm_observatory.completion_cost_usd", _usd),
    ExportedColumn("total_cost_usd", "llm_observatory.total_cost_usd", _usd),
    ExportedColumn("cache_savings_usd", "llm_observatory.cache_savings_usd", _usd),
    ExportedColumn("price_version", "llm_observatory.price_version", _text, _LIMITS.name),
    ExportedColumn("dialect", "llm_observatory.dialect", _text, 100),
    ExportedColumn("usage_rule", "llm_observatory.usage_rule", _rule, 1000),
    ExportedColumn("is_generation", "llm_observatory.is_generation", _flag),
    ExportedColumn("count_rule", "llm_observatory.count_rule", _rule, 1000),
    ExportedColumn("inherited", "llm_observatory.inherited", _document, _LONGEST_DOCUMENT),
    ExportedColumn("dropped", "llm_observatory.dropped", _document, _LONGEST_DOCUMENT),
    ExportedColumn("input_type", "llm_observatory.input_type", _text, 100),
    ExportedColumn("input_text", "llm_observatory.input_text", _text, _LIMITS.input_text),
    ExportedColumn("output_text", "llm_observatory.output_text", _text, _LIMITS.output_text),
)  # fmt: skip
"""Columns that OTLP has no place for. Texts are left out where they are those of the messages."""

TAGS: Final = "llm_observatory.tags"
RESERVED: Final = frozenset({column.attribute for column in COLUMNS} | {TAGS, INPUT_MESSAGES, OUTPUT_MESSAGES})
_COSTS: Final = ("prompt_cost_usd", "completion_cost_usd", "total_cost_usd", "cache_savings_usd", "price_version")
_ONE_OF: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "operation_type": (OPERATION_TYPES, "other"),
    "cost_source": (frozenset(_COST_SOURCES), "none"),
}


def restore_span(
    span: DecodedSpan, record: SpanRecord, fields: SpanFields, resource: MappedResource, limits: MappingLimits,
    pricing: PriceBook,
) -> None:  # fmt: skip
    """Fill ``record``, which has the identity and the times of ``span``, as the export found it.

    A value that its column cannot hold is left out, and ``dropped`` names it. A span whose costs the exporter was not
    allowed to see is priced by ``pricing``.
    """
    exported = span.attributes
    _read_messages(record, fields, exported, limits)
    record.service_name, record.service_version = resource.service_name, resource.service_version
    record.environment = resource.environment or record.environment
    for item in COLUMNS:
        if item.attribute not in exported:
            continue
        value, reason = item.read(exported[item.attribute], item.limit)
        if reason is not None:
            fields.drop(item.column, reason)
        elif value is not None:
            known, other = _ONE_OF.get(item.column, (None, ""))
            setattr(record, item.column, value if known is None or value in known else other)
            fields.sources[item.column] = item.attribute
    tags = [tag for tag in exported[TAGS] if isinstance(tag, str)] if isinstance(exported.get(TAGS), list) else []
    record.tags = [storable(cut_text(tag, limits.tag)[0])[0] for tag in tags[: limits.tag_count]]
    record.error_message = fields.clean("error_message", span.status_message, limits.error_message) or None
    record.status_code = STATUS_CODES[span.status_code] if 0 <= span.status_code < len(STATUS_CODES) else "UNSET"
    record.inherited = _sound_inheritance(record.inherited)
    if "llm_observatory.cost_source" not in exported:
        _price(record, pricing)
    _keep_the_rest(span, record, fields, resource, limits)


def unpacked(attributes: Attributes) -> Attributes:
    """Return the attributes of a span, resource, event or link of an export as they were stored."""
    kept: Attributes = {}
    for key, value in attributes.items():
        if key.startswith(KEPT_PREFIX):
            kept[key[len(KEPT_PREFIX) :]] = value
        elif key.startswith(JSON_PREFIX) and isinstance(value, str):
            try:
                kept[key[len(JSON_PREFIX) :]] = orjson.loads(value)
            except orjson.JSONDecodeError:
                kept[key] = value
        else:
            kept[key] = value
    return kept


def _read_messages(record: SpanRecord, fields: SpanFields, exported: Attributes, limits: MappingLimits) -> None:
    sides = (INPUT_MESSAGES, OUTPUT_MESSAGES)
    fields.collect({name: exported[name] for name in sides if isinstance(exported.get(name), str)})
    content = read_content(fields, limits)
    content.input_type = content.finish_reason = None  # these have columns of their own
    content.fill(record)


def _sound_inheritance(inherited: dict[str, str] | None) -> dict[str, str] | None:
    sound = {
        part: lender
        for part, lender in (inherited or {}).items()
        if part in INHERITABLE and isinstance(lender, str) and is_identifier(lender, 16)
    }
    return sound or None


def _price(record: SpanRecord, pricing: PriceBook) -> None:
    for column in _COSTS:
        setattr(record, column, None)
    usage, tier = usage_of(lambda column: getattr(record, column))
    quote = pricing.quote(record.provider, record.model, record.ts, usage, tier) if record.total_tokens else None
    if quote is not None:
        record.prompt_cost_usd, record.completion_cost_usd = quote.prompt_usd, quote.completion_usd
        record.total_cost_usd, record.cost_source, record.price_version = quote.total_usd, quote.source, quote.version
        if record.cached_tokens or record.cache_write_tokens:
            record.cache_savings_usd = quote.cache_savings_usd


def _keep_the_rest(
    span: DecodedSpan, record: SpanRecord, fields: SpanFields, resource: MappedResource, limits: MappingLimits
) -> None:
    rest = {key: value for key, value in span.attributes.items() if key not in RESERVED}
    # The name of the scope and the like were added to what the limits count.
    room, count = limits.attributes + limits.attribute, limits.attribute_count + 8
    record.attributes, _ = store_attributes(unpacked(rest), fields, "attributes", room, count, limits)
    record.resource_attributes = unpacked(resource.attributes)
    for event in span.events:
        event.attributes = unpacked(event.attributes)
    for link in span.links:
        link.attributes = unpacked(link.attributes)
    record.events = store_events(span.events, fields, limits, span.dropped_events_count)
    record.links = store_links(span.links, fields, limits, span.dropped_links_count)
    record.dropped = {**(record.dropped or {}), **fields.dropped} or None
