"""The spans whose vectors are nearest to a question's, within a range and a filter.

There are two steps (docs/decisions/0170-vectors-in-plain-postgresql.md): the signs of the vectors' elements, which an
index has beside project and time, choose :data:`POOL` rows; then their vectors are compared exactly, here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from server.embedding.vectors import Vector, from_bytes, similarities, to_bits
from server.queries.filters.filter_sql import compile_filter, fragment
from server.queries.filters.filter_tree import Filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, Sort
from server.queries.lists.row_layout import row_layout
from server.storage.project_branches import project_branches
from server.storage.row_scope import RowScope

POOL: Final = 1000
"""Rows that are compared exactly, and so ranked."""
TRACE_MARGIN: Final = timedelta(days=1)
"""How long after the start of its trace a span is looked for."""
_SAME: Final = {
    "spans": ("project_id", "trace_id", "span_id", "ts"),
    "traces": ("project_id", "trace_id"),
}
"""The columns by which a row of a view has vectors."""


@dataclass(frozen=True, slots=True)
class NearSpan:
    """A span, and the cosine of its vector and the question's."""

    project_id: str
    ts: datetime
    trace_id: str
    span_id: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NearQuestion:
    """Where to look for near spans. ``cut``: only vectors that were there at that moment of the database's clock."""

    view: str
    window: TimeRange
    filter: Filter | None
    most: int
    """Rows of a project that are looked at, the newest of the range; with a filter all that pass it."""
    cut: datetime | None = None

    def span_window(self) -> TimeRange:
        """Return the range of the spans: for traces it is that of their starts."""
        end = self.window.end
        if self.view == "traces" and end is not None:
            end += TRACE_MARGIN
        return TimeRange(self.window.start, end)


class _Binds:
    """The values of a statement, in the order of their placeholders."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def __call__(self, value: Any, sql_type: str) -> str:
        """Add a value; return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


async def read_nearest(
    connection: asyncpg.Connection, scope: RowScope, question: NearQuestion, model_id: int, vector: Vector
) -> list[NearSpan]:
    """Return up to :data:`POOL` spans with vectors of the model, nearest first, in a transaction of ``scope``."""
    bind = _Binds()
    pool = bind(POOL, "bigint")
    shared = {"bits": bind(to_bits(vector), "bit varying"), "model": bind(model_id, "smallint"), "pool": pool}
    if question.filter is None and question.view == "spans":
        branches = _unfiltered(scope, question, bind, shared)
        # Nothing but the index has to be read; a scan of the table would read the vectors too.
        await connection.execute(fragment("prefer_vector_index"))
    else:
        branches = _filtered(scope, question, bind, shared)
    statement = fragment("nearest").format(branches=" UNION ALL ".join(branches), pool=pool)
    records = await connection.fetch(statement, *bind.values)
    if not records:
        return []
    near = similarities(from_bytes((record["vector"] for record in records), len(vector)), vector)
    found = [
        NearSpan(record["project_id"], record["ts"], record["trace_id"], record["span_id"], value)
        for record, value in zip(records, near.tolist(), strict=True)
    ]
    return sorted(found, key=lambda span: (-span.similarity, -span.ts.timestamp(), span.trace_id, span.span_id))


def _unfiltered(scope: RowScope, question: NearQuestion, bind: _Binds, shared: Mapping[str, str]) -> list[str]:
    most = bind(question.most, "bigint")
    window = _window("t", question.span_window(), bind, cut=question.cut)
    return [
        fragment("nearest_branch").format(**shared, most=most, project=project, window=window)
        for project in project_branches(scope.projects, bind.values)
    ]


def _filtered(scope: RowScope, question: NearQuestion, bind: _Binds, shared: Mapping[str, str]) -> list[str]:
    view = VIEWS[question.view]
    window = _window("v", question.span_window(), bind, cut=question.cut)
    predicate = view_predicate(question.view, scope, question.window, question.filter, bind)
    return [
        fragment("nearest_filtered_branch").format(
            **shared,
            table=view.table,
            same=" AND ".join(f"t.{name} = v.{name}" for name in _SAME[question.view]),
            project=project,
            same_project=project.replace("t.project_id", "v.project_id"),
            window=window,
            predicate=predicate,
        )
        for project in project_branches(scope.projects, bind.values)
    ]


async def models_in_range(
    connection: asyncpg.Connection, scope: RowScope, window: TimeRange, model_ids: Sequence[int]
) -> set[int]:
    """Return which of ``model_ids`` have vectors in the range."""
    if not model_ids:
        return set()
    bind = _Binds()
    bind(list(model_ids), "smallint[]")
    bounds = _window("t", window, bind)
    branches = " OR ".join(
        fragment("model_branch").format(project=project, window=bounds)
        for project in project_branches(scope.projects, bind.values)
    )
    records = await connection.fetch(fragment("models_in_range").format(branches=branches), *bind.values)
    return {record["model_id"] for record in records}


async def count_coverage(
    connection: asyncpg.Connection, scope: RowScope, window: TimeRange, model_ids: Sequence[int], most: int
) -> tuple[int, int]:
    """Return how many spans of the range there are and how many have vectors, each up to ``most`` a project."""
    bind = _Binds()
    limit, models = bind(most, "bigint"), bind(list(model_ids), "smallint[]")
    bounds = _window("t", window, bind)
    branches = project_branches(scope.projects, bind.values)
    spans, vectors = (
        " UNION ALL ".join(
            fragment(name).format(project=project, window=bounds, models=models, limit=limit) for project in branches
        )
        for name in ("coverage_spans", "coverage_vectors")
    )
    record = await connection.fetchrow(fragment("count_coverage").format(spans=spans, vectors=vectors), *bind.values)
    if record is None:
        raise AssertionError("the statement has one row")
    return record["rows"], record["vectors"]


async def read_ranked_traces(
    connection: asyncpg.Connection,
    scope: RowScope,
    fields: tuple[str, ...],
    window: TimeRange,
    tree: Filter | None,
    keys: Sequence[tuple[str, str]],
) -> list[tuple[int, dict[str, Any]]]:
    """Return the summaries with ``keys`` (project, trace) that pass, each with its place among the keys from 0."""
    layout = row_layout("traces", fields, (Sort("ts"),), scope.may_read_content, None)
    bind = _Binds()
    for column in zip(*keys, strict=True):
        bind(list(column), "text[]")
    predicate = view_predicate("traces", scope, window, tree, bind)
    statement = fragment("list_ranked_traces").format(columns=layout.columns, predicate=predicate)
    records = await connection.fetch(statement, *bind.values)
    return [(record["place"] - 1, row) for record, row in zip(records, layout.rows(records), strict=True)]


def view_predicate(view: str, scope: RowScope, window: TimeRange, tree: Filter | None, bind: _Binds) -> str:
    """Return the predicate over ``t`` of the rows of ``view`` that are in the range and pass the filter."""
    time = VIEWS[view].fields["ts"].expression().removeprefix("t.")
    conditions = [_window("t", window, bind, column=time)]
    if tree is not None:
        conditions.append(compile_filter(tree, bind.values, scope=scope, window=window))
    return " AND ".join(conditions)


def _window(alias: str, window: TimeRange, bind: _Binds, *, column: str = "ts", cut: datetime | None = None) -> str:
    bounds = ((column, ">=", window.start), (column, "<", window.end), ("added_at", "<=", cut))
    conditions = [
        f"{alias}.{name} {sign} {bind(value, 'timestamptz')}" for name, sign, value in bounds if value is not None
    ]
    return " AND ".join(conditions) or "true"
