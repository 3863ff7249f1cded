"""One trace in full: its totals, and its spans in tree order.

The tree is built from ids alone, which is cheap for any trace; payloads are then read only for the requested page. A
page ends at ``limit`` spans or at 4 MiB of stored payload, whichever comes first, and the next one starts after its
last span. A trace of more than 50,000 spans is cut there, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from server.errors import Conflict, InvalidCursor, SpanNotFound, TraceNotFound
from server.fairness.off_loop import off_loop
from server.queries.filters.span_fields import FIELDS, FieldType, TraceField
from server.queries.lists.part_contents import COLUMNS, ELSEWHERE, fill_contents
from server.queries.lists.query_plan import explain_statement
from server.queries.lists.score_reader import Score, list_scores, scores_of_span
from server.queries.lists.span_tree import PlacedSpan, SpanNode, arrange
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import fragment, statement

MAX_TREE_SPANS: Final = 50_000
MAX_PAGE_BYTES: Final = 4 << 20
_LONGEST_ID: Final = 64

_TOTALS: Final = (
    "span_count",
    "generation_count",
    "error_count",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "total_cost_usd",
)


@dataclass(frozen=True, slots=True)
class SpanPosition:
    """The last span of a page. Span ids may occur twice, pairs of (span_id, ts) cannot."""

    span_id: str
    ts: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceQuestion:
    """A trace, and the part of it to return.

    ``fields``: names from :data:`server.queries.filters.span_fields.FIELDS`. ``after``: end of the previous page.
    """

    trace_id: str
    fields: tuple[str, ...]
    limit: int = 1000
    after: SpanPosition | None = None
    with_scores: bool = True


@dataclass(frozen=True, slots=True)
class TraceAnswer:
    """The trace as a plain value, and the end of its page (None: end of the trace)."""

    trace: dict[str, Any]
    last: SpanPosition | None


async def read_trace(
    database: Database, scope: RowScope, question: TraceQuestion, *, plans: list[dict[str, Any]] | None = None
) -> TraceAnswer:
    """Return the trace, its totals, and a page of its spans in tree order.

    Sums of tokens and money count model calls only, as everywhere. Raises :class:`TraceNotFound` for a trace of another
    project or none at all; :class:`Conflict` if several of the scope's projects have a trace of that id;
    :class:`InvalidCursor` if ``after`` is gone. If ``plans`` is given (for administrators), the work of the database is
    added to it.
    """
    async with database.read(_findable(scope, question.trace_id, TraceNotFound)) as connection:
        summary = await _find(connection, scope, question.trace_id, TraceNotFound)
        nodes = await _nodes(connection, summary, plans)
        placed = await off_loop(len(nodes), lambda: arrange(nodes))
        start = _start(placed, question.after)
        page = _page(placed, start, question.limit)
        spans = await _spans(connection, scope, summary, page, question.fields)
        scores = await _scores(connection, scope, summary) if question.with_scores else []
    last = page[-1].node if start + len(page) < len(placed) else None
    trace = {
        "trace_id": summary["trace_id"],
        "project_id": summary["project_id"],
        "start_ts": summary["start_ts"],
        "end_ts": summary["end_ts"],
        "duration_ms": (summary["end_ts"] - summary["start_ts"]).total_seconds() * 1000,
        "root": _root(summary),
        "service_name": summary["service_name"],
        "environment": summary["environment"],
        "session_id": summary["session_id"],
        "user_id": summary["user_id"],
        "totals": {name: summary[name] for name in _TOTALS},
        "omitted_spans": max(0, summary["span_count"] - len(nodes)),
        "spans": spans,
        "scores": scores,
    }
    return TraceAnswer(trace, None if last is None else SpanPosition(last.span_id, last.ts))


async def read_span(
    database: Database, scope: RowScope, trace_id: str, span_id: str, fields: Sequence[str]
) -> dict[str, Any]:
    """Return one span with its scores. Raises :class:`SpanNotFound` for a span outside the scope.

    If a span id occurs twice in the trace, the earlier span is returned.
    """
    async with database.read(_findable(scope, trace_id, SpanNotFound)) as connection:
        summary = await _find(connection, scope, trace_id, SpanNotFound)
        rows = await _rows(connection, scope, summary, [span_id], fields)
        if not rows:
            raise SpanNotFound
        scores = await _scores(connection, scope, summary)
    _, span = min(rows, key=lambda row: row[0].ts)
    return {**span, "scores": scores_of_span(scores, span_id)}


def _findable(scope: RowScope, trace_id: str, missing: type[TraceNotFound]) -> RowScope:
    """Return ``scope``. Raises ``missing`` if no row can match, so that this answer needs no connection."""
    if not scope.projects or not 1 <= len(trace_id) <= _LONGEST_ID:
        raise missing
    return scope


async def _find(
    connection: asyncpg.Connection, scope: RowScope, trace_id: str, missing: type[TraceNotFound]
) -> asyncpg.Record:
    found = await connection.fetch(statement("find_trace"), list(scope.projects), trace_id)
    if not found:
        raise missing
    if len(found) > 1:
        raise Conflict("Several of your projects have a trace with this id; name one with project_id.")
    return found[0]


async def _nodes(
    connection: asyncpg.Connection, summary: asyncpg.Record, plans: list[dict[str, Any]] | None
) -> list[SpanNode]:
    params = [*_bounds(summary), MAX_TREE_SPANS]
    rows = await connection.fetch(statement("list_trace_nodes"), *params)
    if plans is not None:
        plans.append(await explain_statement(connection, fragment("list_trace_nodes"), params))
    return [SpanNode(row["span_id"], row["parent_span_id"], row["ts"], row["size"]) for row in rows]


def _start(placed: Sequence[PlacedSpan], after: SpanPosition | None) -> int:
    if after is None:
        return 0
    for index, item in enumerate(placed):
        if item.node.span_id == after.span_id and item.node.ts == after.ts:
            return index + 1
    raise InvalidCursor("The span at which the previous page ended is gone.")


def _page(placed: Sequence[PlacedSpan], start: int, limit: int) -> Sequence[PlacedSpan]:
    """Return ``limit`` spans from ``start``: fewer if their payload is too large, at least one if there is one."""
    size = 0
    for index in range(start, min(start + limit, len(placed))):
        size += placed[index].node.size
        if size > MAX_PAGE_BYTES and index > start:
            return placed[start:index]
    return placed[start : start + limit]


async def _spans(
    connection: asyncpg.Connection,
    scope: RowScope,
    summary: asyncpg.Record,
    page: Sequence[PlacedSpan],
    fields: Sequence[str],
) -> list[dict[str, Any]]:
    rows = dict(await _rows(connection, scope, summary, [item.node.span_id for item in page], fields))
    spans = []
    for item in page:
        position = SpanPosition(item.node.span_id, item.node.ts)
        place = {"depth": item.depth, "placement": item.placement.value, "child_count": item.children}
        spans.append({**rows[position], **place})
    return spans


async def _rows(
    connection: asyncpg.Connection,
    scope: RowScope,
    summary: asyncpg.Record,
    span_ids: Sequence[str],
    fields: Sequence[str],
) -> list[tuple[SpanPosition, dict[str, Any]]]:
    wanted = [FIELDS[name] for name in fields]
    hidden = frozenset() if scope.may_read_content else frozenset(field.name for field in wanted if field.is_content)
    in_parts = [name for name in fields if name in ELSEWHERE and name not in hidden]
    shown = {field.name: field.expression() for field in wanted if field.name not in hidden}
    shown |= {name: f"t.{name}" for name in in_parts}
    if in_parts:
        shown |= {name: expression.format(t="t") for name, expression in COLUMNS.items()}
    columns = [f"{expression} AS {name}" for name, expression in shown.items()]
    text = statement("list_trace_spans").replace(
        "{columns}", ", ".join([*columns, "t.span_id AS at_id, t.ts AS at_ts"])
    )
    rows = await connection.fetch(text, *_bounds(summary), list(span_ids))
    spans = [
        {field.name: None if field.name in hidden else _value(field, row[field.name]) for field in wanted}
        for row in rows
    ]
    await fill_contents(connection, in_parts, rows, spans)
    return [(SpanPosition(row["at_id"], row["at_ts"]), span) for row, span in zip(rows, spans, strict=True)]


def _value(field: TraceField, value: Any) -> Any:
    return orjson.loads(value) if field.type is FieldType.JSON and value is not None else value


async def _scores(connection: asyncpg.Connection, scope: RowScope, summary: asyncpg.Record) -> list[Score]:
    return await list_scores(connection, scope, summary["project_id"], [summary["trace_id"]])


def _bounds(summary: asyncpg.Record) -> tuple[str, str, datetime, datetime]:
    return summary["project_id"], summary["trace_id"], summary["start_ts"], summary["end_ts"]


def _root(summary: asyncpg.Record) -> dict[str, Any] | None:
    if summary["root_span_id"] is None:
        return None
    return {"span_id": summary["root_span_id"], "span_name": summary["root_span_name"]}
