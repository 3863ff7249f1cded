"""The one value that travels from the OTLP decoder to the span writer.

A :class:`SpanRecord` is a span after mapping: every field is a column of ``llm_traces``
(see ``server/schema``), already validated, normalised and priced. Only the project is
missing: the credential decides it, not the telemetry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

JsonValue = Any


@dataclass(slots=True, kw_only=True)
class SpanRecord:
    """One span, ready to be stored.

    Units: durations in milliseconds (µs precision), money in US dollars as ``Decimal``, timestamps as aware UTC
    ``datetime`` with microseconds. Text holds no NUL and no lone surrogate. ``prompt_tokens`` includes cache reads and
    writes, ``completion_tokens`` includes reasoning; ``usage_rule`` names the rule that was applied.
    """

    ts: datetime
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    span_name: str
    span_kind: str = "internal"
    service_name: str | None = None
    service_version: str | None = None
    environment: str = "default"

    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    operation_type: str = "other"
    is_generation: bool = False
    """True for a span whose tokens and money are counted: a call of a model, once however many spans report it, or
    an agent whose calls report nothing."""
    count_rule: int | None = None
    """Why it counts or not: a number of ``count_rules.COUNT_RULES``; None for a span that reports no usage."""
    counted_in: str | None = None
    """The span that counts for the same call, where it is not this one."""
    inherited: dict[str, str] | None = None
    """The parts that were taken from other reports of the call: part (``call_identity.INHERITABLE``) to span id."""
    agent_name: str | None = None
    tool_name: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None

    input_type: str | None = None
    input_text: str | None = None
    input_messages: JsonValue = None
    output_text: str | None = None
    output_messages: JsonValue = None
    finish_reason: str | None = None

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    usage_details: JsonValue = None
    """Counts without a column of their own (``span_usage.DETAIL_SLOTS``, cache writes by lifetime), the service tier,
    and a cost in another currency."""

    prompt_cost_usd: Decimal | None = None
    completion_cost_usd: Decimal | None = None
    total_cost_usd: Decimal | None = None
    cache_savings_usd: Decimal | None = None
    cost_source: str = "none"
    price_version: str | None = None

    duration_ms: float = 0.0
    ttft_ms: float | None = None
    status_code: str = "UNSET"
    error_type: str | None = None
    error_message: str | None = None

    user_id: str | None = None
    session_id: str | None = None
    tags: list[str] = field(default_factory=list)
    attributes: dict[str, JsonValue] = field(default_factory=dict)
    resource_attributes: dict[str, JsonValue] = field(default_factory=dict)
    events: list[dict[str, JsonValue]] = field(default_factory=list)
    links: list[dict[str, JsonValue]] = field(default_factory=list)

    dialect: str = "unknown"
    usage_rule: int | None = None
    dropped: dict[str, JsonValue] | None = None
    """Fields that were cut at a limit: ``{"input_text": {"original_length": 123456}, "events": {"dropped": 72}}``."""
