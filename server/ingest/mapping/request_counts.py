"""Counts the calls of one request once, before its spans are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS, USAGE_HOLDERS
from server.ingest.mapping.call_counting import MOST_VIEWS, ONLY_REPORT, USAGE_WITHOUT_CALL, SpanView, decide_counts
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
    """Decide which of the spans count, trace by trace and return what counts the identity that another report has.

    Traces of which some reports share a response id are looked at together: an instrumentation that does not make its
    span current, round a client that traces itself, makes two traces of one call.
    """
    reports = [record for record in records if record.count_rule is not None]
    if len(reports) < 2:
        return
    group_of = _linked_traces(reports)
    sizes = Counter(group_of.get(record.trace_id, record.trace_id) for record in reports)
    several = {group for group, count in sizes.items() if count > 1}
    if not several:
        return
    groups: dict[str, list[SpanRecord]] = {}
    for record in records:
        group = group_of.get(record.trace_id, record.trace_id)
        if group in several:
            groups.setdefault(group, []).append(record)
    for members in groups.values():
        if not _is_each_alone(members):
            _settle(members)


def _is_each_alone(records: Sequence[SpanRecord]) -> bool:
    """Return whether it is plain that each report is the only one of its call: none is above another, and none has the
    response id of another, or its usage while their scopes or kinds differ. Then what :func:`rule_alone` said of each
    is the decision.
    """
    parents = {record.span_id: record.parent_span_id for record in records}
    reports = [record for record in records if record.count_rule is not None]
    reporting = {record.span_id for record in reports}
    if len(reporting) < len(reports):  # a span that was sent twice
        return False
    seen: set[str] = set()
    for report in reports:
        above = report.parent_span_id
        while above is not None and above not in seen and above in parents:
            if above in reporting:
                return False
            seen.add(above)
            above = parents[above]
    usages = [(record.prompt_tokens, record.completion_tokens) for record in reports if record.total_tokens]
    if len(set(usages)) < len(usages):
        scopes = {record.attributes.get(SCOPE) for record in reports}
        if len(scopes) > 1 or any(record.operation_type not in GENERATION_OPERATIONS for record in reports):
            return False
    responses = [response for record in reports if (response := record.attributes.get(RESPONSE_ID))]
    return len({str(response) for response in responses}) == len(responses)


def _linked_traces(reports: Sequence[SpanRecord]) -> dict[str, str]:
    """Return the traces that share a response id, each with the one that stands for them."""
    by_response: dict[str, set[str]] = {}
    for record in reports:
        response_id = response_id_of(record)
        if response_id:
            by_response.setdefault(response_id, set()).add(record.trace_id)
    leads: dict[str, str] = {}

    def leader(trace_id: str) -> str:
        while leads.setdefault(trace_id, trace_id) != trace_id:
            trace_id = leads[trace_id]
        return trace_id

    for traces in by_response.values():
        if 1 < len(traces) <= MOST_VIEWS:
            first, *others = sorted(traces)
            for trace_id in others:
                leads[leader(trace_id)] = leader(first)
    return {trace_id: leader(trace_id) for trace_id in leads}


def response_id_of(record: SpanRecord) -> str | None:
    """Return the vendor's id of the answer."""
    response_id = record.attributes.get(RESPONSE_ID)
    return response_id if isinstance(response_id, str) else None


def _settle(records: Sequence[SpanRecord]) -> None:
    by_id = {record.span_id: record for record in records}
    decisions = decide_counts(map(_view, records))

    def has(span_id: str, part: str) -> bool:
        record = by_id[span_id]
        # An exported span that is taken in again has what it once took.
        return part not in (record.inherited or ()) and has_part(lambda column: getattr(record, column), part)

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
    return SpanView(
        record.span_id,
        record.parent_span_id,
        start_us,
        start_us + round(record.duration_ms * 1000),
        record.operation_type,
        record.span_kind,
        record.count_rule is not None,
        record.model,
        record.prompt_tokens,
        record.completion_tokens,
        record.total_tokens,
        bool(record.total_cost_usd),
        response_id_of(record),
        record.attributes.get(SCOPE),
        record.cost_source == "reported" and bool(record.total_cost_usd),
    )
