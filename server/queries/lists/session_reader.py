"""Sessions and users: their totals, and the traces of one of them.

Both come from summary tables that the span writer keeps exact, so a page costs no more than its rows. Sums of tokens
and money count model calls only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from server.errors import Conflict, NotFound, SessionNotFound, UserNotFound
from server.queries.filters.time_range import TimeRange
from server.queries.lists.keyset import Position, SortKey, segments
from server.queries.lists.query_plan import explained
from server.storage.database import Database
from server.storage.project_branches import project_branches
from server.storage.row_scope import RowScope
from server.storage.statements import fragment
from server.text.instants import EARLIEST, LATEST

_SUMS: Final = (
    "trace_count",
    "span_count",
    "generation_count",
    "error_count",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
)
Plans = list[dict[str, Any]] | None
_TYPES: Final = {"last_ts": "timestamptz", "first_ts": "timestamptz", "total_cost_usd": "numeric"}


@dataclass(frozen=True, slots=True)
class SummaryKind:
    """Sessions or users: their table, and the fields of a row. The first sort key is the default."""

    table: str
    id: str
    columns: tuple[str, ...]
    sort_keys: tuple[str, ...]
    missing: type[NotFound]


SESSIONS: Final = SummaryKind(
    table="session_summaries",
    id="session_id",
    columns=("session_id", "project_id", "user_id", "first_ts", "last_ts", *_SUMS, "total_cost_usd"),
    sort_keys=("last_ts", "first_ts", *_SUMS, "total_cost_usd"),
    missing=SessionNotFound,
)
USERS: Final = SummaryKind(
    table="user_summaries",
    id="user_id",
    columns=("user_id", "project_id", "first_ts", "last_ts", "session_count", *_SUMS, "total_cost_usd"),
    sort_keys=("last_ts", "first_ts", "session_count", *_SUMS, "total_cost_usd"),
    missing=UserNotFound,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryQuestion:
    """A question for a list of sessions or users.

    ``window``: only those active at some moment of it. ``names``: only these ids. ``user_ids``: only sessions in which
    one of these users took part. ``position``: sort value, project and id of the last row of the previous page.
    """

    kind: SummaryKind
    window: TimeRange = TimeRange()
    names: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    sort_by: str = "last_ts"
    descending: bool = True
    limit: int = 50
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class SummaryPage:
    """Rows, and the position after which the next page begins (None: this is the last)."""

    rows: list[dict[str, Any]]
    next_position: Position | None


async def list_summaries(
    database: Database, scope: RowScope, question: SummaryQuestion, *, plans: Plans = None
) -> SummaryPage:
    """Return one page of sessions or users; add the work of the database to ``plans``."""
    if not scope.projects:
        return SummaryPage([], None)
    keys = _keys(question.sort_by, question.kind.id, descending=question.descending)
    params: list[Any] = [question.window.start or EARLIEST, question.window.end or LATEST, question.limit + 1]
    filters = _filters(question, params)
    (segment,) = segments(keys, question.position, len(params) + 1)
    params += segment.params
    names = {
        "table": question.kind.table,
        "columns": ", ".join(f"t.{column}" for column in question.kind.columns),
        "filters": filters,
        "after": segment.predicate,
        "order": segment.order_by(),
    }
    block = fragment("list_summaries_of_project")
    parts = [f"({block.format(project=project, **names)})" for project in project_branches(scope.projects, params)]
    text = f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS t ORDER BY {segment.order_by()} LIMIT $3"  # noqa: S608
    async with database.read(scope) as connection:
        rows = await explained(connection, plans).fetch(text, *params)
    return _page(rows, question.limit, keys)


async def read_summary(
    database: Database, scope: RowScope, kind: SummaryKind, name: str, *, plans: Plans = None
) -> dict[str, Any]:
    """Return the session or user called ``name``. Raises ``kind.missing``, also for one of another project, and
    :class:`Conflict` if several of the scope's projects have one of that name.
    """
    if not scope.projects:
        raise kind.missing
    columns = ", ".join(f"t.{column}" for column in kind.columns)
    text = fragment("find_summary").format(columns=columns, table=kind.table, id=kind.id)
    async with database.read(scope) as connection:
        found = await explained(connection, plans).fetch(text, list(scope.projects), name)
    if not found:
        raise kind.missing
    if len(found) > 1:
        raise Conflict(f"Several of your projects have this {kind.id}; name one with project_id.")
    return _row(found[0])


async def list_traces_of(
    database: Database,
    scope: RowScope,
    kind: SummaryKind,
    summary: dict[str, Any],
    *,
    descending: bool,
    limit: int,
    position: Position | None,
    plans: Plans = None,
) -> SummaryPage:
    """Return one page of the traces of ``summary``, a row from :func:`read_summary`, by their start."""
    keys = (
        SortKey("start_ts", "t.start_ts", "timestamptz", descending),
        SortKey("trace_id", "t.trace_id", "text", descending),
    )
    (segment,) = segments(keys, position, 4)
    text = fragment("list_traces_of_summary").format(id=kind.id, after=segment.predicate, order=segment.order_by())
    async with database.read(scope) as connection:
        rows = await explained(connection, plans).fetch(
            text, summary["project_id"], summary[kind.id], limit + 1, *segment.params
        )
    return _page(rows, limit, keys)


def _keys(sort_by: str, id_column: str, *, descending: bool) -> tuple[SortKey, ...]:
    names = (sort_by, "project_id", id_column)
    types = (_TYPES.get(sort_by, "bigint"), "text", "text")
    return tuple(SortKey(name, f"t.{name}", sql_type, descending) for name, sql_type in zip(names, types, strict=True))


def _filters(question: SummaryQuestion, params: list[Any]) -> str:
    filters = ""
    if question.names:
        params.append(list(question.names))
        filters += fragment("summaries_named").format(id=question.kind.id, names=f"${len(params)}::text[]")
    if question.user_ids:
        params.append(list(question.user_ids))
        filters += "\n" + fragment("sessions_of_users").format(users=f"${len(params)}::text[]")
    return filters


def _page(rows: Sequence[asyncpg.Record], limit: int, keys: Sequence[SortKey]) -> SummaryPage:
    shown = [_row(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return SummaryPage(shown, None)
    return SummaryPage(shown, tuple(shown[-1][key.name] for key in keys))


def _row(record: asyncpg.Record) -> dict[str, Any]:
    row = dict(record)
    start: datetime = row["first_ts"] if "first_ts" in row else row["start_ts"]
    end: datetime = row["last_ts"] if "last_ts" in row else row["end_ts"]
    row["duration_ms"] = (end - start).total_seconds() * 1000
    return row
