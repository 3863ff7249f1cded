"""Lists of spans and of traces: from a question to rows, the next position, and a total.

There is one statement per page, built from fragments: a branch per project (an equality keeps index order) merged with
UNION ALL, and a second statement only where the list crosses from rows with a value in the sort key to rows without.
Wide columns are fetched only for the rows of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.search_text import search_query
from server.queries.filters.shared_words import find_shared_words
from server.queries.filters.time_range import TimeRange
from server.queries.lists.keyset import Position, Segment, segments
from server.queries.lists.list_question import RANK, VIEWS, ListQuestion, View, search_text_of
from server.queries.lists.part_contents import fill_contents
from server.queries.lists.query_plan import explain_statement
from server.queries.lists.row_extras import add_extras
from server.queries.lists.row_layout import Row, row_layout
from server.storage.database import Database
from server.storage.project_branches import MOST_BRANCHES, predicate_of_branch, project_branches
from server.storage.row_scope import RowScope
from server.storage.statements import fragment

TOTAL_CAP: Final = 10_000
ESTIMATE_SAMPLE: Final = 5_000
"""Newest rows of a project in which an estimated total looks for matches; fewer rows are counted exactly."""
FIRST_SLICE: Final = timedelta(days=7)
"""The part of the time range that a full-text search reads first: the length of a partition."""


@dataclass(frozen=True, slots=True)
class Total:
    """Number of rows of the whole list. ``relation``: eq, gte (a cap was reached) or approximate."""

    value: int
    relation: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page. ``next_position`` is None on the last page; ``hidden_fields`` were requested but the caller may not see
    them (their values are None). ``clipped_fields`` are cut in some of the rows.
    """

    rows: list[Row]
    next_position: Position | None = None
    total: Total | None = None
    hidden_fields: tuple[str, ...] = ()
    plan: list[dict[str, Any]] | None = None
    clipped_fields: tuple[str, ...] = ()
    meaning: dict[str, Any] | None = None
    """For a search by meaning: the coverage of the range."""


async def list_spans(database: Database, scope: RowScope, question: ListQuestion, *, explain: bool = False) -> ListPage:
    """Answer ``question`` for the rows of ``scope``; ``question.view`` decides whether a row is a span or a trace.

    ``explain`` adds the work of the database (for administrators).

    Raises:
        InsufficientScope: the filter is on content and the scope may not read content.
    """
    reading = _Reading(scope, question)
    layout = reading.layout
    if not scope.projects:
        total = None if question.total == "none" else Total(0, "eq")
        return ListPage([], total=total, hidden_fields=layout.hidden)
    plans: list[dict[str, Any]] | None = [] if explain else None
    async with database.read(scope, follows_index=reading.follows_index) as connection:
        window = question.window if reading.view.is_partitioned else TimeRange()
        found = await find_shared_words(
            connection,
            scope,
            question.filter,
            window,
            distribution=database.distribution,
        )
        if found is not question.filter:
            reading = _Reading(scope, replace(question, filter=found))
        records = await reading.fetch(connection, plans)
        total = await reading.count(connection)
        page = records[: question.limit]
        if total is not None and total.value < len(page):
            total = Total(len(page), total.relation)  # a sample may miss rows that the page shows
        rows = layout.rows(page)
        await fill_contents(connection, layout.in_parts, page, rows, layout.clipped)
        if question.include:
            extras = [layout.key_values(record) for record in page]
            await add_extras(connection, scope, question, extras)
            for row, extra in zip(rows, extras, strict=True):
                row.update({name: extra[name] for name in sorted(question.include)})
    has_more = len(records) > question.limit
    position = layout.position(page[-1]) if has_more else None
    return ListPage(rows, position, total, layout.hidden, plans, layout.clip(rows))


