"""Answers to a TraceQL search: traces with spans like the query, and those spans.

The database finds the traces that have a span for each spanset of the query, newest first. Relations of spans to each
other (structural operators, aggregates) are decided here, over the spans of one page of traces after another.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from datasource.tempo.families import Family, related_spans
from datasource.tempo.span_filter import field_name, is_duration, milliseconds, spanset_filter
from datasource.tempo.traceql import Aggregate, Spanset, SpansetExpression, TraceQuery, fault, unquoted
from datasource.traces.trace_search import SUMMARY_FIELDS, FoundTrace, Row, find_traces, spans_of
from server.queries.filters.filter_tree import And, Filter, Has, Or
from server.queries.filters.span_fields import FIELDS
from server.queries.filters.time_range import TimeRange
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.storage.database import Database
from server.storage.row_scope import RowScope

MOST_SPANS: Final = 10_000
MOST_PAGES: Final = 5
_PAGE: Final = 100
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_KEYED: Final = {"attribute": "attributes", "resource": "resource_attributes"}


@dataclass(slots=True, kw_only=True)
class _Trace(Family):
    """The spans of one trace, and which of them each spanset matches."""

    summary: Row
    matched: dict[int, set[str]] = field(default_factory=dict)


async def search_traces(
    database: Database, scope: RowScope, query: TraceQuery, window: TimeRange, limit: int
) -> list[FoundTrace]:
    """Return the newest ``limit`` traces like ``query`` that start in ``window``, each with its matched spans.

    With structure or aggregates at most 500 candidates are looked at.
    """
    fields = selected_fields(query)
    if isinstance(query.spans, Spanset) and not query.filters and not query.aggregates:
        return await find_traces(database, scope, spanset_filter(query.spans), window, limit, fields)
    sets: list[Filter | None] = []
    expressions = [_numbered(item, sets) for item in (query.spans, *query.filters)]
    wanted = _candidates(expressions[0], sets)
    found: list[FoundTrace] = []
    position: Position | None = None
    for _ in range(MOST_PAGES):
        page = await list_spans(
            database,
            scope,
            ListQuestion(
                view="traces", window=window, filter=wanted, sort=(Sort("ts"),), limit=_PAGE, position=position
            ),
        )
        for trace in await _traces(database, scope, page.rows, sets, fields):
            matched = _matched(trace, expressions, query.aggregates)
            if matched:
                rows = tuple(row for span, row in trace.rows.items() if span in matched)
                found.append(FoundTrace({**trace.summary, "start_ts": trace.summary["ts"]}, rows))
                if len(found) >= limit:
                    return found
        position = page.next_position
        if position is None:
            break
    return found


def selected_fields(query: TraceQuery) -> tuple[str, ...]:
    """Return the fields of spans that an answer needs."""
    names = [*query.selected, *(item.name for item in query.aggregates if item.name)]
    wanted = {_KEYED.get(name.partition(".")[0], name) for name in map(field_name, names)} - set(SUMMARY_FIELDS)
    return (*SUMMARY_FIELDS, *sorted(name for name in wanted if name in FIELDS and FIELDS[name].selectable))


def value_of(row: Row, name: str) -> Any:
    """Return the value of what TraceQL calls ``name``; None where the span has none."""
    found = field_name(name)
    family, _, key = found.partition(".")
    if family in _KEYED and key:
        return (row.get(_KEYED[family]) or {}).get(key)
    return row.get(found)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A spanset by its number."""

    number: int


def _numbered(expression: SpansetExpression, sets: list[Filter | None]) -> Any:
    if isinstance(expression, Spanset):
        sets.append(spanset_filter(expression))
        return _Numbered(len(sets) - 1)
    return (expression.sign, _numbered(expression.left, sets), _numbered(expression.right, sets))


def _candidates(expression: Any, sets: Sequence[Filter | None]) -> Filter | None:
    """Return a filter that every trace with an answer passes."""
    if isinstance(expression, _Numbered):
        part = sets[expression.number]
        return None if part is None else Has("trace", part)
    sign, left, right = expression
    sides = (_candidates(left, sets), _candidates(right, sets))
    if sign == "||":
        return None if None in sides else Or(tuple(side for side in sides if side is not None))
    if sign.startswith("!"):
        return sides[1]
    parts = tuple(side for side in sides if side is not None)
    return And(parts) if len(parts) == 2 else parts[0] if parts else None


async def _traces(
    database: Database,
    scope: RowScope,
    summaries: Sequence[Row],
    sets: Sequence[Filter | None],
    fields: tuple[str, ...],
) -> list[_Trace]:
    """Return the traces of a page with all their spans, and with the ids of those that each spanset matches."""
    traces = {row["trace_id"]: _Trace(summary=row) for row in summaries}
    if not traces:
        return []
    for row in await spans_of(database, scope, list(traces), None, MOST_SPANS, fields):
        traces[row["trace_id"]].rows[row["span_id"]] = row
    for number, tree in enumerate(sets):
        if tree is None:
            for trace in traces.values():
                trace.matched[number] = set(trace.rows)
            continue
        for row in await spans_of(database, scope, list(traces), tree, MOST_SPANS, ("trace_id", "span_id")):
            trace = traces[row["trace_id"]]
            if row["span_id"] in trace.rows:
                trace.matched.setdefault(number, set()).add(row["span_id"])
    return list(traces.values())


def _matched(trace: _Trace, expressions: Sequence[Any], aggregates: Sequence[Aggregate]) -> set[str]:
    """Return the spans that a trace answers with; none when it does not match."""
    found = _evaluated(trace, expressions[0])
    for expression in expressions[1:]:
        found &= _evaluated(trace, expression)
    if found and all(_holds(item, [trace.rows[span] for span in found]) for item in aggregates):
        return found
    return set()


def _evaluated(trace: _Trace, expression: Any) -> set[str]:
    if isinstance(expression, _Numbered):
        return set(trace.matched.get(expression.number, ()))
    sign, left, right = expression
    one, other = _evaluated(trace, left), _evaluated(trace, right)
    if sign == "||":
        return one | other
    if sign == "&&":
        return one | other if one and other else set()
    return related_spans(trace, sign, one, other)


def _holds(aggregate: Aggregate, rows: Sequence[Row]) -> bool:
    if aggregate.function == "count":
        found: float = len(rows)
    else:
        values = [
            float(value)
            for row in rows
            if isinstance(value := value_of(row, aggregate.name), int | float) or hasattr(value, "as_tuple")
        ]
        if not values:
            return False
        total = {"sum": sum, "min": min, "max": max, "avg": lambda items: sum(items) / len(items)}
        found = float(total[aggregate.function](values))  # type: ignore[operator]
    return _COMPARE[aggregate.sign](found, _bound(aggregate))


def _bound(aggregate: Aggregate) -> float:
    text = unquoted(aggregate.value.text) if aggregate.value.kind == "string" else aggregate.value.text
    try:
        return milliseconds(text) if is_duration(text) else float(text)
    except ValueError:
        raise fault(aggregate.value.place, f"{text!r} is not a number or duration") from None
