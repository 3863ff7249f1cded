"""Lists of spans and of traces: from a question to rows, the position after them, and a total.

One statement a page, built from fragments: a branch per project (an equality keeps index order)
merged with UNION ALL, a second statement only where the list crosses from rows with a value in the
sort key to rows without. Large columns are fetched for the rows of the page alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import asyncpg
import orjson

from server.database import Database
from server.queries.filter_sql import compile_filter, fragment
from server.queries.keyset import Position, Segment, SortKey, segments
from server.queries.list_question import RANK, VIEWS, ListQuestion, View, search_text_of
from server.queries.query_plan import explain_statement
from server.queries.row_extras import add_extras
from server.queries.row_scope import RowScope
from server.queries.search_text import search_query
from server.queries.trace_fields import TYPE_SQL, FieldType, TraceField

TOTAL_CAP: Final = 10_000
MOST_BRANCHES: Final = 32
"""With more projects than this the branches would cost more to plan than index order saves."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Total:
    """How many rows the whole list has. ``relation``: eq, gte (a cap was reached) or approximate."""

    value: int
    relation: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page. ``next_position`` is None on the last page; ``hidden_fields`` were asked for but may not be seen
    (their values are None)."""

    rows: list[Row]
    next_position: Position | None = None
    total: Total | None = None
    hidden_fields: tuple[str, ...] = ()
    plan: list[dict[str, Any]] | None = None


async def list_spans(database: Database, scope: RowScope, question: ListQuestion, *, explain: bool = False) -> ListPage:
    """Answer ``question`` for the rows of ``scope``; ``question.view`` decides whether a row is a span or a trace.

    ``explain`` adds what the database did for it (for administrators).

    Raises:
        InsufficientScope: the filter is on content and the scope may not read content.

    """
    reading = _Reading(scope, question)
    if not scope.projects:
        total = None if question.total == "none" else Total(0, "eq")
        return ListPage([], total=total, hidden_fields=reading.hidden)
    plans: list[dict[str, Any]] | None = [] if explain else None
    async with database.read(scope) as connection:
        rows, positions = await reading.fetch(connection, plans)
        total = await reading.count(connection)
        has_more = len(rows) > question.limit
        rows, positions = rows[: question.limit], positions[: question.limit]
        if question.include:
            await add_extras(connection, scope, question, rows)
    return ListPage(
        reading.shown(rows),
        positions[-1] if has_more else None,
        total,
        reading.hidden,
        plans,
    )


class _Reading:
    """The statements for one question and one scope."""

    def __init__(self, scope: RowScope, question: ListQuestion) -> None:
        self.question = question
        self.view: View = VIEWS[question.view]
        is_few = len(scope.projects) <= MOST_BRANCHES
        self.projects: list[Any] = list(scope.projects) if is_few else [list(scope.projects)]
        self.params: list[Any] = [question.limit + 1, *self.projects]
        selected = question.selected()
        may_see = scope.may_read_content
        self.hidden = tuple(name for name in selected if self.view.fields[name].is_content and not may_see)
        self.selected = selected
        self.columns = [self.view.fields[name] for name in selected if name not in self.hidden]
        self.where = self.predicate(scope)
        self.where_binds = len(self.params)
        self.keys = self.sort_keys()
        # Sort keys come first: a selected field of the same name has the same value and takes the place.
        self.names = [*(key.name for key in self.keys), *(column.name for column in self.columns)]
        self.documents = [column.name for column in self.columns if column.type is FieldType.JSON]
        # By time an index gives the order as it goes; otherwise rows are sorted, and should be narrow then.
        self.is_sorted_wide = self.keys[0].name != "ts" or search_text_of(question.filter) is not None

    def bind(self, value: Any, sql_type: str) -> str:
        self.params.append(value)
        return f"${len(self.params)}::{sql_type}"

    def predicate(self, scope: RowScope) -> str:
        window, tree = self.question.window, self.question.filter
        time = self.view.fields["ts"].expression()
        conditions = []
        if window.start is not None:
            conditions.append(f"{time} >= {self.bind(window.start, 'timestamptz')}")
        if window.end is not None:
            conditions.append(f"{time} < {self.bind(window.end, 'timestamptz')}")
        if tree is not None:
            conditions.append(compile_filter(tree, self.params, scope=scope, window=window))
        return " AND ".join(conditions) or "true"

    def sort_keys(self) -> list[SortKey]:
        """The keys asked for and then those that make the order total, in the direction of the last one asked for."""
        keys = [self.sort_key(key.field, key.descending) for key in self.question.sort]
        asked = {key.name for key in keys}
        descending = keys[-1].descending
        return keys + [self.sort_key(name, descending) for name in self.view.tie_breakers if name not in asked]

    def sort_key(self, name: str, descending: bool) -> SortKey:
        if name == RANK:
            query = search_query(search_text_of(self.question.filter) or "").tsquery or ""
            expression = fragment("search_rank").format(query=self.bind(query, "text"))
            return SortKey(RANK, expression, "double precision", descending)
        field = self.view.fields[name]
        return SortKey(name, field.expression(), TYPE_SQL[field.type], descending, field.nullable)

    async def fetch(
        self, connection: asyncpg.Connection, plans: list[dict[str, Any]] | None
    ) -> tuple[list[Row], list[Position]]:
        rows: list[Row] = []
        positions: list[Position] = []
        for segment in segments(self.keys, self.question.position, len(self.params) + 1):
            wanted = self.question.limit + 1 - len(rows)
            if wanted <= 0:
                break
            statement, params = self.statement(segment), [wanted, *self.params[1:], *segment.params]
            records = await connection.fetch(statement, *params)
            if plans is not None:
                plans.append(await explain_statement(connection, statement, params))
            for record in records:
                values = tuple(record)
                positions.append(values[: len(self.keys)])
                rows.append(self.row(values))
        return rows, positions

    def statement(self, segment: Segment) -> str:
        names = [f"s{index}" for index in range(len(self.keys))]
        keys = [f"{key.expression} AS {name}" for key, name in zip(self.keys, names, strict=True)]
        output_order = ", ".join(
            key.order(name)
            for key, name in zip(self.keys, names, strict=True)
            if any(key.name == ordered.name for ordered in segment.keys)
        )
        is_late = self.is_sorted_wide and any(column.is_large for column in self.columns)
        columns = keys + (_PAGE_KEYS if is_late else [_column(column) for column in self.columns])
        branches = [
            fragment("list_rows").format(
                columns=", ".join(columns),
                table=self.view.table,
                project=project,
                predicate=f"{self.where} AND {segment.predicate}",
                order=segment.order_by(),
                limit="$1",
            )
            for project in self.project_predicates()
        ]
        page = branches[0]
        if len(branches) > 1:
            merged = " UNION ALL ".join(f"({branch})" for branch in branches)
            page = fragment("merge_branches").format(branches=merged, order=output_order, limit="$1")
        if not is_late:
            return page
        return fragment("fetch_payloads").format(
            page=page,
            keys=", ".join(f"page.{name}" for name in names),
            columns=", ".join(map(_column, self.columns)),
            order=output_order,
        )

    def project_predicates(self) -> list[str]:
        if len(self.projects) == 1 and not isinstance(self.projects[0], str):
            return ["t.project_id = ANY ($2::text[])"]
        return [f"t.project_id = ${index}::text" for index in range(2, len(self.projects) + 2)]

    def row(self, values: tuple[Any, ...]) -> Row:
        """The row for what a statement gives: sort keys, then columns. Hidden fields are there, as None."""
        row: Row = dict(zip(self.names, values, strict=True))
        for name in self.documents:
            if row[name] is not None:
                row[name] = orjson.loads(row[name])
        for name in self.hidden:
            row[name] = None
        return row

    def shown(self, rows: list[Row]) -> list[Row]:
        """``rows`` with the fields that the caller gets, in the order of the table."""
        names = [*self.selected, *sorted(self.question.include)]
        if self.keys[0].name == RANK:
            names.append(RANK)
        pick = itemgetter(*names)
        if len(names) == 1:
            return [{names[0]: pick(row)} for row in rows]
        return [dict(zip(names, pick(row), strict=True)) for row in rows]

    async def count(self, connection: asyncpg.Connection) -> Total | None:
        mode = self.question.total
        if mode == "none":
            return None
        if mode == "exact":
            return Total(await self.count_up_to(connection, None), "eq")
        if mode == "capped":
            counted = await self.count_up_to(connection, TOTAL_CAP + 1)
            return Total(min(counted, TOTAL_CAP), "gte" if counted > TOTAL_CAP else "eq")
        estimate = fragment("explain_estimate").format(statement=self.count_branches(None))
        plan = orjson.loads(await connection.fetchval(estimate, *self.params[: self.where_binds]))
        return Total(round(plan[0]["Plan"]["Plan Rows"]), "approximate")

    async def count_up_to(self, connection: asyncpg.Connection, most: int | None) -> int:
        statement = fragment("count_rows").format(branches=self.count_branches(most))
        params = [most or 0, *self.params[1 : self.where_binds]]
        return int(await connection.fetchval(statement, *params))

    def count_branches(self, most: int | None) -> str:
        # The first parameter is always the limit: where nothing is limited it must still be mentioned.
        limit = " LIMIT $1" if most is not None else " AND $1::bigint IS NOT NULL"
        branches = [
            fragment("count_branch").format(table=self.view.table, project=project, predicate=self.where, limit=limit)
            for project in self.project_predicates()
        ]
        if len(branches) == 1:
            return branches[0]
        return " UNION ALL ".join(f"({branch})" for branch in branches) + (" LIMIT $1" if most is not None else "")


_PAGE_KEYS: Final = [
    "t.project_id AS page_project",
    "t.trace_id AS page_trace",
    "t.span_id AS page_span",
    "t.ts AS page_ts",
]


def _column(field: TraceField) -> str:
    return f"{field.expression()} AS {field.name}"
