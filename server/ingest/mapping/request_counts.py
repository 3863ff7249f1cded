"""Counts the calls of one request once, and lends them the user of the spans above, before they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from server.ingest.counting.call_counting import MOST_LINKED, MOST_VIEWS, decide_counts
from server.ingest.counting.call_identity import Ancestry, columns_of, has_part, inheritance, kept_inheritance
from server.ingest.counting.count_rules import (
    ONLY_REPORT,
    TOLD_RULES,
    TOOL,
    TOOL_RULES,
    TOOL_TOLD_TWICE,
    USAGE_WITHOUT_CALL,
    Decision,
    SpanView,
    entity_columns,
    told_operation,
    usages_told,
)
from server.ingest.counting.told_twice import ENTITIES
from server.ingest.counting.tool_counting import TOOL_NAME, TOOL_TOLD
from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS, USAGE_HOLDERS
from server.ingest.mapping.call_links import RESPONSE_ID, SCOPE, moments_of, response_id_of
from server.ingest.mapping.span_record import SpanRecord
from server.text.instants import EPOCH

_MICROSECOND = EPOCH.resolution


def rule_alone(operation: str, *, is_call: bool, has_usage: bool) -> int | None:
    """Return the counting rule of a span as long as nothing else of its trace is known, None for one that reports
    nothing.
    """
    if operation in GENERATION_OPERATIONS:
        return ONLY_REPORT if is_call else None
    return USAGE_WITHOUT_CALL if has_usage and operation in USAGE_HOLDERS else None


def count_calls_once(records: Sequence[SpanRecord]) -> None:
    """Decide which of the spans count, trace by trace, and give those that count the identity that another report, or
    a span above, has.

    Traces of which some reports share a response id are looked at together: an instrumentation that does not make its
    span current, round a client that traces itself, makes two traces of one call.
    """
    reports = [record for record in records if record.count_rule is not None]
    settled: set[str] = set()
    for members in _groups_of_several(records, reports):
        if not _is_each_alone(members):
            _settle(members)
            settled.update(record.trace_id for record in members)
    _lend_below(records, [record for record in reports if record.is_generation and record.trace_id not in settled])


def _groups_of_several(records: Sequence[SpanRecord], reports: Sequence[SpanRecord]) -> Iterable[Sequence[SpanRecord]]:
    """Return the spans of the traces, or of the linked traces, that hold more than one report."""
    tools = {record.trace_id for record in reports if record.count_rule in TOOL_RULES and record.parent_span_id}
    entities = [record for record in records if record.operation_type in ENTITIES]
    if len(reports) < 2 and len(entities) < 2 and not tools:
        return ()
    group_of = _linked_traces(records, reports)
    sizes = Counter(group_of.get(record.trace_id, record.trace_id) for record in reports)
    several = {group for group, count in sizes.items() if count > 1}
    several.update(group_of.get(trace_id, trace_id) for trace_id in tools)
    scopes: dict[str, Any] = {}
    for record in entities:
        group, scope = group_of.get(record.trace_id, record.trace_id), record.attributes.get(SCOPE)
        if scopes.setdefault(group, scope) != scope:
            several.add(group)
    if not several:
        return ()
    groups: dict[str, list[SpanRecord]] = {}
    for record in records:
        group = group_of.get(record.trace_id, record.trace_id)
        if group in several:
            groups.setdefault(group, []).append(record)
    return groups.values()


def _lend_below(records: Sequence[SpanRecord], reports: Sequence[SpanRecord]) -> None:
    """Give each of ``reports``, which all count, what it lacks of the identity of the spans above it."""
    below = [record for record in reports if record.parent_span_id is not None]
    if not below:
        return
    lending = {
        record.trace_id for record in records if record.user_id or record.session_id or record.tags or record.agent_name
    }
    borrowers: dict[str, list[SpanRecord]] = {}
    for record in below:
        if record.trace_id in lending and not (
            record.user_id and record.session_id and record.tags and record.agent_name
        ):
            borrowers.setdefault(record.trace_id, []).append(record)
    if not borrowers:
        return
    members: dict[str, list[SpanRecord]] = {}
    for record in records:
        if record.trace_id in borrowers:
            members.setdefault(record.trace_id, []).append(record)
    for trace_id, spans in members.items():
        _inherit(spans, {record.span_id: Decision(True, ONLY_REPORT) for record in borrowers[trace_id]})


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
        if report.count_rule in TOOL_RULES and report.parent_span_id in parents:
            return False
        above = report.parent_span_id
        while above is not None and above not in seen and above in parents:
            if above in reporting:
                return False
            seen.add(above)
            above = parents[above]
    usages = [
        usage
        for record in reports
        if record.total_tokens
        for usage in usages_told(
            record.prompt_tokens,
            record.completion_tokens,
            (record.cached_tokens or 0) + (record.cache_write_tokens or 0),
        )
    ]
    if len(set(usages)) < len(usages):
        scopes = {record.attributes.get(SCOPE) for record in reports}
        if len(scopes) > 1 or any(record.operation_type not in GENERATION_OPERATIONS for record in reports):
            return False
    if _has_silent_call_or_sum(reports) or _has_several_tellers(records):
        return False
    responses = [response for record in reports if (response := record.attributes.get(RESPONSE_ID))]
    return len({str(response) for response in responses}) == len(responses)


def _has_several_tellers(records: Sequence[SpanRecord]) -> bool:
    """Return whether agents, or tools, are told by several scopes."""
    scopes: dict[str, Any] = {}
    for record in records:
        if record.operation_type in ENTITIES:
            scope = record.attributes.get(SCOPE)
            if scopes.setdefault(record.operation_type, scope) != scope:
                return True
    return False


def _has_silent_call_or_sum(reports: Sequence[SpanRecord]) -> bool:
    """Return whether a call has no usage, or what is no call has some, while several scopes report."""
    if len({record.attributes.get(SCOPE) for record in reports}) < 2:
        return False
    return any(
        record.operation_type not in GENERATION_OPERATIONS or not (record.total_tokens or record.total_cost_usd)
        for record in reports
    )


def _linked_traces(records: Sequence[SpanRecord], reports: Sequence[SpanRecord]) -> dict[str, str]:
    """Return the traces that share a response id or a moment, each with the one that stands for them."""
    by_response: dict[str, set[str]] = {}
    by_moment: dict[str, set[str]] = {}
    for record in reports:
        response_id = response_id_of(record)
        if response_id:
            by_response.setdefault(response_id, set()).add(record.trace_id)
    for record in records:
        if record.parent_span_id is None:
            for moment in moments_of(record):
                by_moment.setdefault(moment, set()).add(record.trace_id)
    leads: dict[str, str] = {}

    def leader(trace_id: str) -> str:
        while leads.setdefault(trace_id, trace_id) != trace_id:
            trace_id = leads[trace_id]
        return trace_id

    alike = [traces for traces in by_response.values() if len(traces) <= MOST_VIEWS]
    for traces in (*alike, *by_moment.values()):
        if 1 < len(traces) <= MOST_LINKED:
            first, *others = sorted(traces)
            for trace_id in others:
                leads[leader(trace_id)] = leader(first)
    return {trace_id: leader(trace_id) for trace_id in leads}


def _settle(records: Sequence[SpanRecord]) -> None:
    decisions = decide_counts(map(_view, records))
    for record in records:
        decision = decisions.get(record.span_id)
        if decision is not None:
            operation, name = told_operation(record.count_rule, record.operation_type), tool_name_of(record)
            record.is_generation, record.count_rule = decision.counts, decision.rule
            record.counted_in = decision.counted_in
            if operation in ENTITIES:
                record.operation_type, record.tool_name = entity_columns(operation, decision.rule, name)
            if decision.rule == TOOL_TOLD_TWICE and name is not None:
                record.attributes[TOOL_TOLD] = name
    _inherit(records, decisions)


def tool_name_of(record: SpanRecord) -> str | None:
    """Return the name of the tool, also of a further report of a call."""
    name = record.tool_name or record.attributes.get(TOOL_NAME) or record.attributes.get(TOOL_TOLD)
    return name if isinstance(name, str) else None


def _inherit(records: Sequence[SpanRecord], decisions: Mapping[str, Decision]) -> None:
    """Let the spans of ``decisions`` take what they lack from others of ``records``, which are all of their traces."""
    by_id = {record.span_id: record for record in records}

    def has(span_id: str, part: str) -> bool:
        record = by_id[span_id]
        # An exported span that is taken in again has what it once took.
        return part not in (record.inherited or ()) and has_part(partial(getattr, record), part)

    ancestry = Ancestry({span_id: record.parent_span_id for span_id, record in by_id.items()}, has)
    taken = {span_id: inheritance(span_id, decision, has, ancestry) for span_id, decision in decisions.items()}
    for span_id, parts in taken.items():
        borrower = by_id[span_id]
        for part, lender in parts.items():
            for column in columns_of([part]):
                setattr(borrower, column, getattr(by_id[lender], column))
        borrower.inherited = kept_inheritance(borrower.inherited, parts, by_id) or None


def _view(record: SpanRecord) -> SpanView:
    start_us = (record.ts - EPOCH) // _MICROSECOND
    operation = told_operation(record.count_rule, record.operation_type)
    return SpanView(
        record.span_id,
        record.parent_span_id,
        start_us,
        start_us + round(record.duration_ms * 1000),
        operation,
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
        tool_name_of(record) if operation == TOOL else None,
        (record.cached_tokens or 0) + (record.cache_write_tokens or 0),
        record.status_code == "ERROR",
        None if "agent_name" in (record.inherited or ()) else record.agent_name,
        record.count_rule in TOLD_RULES,
    )
