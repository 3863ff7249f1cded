"""Counts the calls of one request once, before its spans are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS, USAGE_HOLDERS
from server.ingest.mapping.call_counting import ONLY_REPORT, USAGE_WITHOUT_CALL, SpanView, decide_counts
from server.ingest.mapping.call_identity import columns_of, has_part, inheritance
from server.ingest.mapping.span_record import SpanRecord
from server.text.instants import EPOCH

RESPONSE_ID = "gen_ai.response.id"
SCOPE = "otel.scope.name"
_MICROSECOND = EPOCH.resolution


def rule_alone(operation: str, *, is_call: bool, has_usage: bool) -> int | None:
    """Return the counting rule of a span as long as nothing else of its trace is known, None for one that reports
    nothing.
    """
    if operation in GENERATION_OPERATIONS:
        return ONLY_REPORT if is_call else None
    return USAGE_WITHOUT_CALL if has_usage and operation in USAGE_HOLDERS else None


def count_calls_once(records: Sequence[SpanRecord]) -> None:
    """Decide which of the spans count, trace by trace and return what counts the identity that another report has."""
    reports = Counter(record.trace_id for record in records if record.count_rule is not None)
    several = {trace_id for trace_id, count in reports.items() if count > 1}
    if not several:
        return
    by_trace: dict[str, list[SpanRecord]] = {}
    for record in records:
        if record.trace_id in several:
            by_trace.setdefault(record.trace_id, []).append(record)
    for members in by_trace.values():
        _settle(members)


def _settle(records: Sequence[SpanRecord]) -> None:
    by_id = {record.span_id: record for record in records}
    decisions = decide_counts(map(_view, records))

    def has(span_id: str, part: str) -> bool:
        record = by_id[span_id]
        return has_part(lambda column: getattr(record, column), part)

    taken = {span_id: inheritance(span_id, decision, has) for span_id, decision in decisions.items()}
    for record in records:
        decision = decisions.get(record.span_id)
        if decision is not None:
            record.is_generation, record.count_rule = decision.counts, decision.rule
            record.counted_in = decision.counted_in
    for span_id, parts in taken.items():
        borrower = by_id[span_id]
        for part, lender in parts.items():
            for column in columns_of([part]):
                setattr(borrower, column, getattr(by_id[lender], column))
        borrower.inherited = parts or None


def _view(record: SpanRecord) -> SpanView:
    start_us = (record.ts - EPOCH) // _MICROSECOND
    response_id = record.attributes.get(RESPONSE_ID)
    return SpanView(
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        start_us=start_us,
        end_us=start_us + round(record.duration_ms * 1000),
        operation=record.operation_type,
        kind=record.span_kind,
        reports=record.count_rule is not None,
        model=record.model,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        total_tokens=record.total_tokens,
        has_cost=bool(record.total_cost_usd),
        response_id=response_id if isinstance(response_id, str) else None,
        scope=record.attributes.get(SCOPE),
    )
