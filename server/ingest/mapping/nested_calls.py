"""One model call that two instrumentations saw must count once.

A framework's span and the client library's own span inside it (LangChain round OpenAI, or an
instrumentation round a client that traces itself, as Anthropic's does) report the same
tokens. The inner one is the call; the outer one keeps what it says and is not counted, by
the rule that only leaf spans are. Where the inner span reports no usage, it is the other
way round. Some instrumentations do not make their span current, so that the two are
siblings: then the vendor's response id and one running while the other does
tell that they are one call. Seen within one request, which is where exporters put spans that
end together.
"""

from __future__ import annotations

from server.ingest.mapping.span_record import SpanRecord

MARK = "observatory.counted_in"
"""Attribute on the span that is not counted: the id of the span that is."""

_RESPONSE_ID = "gen_ai.response.id"

_MOST_VIEWS = 4
"""More spans than this with one response id: the server does not make unique ids, and they tell nothing."""


def count_nested_calls_once(records: list[SpanRecord]) -> None:
    """Takes ``is_generation`` from one of each pair of model calls that are parent and child."""
    calls = {(record.trace_id, record.span_id): record for record in records if record.is_generation}
    if len(calls) < 2:
        return
    children: dict[tuple[str, str], list[SpanRecord]] = {}
    for record in calls.values():
        if record.parent_span_id is not None:
            parent = (record.trace_id, record.parent_span_id)
            if parent in calls:
                children.setdefault(parent, []).append(record)
    _count_siblings_once(list(calls.values()))
    for key, inner in children.items():
        outer = calls[key]
        if not outer.is_generation:
            continue
        measured = next((record for record in inner if record.total_tokens is not None), None)
        if measured is None and outer.total_tokens is not None:
            for record in inner:
                _leave_out(record, outer)
        else:
            _leave_out(outer, measured or inner[0])


def _count_siblings_once(calls: list[SpanRecord]) -> None:
    """Calls with the same response, one of them running within the other: the shorter one counts."""
    by_response: dict[tuple[object, ...], list[SpanRecord]] = {}
    for record in calls:
        response = record.attributes.get(_RESPONSE_ID)
        if isinstance(response, str) and response and record.total_tokens is not None:
            by_response.setdefault((response, record.model), []).append(record)
    for same in by_response.values():
        if not 1 < len(same) <= _MOST_VIEWS:
            continue
        same.sort(key=lambda record: record.duration_ms)
        for position, outer in enumerate(same):
            inner = next((record for record in same[:position] if _runs_within(record, outer)), None)
            if inner is not None:
                _leave_out(outer, inner)


def _runs_within(inner: SpanRecord, outer: SpanRecord) -> bool:
    after_ms = (inner.ts - outer.ts).total_seconds() * 1000
    return after_ms >= 0 and after_ms + inner.duration_ms <= outer.duration_ms and inner.is_generation


def _leave_out(record: SpanRecord, counted: SpanRecord) -> None:
    record.is_generation = False
    record.attributes[MARK] = counted.span_id
