"""Mapping of one decoded span to one row: the attribute that fills each column, and the rule.

The order of the steps matters in two places: the provider and the dialect decide the token rule, and the price needs
tokens, model and provider. Everything else is independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from server.ingest.counting.count_rules import AGENT, TOLD_RULES, TOOL, TOOL_CALL, TOOL_RULES, told_operation
from server.ingest.counting.tool_counting import TOOL_NAME, TOOL_TOLD, may_repeat_a_tool
from server.ingest.dialects.canonical_names import (
    GENERATION_OPERATIONS,
    OPERATIONS_WITHOUT_USAGE,
    USAGE_HOLDERS,
)
from server.ingest.dialects.dialect import detect_dialect
from server.ingest.dialects.model_stem import is_embedding_model
from server.ingest.dialects.scope_traits import ScopeTraits, provider_of_scope
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.call_links import RESPONSE_ID
from server.ingest.mapping.exported_spans import EXPORT_SCOPE, restore_span
from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch, MappingLimits, RejectedSpan
from server.ingest.mapping.request_counts import count_calls_once, rule_alone, tool_name_of
from server.ingest.mapping.resource_mapping import MappedResource, MappedScope, map_resource, map_scope
from server.ingest.mapping.response_body import read_body
from server.ingest.mapping.span_content import read_content
from server.ingest.mapping.span_events import NO_FINDINGS, read_conversation, read_events, store_events, store_links
from server.ingest.mapping.span_identity import IdentityCheck, is_identifier, read_session, read_tags
from server.ingest.mapping.span_operation import (
    ENTITY_OPERATIONS,
    FIRST_ENTITY,
    opens_a_stream,
    read_entity,
    read_operation,
    read_provider,
    read_typed_entities,
)
from server.ingest.mapping.span_outcome import read_outcome, read_ttft_ms
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.span_scores import carries_scores, has_scores, scores_of_span, take_scores
from server.ingest.mapping.span_times import begin_as_stated, to_datetime, to_ms
from server.ingest.mapping.span_usage import read_usage
from server.ingest.mapping.stored_attributes import store_attributes
from server.ingest.messages.known_messages import KnownMessages
from server.ingest.otlp.payload import DecodedResource, DecodedSpan, DecodedTraces
from server.ingest.pricing.model_names import provider_of_model
from server.ingest.pricing.price_book import PriceBook

_ROUTED_MODEL = "litellm.provider.model"
"""The model behind a gateway, after its provider."""

SPAN_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


def map_spans(
    decoded: DecodedTraces,
    *,
    now: datetime,
    window: IngestWindow | None = None,
    limits: MappingLimits | None = None,
    pricing: PriceBook | None = None,
) -> MappedBatch:
    """Map every span of a request to a row, or to a rejection with its reason. Never raises for a payload."""
    batch = MappedBatch()
    for _ in mapping_steps(decoded, batch, now=now, window=window, limits=limits, pricing=pricing):
        pass
    return batch


def mapping_steps(
    decoded: DecodedTraces,
    batch: MappedBatch,
    *,
    now: datetime,
    window: IngestWindow | None = None,
    limits: MappingLimits | None = None,
    pricing: PriceBook | None = None,
    known: KnownMessages | None = None,
) -> Iterator[None]:
    """Run :func:`map_spans` in steps of one span, between which an event loop can do other work; fills ``batch``.

    ``known``: the messages of the project that were met before.
    """
    known = KnownMessages() if known is None else known
    limits = limits or MappingLimits()
    pricing = pricing or PriceBook()
    check = IdentityCheck(now, window or IngestWindow())
    index = 0
    mapped: tuple[DecodedResource, MappedResource] | None = None
    for group in decoded.groups:
        if mapped is None or mapped[0] is not group.resource:
            mapped = group.resource, map_resource(group.resource, limits)
            yield
        resource = mapped[1]
        is_exported = carries_scores(group.scope)
        scope = map_scope(group.scope, limits)
        for span in group.spans:
            if scope.traits.seconds_in is not None:
                begin_as_stated(span, scope.traits.seconds_in)
            reason = check.reason(span)
            if reason is None:
                fields = SpanFields(known)
                if is_exported:
                    batch.scores.extend(take_scores(span, fields))
                batch.records.append(map_span(span, fields, scope, resource, limits, pricing))
                if not is_exported and has_scores(span, fields):
                    batch.scores.extend(scores_of_span(span, fields, limits))
            else:
                batch.rejected.append(RejectedSpan(reason, span.span_id[:64], index))
            index += 1
            yield
    count_calls_once(batch.records)
    for record in batch.records:
        if record.is_generation and record.total_cost_usd is None and record.total_tokens:
            batch.unpriced[(record.provider or "", record.model or "")] += 1


def map_span(
    span: DecodedSpan,
    fields: SpanFields,
    scope: MappedScope,
    resource: MappedResource,
    limits: MappingLimits,
    pricing: PriceBook,
) -> SpanRecord:
    """Map one span whose identity and times were checked. ``fields`` is new, and afterwards holds the source of each
    column.
    """
    traits = scope.traits
    if scope.name == EXPORT_SCOPE:
        return _restored(span, fields, resource, limits, pricing)
    fields.collect(span.attributes)
    found = fields.found
    for key, slot in traits.first:
        if key in span.attributes:
            fields.put_first(slot, key, span.attributes[key])
    if FIRST_ENTITY in span.attributes:
        read_typed_entities(fields, span.attributes)
    findings = read_events(span.events, fields) if span.events else NO_FINDINGS
    dialect = detect_dialect(fields.marks, scope.name, span.name, span.attributes)
    duration_ms = _duration_ms(span, fields)

    raw_operation, operation = read_operation(fields, span, traits)
    if operation in GENERATION_OPERATIONS:
        if traits.streams_apart and opens_a_stream(span, fields):
            operation = "chain"
        read_body(fields)
    agent_name, tool_name = read_entity(fields, operation, dialect, span, limits)
    if operation == AGENT and agent_name is None and traits.nameless_agent is not None:
        operation = traits.nameless_agent
    provider = read_provider(fields, span, traits, resource.service_name, limits)
    request_model = fields.take_text("request_model", "request_model", limits.name)
    model = _model(fields, request_model, limits)
    if operation in ("chat", "completion") and model is not None and is_embedding_model(model):
        operation = "embedding"  # some senders have one word for every request
    is_call = operation in GENERATION_OPERATIONS and raw_operation not in OPERATIONS_WITHOUT_USAGE
    ts = to_datetime(span.start_ns)
    usage = read_usage(
        fields,
        dialect=dialect,
        provider=provider,
        model=model,
        ts=ts,
        pricing=pricing if is_call or operation in USAGE_HOLDERS else None,
        ignored=(traits.counted_in_logs and not is_call) or raw_operation in OPERATIONS_WITHOUT_USAGE,
        operation=operation,
        scope=scope.name,
        estimates_cost=traits.estimates_cost,
    )
    if operation == TOOL and may_repeat_a_tool(span, traits):
        count_rule: int | None = TOOL_CALL
        if tool_name is not None:
            fields.rest[TOOL_NAME] = tool_name
    else:
        count_rule = rule_alone(operation, is_call=is_call, has_usage=bool(usage.total_tokens or usage.total_cost_usd))
    if "response_id" in found:
        _read_response_id(fields, limits)
    if "conversation" in found:
        read_conversation(fields)
    content = read_content(fields, limits, operation)
    if operation == "embedding" and content.output_text is not None:
        # The answer is vectors: thousands of numbers that nobody reads or searches.
        content.output_text = content.output_messages = None
        fields.drop("output_text", "embedding_vectors")
    outcome = read_outcome(span, fields, findings, traits, content.finish_reason, limits)
    if outcome.status_code == "ERROR":
        usage.forget_zero_cost()
    session_id = read_session(fields, limits)
    # As keyword arguments, so many columns would cost a tenth of the whole mapping.
    record = SpanRecord(ts=ts, trace_id=span.trace_id, span_id=span.span_id, span_name="")
    record.span_name = _span_name(span, fields, traits, operation, limits)
    record.parent_span_id = _parent(span, fields)
    record.span_kind = SPAN_KINDS[span.kind] if 0 <= span.kind < len(SPAN_KINDS) else SPAN_KINDS[0]
    record.service_name = resource.service_name or fields.take_text("service_name", "service_name", limits.name)
    record.service_version = resource.service_version or fields.take_text(
        "service_version", "service_version", limits.name
    )
    record.environment = _environment(fields, resource, limits)
    if provider is None and is_call:
        provider = _provider_beside(model, fields) or traits.provider or provider_of_scope(scope.name)
    record.provider, record.model, record.request_model = provider, model, request_model
    record.operation_type = operation
    record.is_generation, record.count_rule = count_rule is not None and count_rule != TOOL_CALL, count_rule
    record.agent_name, record.tool_name = agent_name, tool_name
    if "prompt_name" in found or "prompt_version" in found:
        record.prompt_name = fields.take_text("prompt_name", "prompt_name", limits.name)
        record.prompt_version = fields.take_text("prompt_version", "prompt_version", limits.name)
    content.fill(record)
    usage.fill(record)
    record.duration_ms = duration_ms
    record.ttft_ms = read_ttft_ms(span, fields, findings, traits, duration_ms)
    record.status_code, record.error_type = outcome.status_code, outcome.error_type
    record.error_message = outcome.error_message
    if "user_id" in found:
        record.user_id = fields.take_text("user_id", "user_id", limits.identity)
    record.session_id = session_id
    if fields.tags or "tags" in found:
        record.tags = read_tags(fields, limits)
    record.resource_attributes = resource.attributes
    if span.events:
        record.events = store_events(span.events, fields, limits, span.dropped_events_count)
    if span.links:
        record.links = store_links(span.links, fields, limits, span.dropped_links_count)
    record.dialect = dialect
    record.attributes = _attributes(span, scope, fields, limits)
    record.dropped = _dropped(span, fields, resource)
    return record


def _restored(
    span: DecodedSpan, fields: SpanFields, resource: MappedResource, limits: MappingLimits, pricing: PriceBook
) -> SpanRecord:
    """Return the row of a span that this product exported."""
    record = SpanRecord(ts=to_datetime(span.start_ns), trace_id=span.trace_id, span_id=span.span_id, span_name="")
    record.span_name = fields.clean("span_name", span.name, limits.name)
    record.parent_span_id = _parent(span, fields)
    record.span_kind = SPAN_KINDS[span.kind] if 0 <= span.kind < len(SPAN_KINDS) else SPAN_KINDS[0]
    record.duration_ms = _duration_ms(span, fields)
    restore_span(span, record, fields, resource, limits, pricing)
    if record.count_rule in TOLD_RULES:
        _restore_told(record)
    if record.count_rule in TOOL_RULES:
        record.count_rule, record.operation_type, record.tool_name = TOOL_CALL, TOOL, tool_name_of(record)
    elif record.count_rule is not None:  # rows of the first versions have none
        has_usage = bool(record.total_tokens or record.total_cost_usd)
        record.count_rule = rule_alone(record.operation_type, is_call=True, has_usage=has_usage)
        record.is_generation = record.count_rule is not None
    return record


def _restore_told(record: SpanRecord) -> None:
    """Let an agent or a tool be what it told, before another report of it was known."""
    name = tool_name_of(record)
    record.operation_type = told_operation(record.count_rule, record.operation_type)
    if record.operation_type == TOOL:
        record.tool_name, record.count_rule = name, None
        record.attributes.pop(TOOL_TOLD, None)
    elif not (record.total_tokens or record.total_cost_usd):
        record.count_rule = None


def _duration_ms(span: DecodedSpan, fields: SpanFields) -> float:
    """Return end minus start. A clock that ran backwards results in 0 and a mark; a live span has no duration yet."""
    if not span.end_ns:
        return 0.0
    if span.end_ns < span.start_ns:
        fields.rest["observatory.clock_skew"] = True
        return 0.0
    return to_ms(span.end_ns - span.start_ns)


def _parent(span: DecodedSpan, fields: SpanFields) -> str | None:
    parent = span.parent_span_id
    if not parent or parent == "0000000000000000":
        return None
    if parent == span.span_id:
        fields.drop("parent_span_id", "own_parent")
        return None
    if not is_identifier(parent, 16):
        fields.drop("parent_span_id", "invalid_parent_span_id")
        fields.rest["otel.parent_span_id"] = parent
        return None
    return parent


def _span_name(
    span: DecodedSpan, fields: SpanFields, traits: ScopeTraits, operation: str, limits: MappingLimits
) -> str:
    """Return the name as sent. Of an agent or a tool whose name is a template, what the template became: these have few
    values, while other templates are filled with what a user said.
    """
    if span.name:
        if traits.filled_name is not None and operation in ENTITY_OPERATIONS:
            filled = fields.rest.get(traits.filled_name)
            if isinstance(filled, str) and filled:
                return fields.clean("span_name", filled, limits.name)
        return fields.clean("span_name", span.name, limits.name)
    return fields.take_text("span_name", "span_name", limits.name) or ""


def _model(fields: SpanFields, request_model: str | None, limits: MappingLimits) -> str | None:
    """Return the model that answered; else the model as such; else the requested one."""
    answered = fields.take_text("model", "response_model", limits.name)
    if answered is None:
        answered = fields.take_text("model", "model", limits.name)
    else:
        for candidate in fields.candidates("model"):
            if candidate[2] != answered:
                fields.keep(candidate)
    if answered is not None:
        return answered
    if request_model is not None:
        fields.sources["model"] = fields.sources["request_model"]
    return request_model


def _provider_beside(model: str | None, fields: SpanFields) -> str | None:
    """Return the provider in the head of the model's name, as routers write it, or of the name that a gateway calls."""
    routed = fields.rest.get(_ROUTED_MODEL)
    return provider_of_model(model or "") or (provider_of_model(routed) if isinstance(routed, str) else None)