class _Reading:
    """The statements for one question and one scope."""

    def __init__(self, scope: RowScope, question: ListQuestion) -> None:
        self.question = question
        self.view: View = VIEWS[question.view]
        self.params: list[Any] = [question.limit + 1]
        self.branches = project_branches(scope.projects, self.params)
        self.where = self.predicate(scope)
        self.where_binds = len(self.params)
        self.layout = row_layout(
            question.view,
            question.shown(),
            question.sort,
            scope.may_read_content,
            self.search_rank(),
            question.clipped(),
            reads_parts=True,
        )
        is_by_time = self.layout.keys[0].name == "ts"
        # For an order by time an index returns sorted rows; otherwise rows are sorted, and should be narrow for that.
        self.is_sorted_wide = not is_by_time or search_text_of(question.filter) is not None
        # A single index plan is right for any values, so a generic plan may be used.
        self.follows_index = (
            is_by_time
            and self.view.keeps_time_order(question.filter)
            and len(scope.projects) <= MOST_BRANCHES
            and question.total == "none"
            and not question.include
        )

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
        self.window = " AND ".join(conditions) or "true"
        if tree is not None:
            is_summary = self.question.view == "traces"
            conditions.append(compile_filter(tree, self.params, scope=scope, window=window, is_summary=is_summary))
        return " AND ".join(conditions) or "true"

    def search_rank(self) -> str | None:
        if all(key.field != RANK for key in self.question.sort):
            return None
        query = search_query(search_text_of(self.question.filter) or "")
        return fragment("search_rank").format(
            query=self.bind(query.tsquery or "", "text"),
            any_word=self.bind(query.any_word, "text"),
            pattern=self.bind(query.any_pattern, "text"),
        )

    async def fetch(self, connection: asyncpg.Connection, plans: list[dict[str, Any]] | None) -> list[asyncpg.Record]:
        """Return the records of the page, and one more if the list goes on."""
        records: list[asyncpg.Record] = []
        for segment in self.segments():
            wanted = self.question.limit + 1 - len(records)
            if wanted <= 0:
                break
            statement, params = self.statement(segment), [wanted, *self.params[1:], *segment.params]
            records += await connection.fetch(statement, *params)
            if plans is not None:
                plans.append(await explain_statement(connection, statement, params))
        return records

    def segments(self) -> list[Segment]:
        """Return the parts of the list; each is read if those before it do not fill the page."""
        whole = segments(self.layout.keys, self.question.position, len(self.params) + 1)
        head, cut = self.layout.keys[0], self.first_slice_end()
        if cut is None:
            return whole
        return [part for segment in whole for part in segment.cut(head, cut, len(self.params) + 1)]

    def first_slice_end(self) -> datetime | None:
        """Return the moment at which a list by time is cut in two; None: it is read in one piece.

        The index of words does not contain times, so matches are fetched from the whole range and sorted, however few
        rows the page needs. Most pages find all their rows in the first days.
        """
        head, window, position = self.layout.keys[0], self.question.window, self.question.position
        if not self.view.is_partitioned or head.name != "ts" or search_text_of(self.question.filter) is None:
            return None
        now = datetime.now(UTC)  # no span is later, whatever the range is
        newest = now if window.end is None else min(window.end, now)
        begin, end = (newest, window.start) if head.descending else (window.start, window.end)
        begin = begin if position is None else position[0]
        if begin is None:
            return None
        cut = begin - FIRST_SLICE if head.descending else begin + FIRST_SLICE
        is_inside = end is None or (end < cut if head.descending else cut < end)
        return cut if is_inside else None

    def statement(self, segment: Segment) -> str:
        layout = self.layout
        ordered = {key.name for key in segment.keys}
        output_order = ", ".join(key.order(key.name) for key in layout.keys if key.name in ordered)
        is_late = self.is_sorted_wide and layout.is_heavy
        # Rows in the order of an index are cut as they are read: nothing is sorted, and a plain statement over one
        # table is planned in less time, above all by Citus.
        is_cut = self.follows_index and len(self.branches) == 1
        columns = layout.cut_columns if is_cut else layout.columns
        branches = [
            fragment("list_rows").format(
                columns=layout.key_columns if is_late else columns,
                table=self.view.table,
                project=project,
                predicate=f"{self.where} AND {segment.predicate}",
                order=segment.order_by(),
                limit="$1",
            )
            for project in self.branches
        ]
        page = branches[0]
        if len(branches) > 1:
            merged = " UNION ALL ".join(f"({branch})" for branch in branches)
            page = fragment("merge_branches").format(branches=merged, order=output_order, limit="$1")
        if layout.clipped and not is_cut:
            return fragment("clip_page").format(page=page, columns=layout.preview_columns, order=output_order)
        if not is_late:
            return page
        return fragment("fetch_page").format(
            page=page,
            columns=layout.late_columns,
            table=self.view.table,
            same_row=layout.same_row,
            order=output_order,
        )

    async def count(self, connection: asyncpg.Connection) -> Total | None:
        mode = self.question.total
        if mode == "none":
            return None
        if mode == "exact":
            return Total(await self.count_up_to(connection, None), "eq")
        if mode == "capped":
            counted = await self.count_up_to(connection, TOTAL_CAP + 1)
            return Total(min(counted, TOTAL_CAP), "gte" if counted > TOTAL_CAP else "eq")
        return Total(await self.count_sampled(connection), "approximate")

    async def count_sampled(self, connection: asyncpg.Connection) -> int:
        """Estimate the total: the share of matches among the newest rows, times the number of all rows in the window.

        Only rows of the question's own projects are read. The planner's estimate would cost less, but its statistics
        cover all projects, so it would reveal something about a neighbour's rows.
        """
        branches = " UNION ALL ".join(
            fragment("sample_branch").format(
                table=self.view.table,
                project=project,
                window=self.window,
                time=self.view.fields["ts"].expression(),
                predicate=predicate_of_branch(self.where, project),
            )
            for project in self.branches
        )
        statement = fragment("count_sampled").format(branches=branches)
        return int(await connection.fetchval(statement, ESTIMATE_SAMPLE, *self.params[1 : self.where_binds]))

    async def count_up_to(self, connection: asyncpg.Connection, most: int | None) -> int:
        statement = fragment("count_rows").format(branches=self.count_branches(most))
        params = [most or 0, *self.params[1 : self.where_binds]]
        return int(await connection.fetchval(statement, *params))

    def count_branches(self, most: int | None) -> str:
        # The first parameter is always the limit; a statement without a limit must still mention it.
        limit = " LIMIT $1" if most is not None else " AND $1::bigint IS NOT NULL"
        branches = [
            fragment("count_branch").format(table=self.view.table, project=project, predicate=self.where, limit=limit)
            for project in self.branches
        ]
        if len(branches) == 1:
            return branches[0]
        return " UNION ALL ".join(f"({branch})" for branch in branches) + (" LIMIT $1" if most is not None else "")
