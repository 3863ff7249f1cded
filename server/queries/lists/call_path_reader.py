"""The spans of the newest traces that match a filter, without payloads: for graphs of call paths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MAX_SPANS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """The parts of a span that graphs need. ``cost_usd`` is zero unless it is a model call, so that sums over paths
    never count money twice.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    ts: datetime
    span_name: str
    operation_type: str
    is_generation: bool
    agent_name: str | None
    tool_name: str | None
    model: str | None
    is_error: bool
    duration_ms: float
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class CallPaths:
    """Spans ordered by trace and start. ``is_cut``: there are more traces or spans than were read."""

    spans: list[CallSpan]
    traces: int
    is_cut: bool


async def read_call_paths(database: Database, scope: RowScope, question: ListQuestion) -> CallPaths:
    """Return all spans of the traces that ``question`` (``view="traces"``) lists, at most 20,000."""
    fields = ("trace_id", "project_id", "ts")
    page = await list_spans(database, scope, replace(question, view="traces", fields=fields))
    by_project: dict[str, list[dict[str, Any]]] = {}
    for row in page.rows:
        by_project.setdefault(row["project_id"], []).append(row)
    spans: list[CallSpan] = []
    async with database.read(scope) as connection:
        for project_id, traces in by_project.items():
            found = await connection.fetch(
                statement("list_call_path_spans"),
                project_id,
                min(row["ts"] for row in traces),
                [row["trace_id"] for row in traces],
                MAX_SPANS + 1 - len(spans),
            )
            for record in found:
                values = dict(record)
                cost = values.pop("total_cost_usd")
                status = values.pop("status_code")
                counted = cost if cost is not None and values["is_generation"] else Decimal(0)
                spans.append(CallSpan(**values, is_error=status == "ERROR", cost_usd=counted))
    is_cut = page.next_position is not None or len(spans) > MAX_SPANS
    return CallPaths(spans[:MAX_SPANS], len(page.rows), is_cut)