def _read_response_id(fields: SpanFields, limits: MappingLimits) -> None:
    """Keep the vendor's name of the answer as an attribute, under one key whatever the sender called it."""
    response_id = fields.take_text("response_id", "response_id", limits.name)
    if response_id is not None:
        fields.rest[RESPONSE_ID] = response_id


def _environment(fields: SpanFields, resource: MappedResource, limits: MappingLimits) -> str:
    """Return the first name in the order of the alias table, on the span or its resource; the span wins a tie."""
    candidates = fields.found.get("environment")
    if resource.environment and not (
        candidates and any(rank <= resource.environment_rank for rank, _, _ in candidates)
    ):
        fields.sources["environment"] = f"resource {resource.environment_key}"
        return resource.environment
    return (fields.take_text("environment", "environment", limits.name) if candidates else None) or "default"


def _attributes(span: DecodedSpan, scope: MappedScope, fields: SpanFields, limits: MappingLimits) -> dict[str, Any]:
    fields.finish()
    stored, _ = store_attributes(fields.rest, fields, "attributes", limits.attributes, limits.attribute_count, limits)
    stored.update(scope.attributes)
    fields.replaced += scope.replaced
    if scope.dropped:
        fields.dropped.update(scope.dropped)
    if span.trace_state:
        stored["w3c.tracestate"] = fields.clean("attributes", span.trace_state, limits.name)
    return stored


def _dropped(span: DecodedSpan, fields: SpanFields, resource: MappedResource) -> dict[str, Any] | None:
    """Return a record of everything cut, replaced or refused; None if the row is complete."""
    dropped = fields.dropped
    if span.dropped_attributes_count:
        dropped.setdefault("attributes", {})["dropped_by_sender"] = span.dropped_attributes_count
    if span.dropped_events_count and not span.events:
        dropped["events"] = {"dropped_by_sender": span.dropped_events_count}
    if span.dropped_links_count and not span.links:
        dropped["links"] = {"dropped_by_sender": span.dropped_links_count}
    if fields.replaced:
        dropped["characters"] = {"replaced": fields.replaced}
    if resource.dropped:
        dropped.update({f"resource_{name}": note for name, note in resource.dropped.items()})
    return dropped or None
