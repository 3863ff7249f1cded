"""Inputs of the mapping besides the payload, and its results.

``map_spans`` (``span_mapping``) and ``map_logs`` (``log_mapping``) are pure functions: the clock, the window, the
limits and the prices come in as values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from server.ingest.mapping.span_record import SpanRecord

KIB = 1024


@dataclass(frozen=True, slots=True)
class IngestWindow:
    """The accepted start times, seen from ``now``: neither older than the retention nor from a wrong clock."""

    max_age: timedelta = timedelta(days=90)
    max_future: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MappingLimits:
    """How much of one span is kept. Sizes in bytes of UTF-8; the sum of all parts stays under 1 MiB.

    Parts beyond a limit are cut, and ``SpanRecord.dropped`` names them with their original length.
    """

    input_text: int = 256 * KIB
    input_messages: int = 256 * KIB
    output_text: int = 128 * KIB
    output_messages: int = 128 * KIB
    attribute: int = 16 * KIB
    """One attribute value that has no column, in the span, its resource, an event or a link."""
    attributes: int = 128 * KIB
    """All attributes of a span that have no column; the same for a resource, and for its events together."""
    attribute_count: int = 256
    attribute_key: int = 255
    event_count: int = 128
    link_count: int = 128
    event_attribute_count: int = 64
    name: int = 512
    """Span name, service, model, provider, error type and the like."""
    identity: int = 200
    """User and session."""
    error_message: int = 8 * KIB
    tag_count: int = 50
    tag: int = 200


@dataclass(frozen=True, slots=True)
class RejectedSpan:
    """A span (or log record) that was not mapped. ``reason`` is a code of ``rejection.REASONS``; never contents."""

    reason: str
    span_id: str
    index: int
    """Position in the request, counted over all resources and scopes from 0."""


@dataclass(slots=True, kw_only=True)
class SpanUpdate:
    """Columns that a log record adds to a span that is stored, or will be.

    ``columns`` has names of :class:`SpanRecord` fields. A column that the span itself filled
    keeps its value: a log record only fills what is missing.
    """

    ts: datetime
    """When the record was made; the span starts at or before it."""
    trace_id: str
    span_id: str
    columns: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class ScoreRecord:
    """A judgement of a trace or a span; a row of ``scores`` without its project."""

    score_id: str
    """Derived from its subject and origin, so that a repeated record is the same score."""
    trace_id: str
    span_id: str | None
    name: str
    data_type: str
    """``numeric``, ``boolean`` or ``categorical``."""
    value: float | None
    string_value: str | None
    source: str
    comment: str | None
    ts: datetime
    created_by: str | None = None
    """The evaluator, or the subject of the credential that added the score."""


@dataclass(slots=True)
class MappedBatch:
    """The rows of one request, in the order they were sent."""

    records: list[SpanRecord] = field(default_factory=list)
    rejected: list[RejectedSpan] = field(default_factory=list)
    unpriced: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Model calls with tokens but without a price, by (provider, model)."""
    scores: list[ScoreRecord] = field(default_factory=list)
