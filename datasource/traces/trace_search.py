"""Traces for the trace views: by id, and by properties of one of their spans.

Jaeger and Tempo have different questions and JSON, but the same traces: both use this module, which asks the same core
as REST.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datasource.traces.span_attributes import RESOURCE_COLUMNS, SPAN_COLUMNS
from server.errors import InvalidParameter, TraceNotFound
from server.queries.filters.filter_tree import And, Filter, Has, Leaf
from server.queries.filters.filter_values import LONGEST_LIST
from server.queries.filters.span_fields import FIELDS
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.queries.lists.trace_tree import TraceQuestion, read_trace
from server.storage.database import Database
from server.storage.row_scope import RowScope

Row = Mapping[str, Any]

MOST_SPANS: Final = 10_000
_PAGE: Final = 1000

_BASIC_FIELDS: Final = (
    "ts",
    "trace_id",
    "span_id",
    "parent_span_id",
    "span_name",
    "span_kind",
    "status_code",
    "duration_ms",
    *(column for column, _ in RESOURCE_COLUMNS),
)
SUMMARY_FIELDS: Final = (
    *_BASIC_FIELDS,
    "model",
    "provider",
    "operation_type",
    "error_type",
    "total_tokens",
    "total_cost_usd",
)
"""Fields of a span in a search answer: no payloads."""
FULL_FIELDS: Final = tuple(
    name
    for name in FIELDS
    if name
    in {
        *_BASIC_FIELDS,
        *(column for column, _ in SPAN_COLUMNS),
        "error_message",
        "attributes",
        "resource_attributes",
        "events",
        "links",
    }
)
"""Fields of a span in a trace view."""


@dataclass(frozen=True, slots=True)
class WholeTrace:
    """The spans of a trace in tree order; ``omitted`` counts those beyond the limit of a trace view."""

    trace_id: str
    rows: tuple[Row, ...]
    omitted: int


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace's summary and its matching spans (a thousand at most in one search)."""

    summary: Row
    matched: tuple[Row, ...]


_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


def normal_trace_id(text: str) -> str:
    """Return the id as it is stored: Grafana cuts leading zeros off, and some callers write capitals."""
    lowered = text.lower()
    is_hex = 0 < len(lowered) <= 32 and all(character in "0123456789abcdef" for character in lowered)
    return lowered.zfill(32) if is_hex else text


async def read_whole_trace(database: Database, scope: RowScope, trace_id: str) -> WholeTrace:
    """Return a trace with up to 10,000 spans.

    Raises TraceNotFound for a trace outside the scope, and InvalidParameter if there is none and the id is not in
    OpenTelemetry's form: for a trace that is merely not found, Grafana asks again by an older path. Imported ids may
    have any form.
    """
    wanted = normal_trace_id(trace_id)
    try:
        return await _read_pages(database, scope, wanted)
    except TraceNotFound:
        if _TRACE_ID.fullmatch(wanted):
            raise
        detail = "expected up to 32 hexadecimal digits, at least one of them not 0"
        raise InvalidParameter.named("trace_id", detail) from None


async def _read_pages(database: Database, scope: RowScope, wanted: str) -> WholeTrace:
    question = TraceQuestion(trace_id=wanted, fields=FULL_FIELDS, limit=_PAGE, with_scores=False)
    rows: list[Row] = []
    while True:
        answer = await read_trace(database, scope, question)
        rows.extend(answer.trace["spans"])
        total: int = answer.trace["totals"]["span_count"]
        if answer.last is None or len(rows) >= MOST_SPANS:
            return WholeTrace(wanted, tuple(rows), max(0, total - len(rows)))
        question = TraceQuestion(trace_id=wanted, fields=FULL_FIELDS, limit=_PAGE, after=answer.last, with_scores=False)


def refuse_narrowing(given: Container[str], others: Mapping[str, str]) -> None:
    """Raise :class:`InvalidParameter` if one of ``others`` is among the ``given`` names of parameters.

    ``others`` are parameters of the protocol that would narrow the answer and are not supported here, each with its
    replacement. If they were ignored, the newest traces would be shown as if they were the requested ones.
    """
    for name, instead in others.items():
        if name in given:
            raise InvalidParameter.named(name, f"is not supported here; {instead}")


async def find_traces(
    database: Database,
    scope: RowScope,
    spans: Filter | None,
    window: TimeRange,
    limit: int,
    fields: tuple[str, ...] = SUMMARY_FIELDS,
) -> list[FoundTrace]:
    """Return the newest ``limit`` traces that start in ``window`` and have a span that passes ``spans`` (None: any)."""
    page = await list_spans(
        database,
        scope,
        ListQuestion(
            view="traces",
            window=window,
            filter=None if spans is None else Has("trace", spans),
            sort=(Sort("ts"),),
            limit=limit,
        ),
    )
    if not page.rows:
        return []
    matched: dict[str, list[Row]] = {}
    for row in await spans_of(database, scope, [row["trace_id"] for row in page.rows], spans, _PAGE, fields):
        matched.setdefault(row["trace_id"], []).append(row)
    return [FoundTrace({**row, "start_ts": row["ts"]}, tuple(matched.get(row["trace_id"], ()))) for row in page.rows]


async def spans_of(
    database: Database,
    scope: RowScope,
    trace_ids: Sequence[str],
    spans: Filter | None,
    most: int,
    fields: tuple[str, ...] = SUMMARY_FIELDS,
) -> list[Row]:
    """Return those spans of the traces that pass ``spans`` (None: all), by start, ``most`` of them at most."""
    rows: list[Row] = []
    # Longer lists than a filter takes are read in portions.
    for start in range(0, len(trace_ids), LONGEST_LIST):
        of_traces: Filter = Leaf(FIELDS["trace_id"], "in", tuple(trace_ids[start : start + LONGEST_LIST]))
        position = None
        while len(rows) < most:
            page = await list_spans(
                database,
                scope,
                ListQuestion(
                    filter=of_traces if spans is None else And((of_traces, spans)),
                    sort=(Sort("ts", descending=False),),
                    fields=fields,
                    limit=min(_PAGE, most - len(rows)),
                    position=position,
                ),
            )
            rows.extend(page.rows)
            position = page.next_position
            if position is None:
                break
    return rows
