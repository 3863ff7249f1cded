"""Reasons why a span is not stored, or a value of a span is not used: the codes and their meaning.

The codes go into ``partial_success`` messages, into metrics and into ``dropped``; they name rules, never contents.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "invalid_trace_id": "the trace id is not 16 bytes (32 hex digits), or is all zero",
    "invalid_span_id": "the span id is not 8 bytes (16 hex digits), or is all zero",
    "missing_start_time": "the start time is absent or zero",
    "too_old": "the span started before the ingest window",
    "in_future": "the span starts or ends after the ingest window: check the sender's clock",
    "missing_score": "an evaluation without a name or without a value or label",
}
"""Reasons why a whole span or log record is rejected; the others of its request are stored."""

FIELD_REASONS: dict[str, str] = {
    "not_an_integer": "a token count that is not a whole number",
    "not_a_number": "an amount, time or score that is not a number, or is NaN or infinite",
    "negative": "a count, amount or time below zero",
    "out_of_range": "a value larger than its column can mean",
    "not_a_time": "a time that is not RFC 3339",
    "later_than_end": "a first token more than a second after the end of the span",
    "no_currency_rate": "a cost in a currency of which the project has set no rate; the amount is in usage_details",
    "embedding_vectors": "the answer of an embedding call; vectors are not kept",
    "invalid_parent_span_id": "a parent span id that is not 8 bytes; the span is stored as a root",
    "own_parent": "a span that names itself as its parent; stored as a root",
}
"""Reasons why one value is not used; the span is stored without it and ``dropped`` names column and reason."""
