"""An explanation of the mapping of a payload: each column with its value, its attribute and the rule.

Nothing is stored. It answers "why is this column empty", for users and for the support of an unknown dialect.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from server.ingest.counting.call_identity import INHERITABLE
from server.ingest.counting.count_rules import COUNT_RULES
from server.ingest.dialects.attribute_table import attribute_table
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import IngestWindow, MappingLimits
from server.ingest.mapping.rejection import FIELD_REASONS, REASONS
from server.ingest.mapping.request_counts import count_calls_once
from server.ingest.mapping.resource_mapping import MappedResource, map_resource, map_scope
from server.ingest.mapping.span_identity import IdentityCheck
from server.ingest.mapping.span_mapping import map_span
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_times import begin_as_stated
from server.ingest.mapping.span_usage import usage_of
from server.ingest.mapping.token_semantics import USAGE_RULES
from server.ingest.otlp.payload import DecodedResource, DecodedTraces
from server.ingest.pricing.price_book import PriceBook

_FROM_THE_SPAN = {
    "ts": "startTimeUnixNano",
    "trace_id": "traceId",
    "span_id": "spanId",
    "parent_span_id": "parentSpanId",
    "span_name": "name",
    "span_kind": "kind",
    "status_code": "status.code",
    "duration_ms": "endTimeUnixNano - startTimeUnixNano",
    "attributes": "attributes without a column of their own",
    "resource_attributes": "resource attributes",
    "events": "events",
    "links": "links",
}

_RULES = {
    "provider": "canonical provider name",
    "operation_type": "canonical operation; a model without a hint is a chat",
    "is_generation": "count_rule is 1 or 2",
    "inherited": "what this span lacks and another report of the call, or a span above, has",
    "environment": "first name of the alias table, else default",
    "dialect": "first matching rule of dialects/detection.json",
    "input_text": "rendered from the messages",
    "output_text": "rendered from the messages",
    "status_code": "unset: ERROR if an error is told of, OK once ended",
    "ttft_ms": "seconds times 1000, or time of the first token minus start",
    "duration_ms": "never negative",
    "cost_source": "reported wins, then override, then computed",
}


def explain_payload(
    decoded: DecodedTraces,
    *,
    now: datetime,
    window: IngestWindow | None = None,
    limits: MappingLimits | None = None,
    pricing: PriceBook | None = None,
) -> list[dict[str, Any]]:
    """Return one entry per span, in the order sent.

    Of a span that would be stored: ``{"index", "span_id", "stored": true, "dialect", "columns": [{"column", "value",
    "from", "rule"}], "price": {"version", "lines": [{"name", "quantity", "usd_each", "usd"}], "reason"}, "unused":
    [attribute names without a column], "dropped"}``; of one that would be rejected: ``{"index", "span_id", "stored":
    false, "reason", "detail"}``.
    """
    limits = limits or MappingLimits()
    pricing = pricing or PriceBook()
    check = IdentityCheck(now, window or IngestWindow())
    entries: list[dict[str, Any]] = []
    mapped: list[tuple[dict[str, Any], SpanRecord, dict[str, str]]] = []
    known: tuple[DecodedResource, MappedResource] | None = None
    for group in decoded.groups:
        if known is None or known[0] is not group.resource:
            known = group.resource, map_resource(group.resource, limits)
        resource = known[1]
        scope = map_scope(group.scope, limits)
        for span in group.spans:
            if scope.traits.seconds_in is not None:
                begin_as_stated(span, scope.traits.seconds_in)
            entry: dict[str, Any] = {"index": len(entries), "span_id": span.span_id[:64]}
            reason = check.reason(span)
            if reason is not None:
                entry.update(stored=False, reason=reason, detail=REASONS[reason])
            else:
                span_fields = SpanFields()
                record = map_span(span, span_fields, scope, resource, limits, pricing)
                mapped.append((entry, record, span_fields.sources))
            entries.append(entry)
    count_calls_once([record for _, record, _ in mapped])
    for entry, record, sources in mapped:
        entry.update(stored=True, **_explanation(record, sources, pricing))
    return entries


def _explanation(record: SpanRecord, sources: dict[str, str], pricing: PriceBook) -> dict[str, Any]:
    known = attribute_table()
    return {
        "dialect": record.dialect,
        "columns": [_column(field.name, record, sources) for field in fields(SpanRecord) if field.name != "dropped"],
        "price": _price(record, pricing),
        "unused": sorted(key for key in record.attributes if known[key].slot is None),
        "dropped": {
            column: {**note, "detail": FIELD_REASONS[note["reason"]]} if "reason" in note else note
            for column, note in (record.dropped or {}).items()
        },
    }


def _price(record: SpanRecord, pricing: PriceBook) -> dict[str, Any] | None:
    """Return the lines of a computed price, or why there is none; None where the sender reported the cost."""
    if record.cost_source == "reported" or record.count_rule is None:
        return None
    usage, tier = usage_of(lambda column: getattr(record, column))
    quote = pricing.quote(record.provider, record.model, record.ts, usage, tier, itemised=True)
    if quote is None:
        reason = pricing.why_unpriced(record.provider, record.model, record.ts) if record.total_tokens else "no_usage"
        return {"version": None, "lines": [], "reason": reason}
    lines = [
        {"name": line.name, "quantity": line.quantity, "usd_each": line.rate, "usd": line.usd} for line in quote.lines
    ]
    return {"version": quote.version, "lines": lines, "reason": None}


def _column(name: str, record: SpanRecord, sources: dict[str, str]) -> dict[str, Any]:
    value = getattr(record, name)
    part = next((part for part in record.inherited or () if name in INHERITABLE[part]), None)
    source = sources.get(name) if part is None else f"span {(record.inherited or {})[part]}"
    if source is None and value not in (None, [], {}):
        source = _FROM_THE_SPAN.get(name) or _resource_source(name, record)
    return {"column": name, "value": value, "from": source, "rule": _rule(name, record)}


def _resource_source(name: str, record: SpanRecord) -> str | None:
    key = {"service_name": "service.name", "service_version": "service.version"}.get(name)
    return f"resource {key}" if key is not None and key in record.resource_attributes else None


def _rule(name: str, record: SpanRecord) -> str | None:
    if name == "count_rule":
        return f"{record.count_rule}: {COUNT_RULES[record.count_rule]}" if record.count_rule is not None else None
    if name == "usage_rule":
        return f"{record.usage_rule}: {USAGE_RULES[record.usage_rule]}" if record.usage_rule is not None else None
    return _RULES.get(name)
