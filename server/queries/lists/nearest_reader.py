"""The spans whose vectors are nearest to a question's, within a range and a filter.

There are three steps (docs/decisions/0170-vectors-in-plain-postgresql.md, 0174-candidates-by-distance.md): the signs of
the vectors' elements, which an index has beside project and time, choose some thousand candidates; the same signs, each
by its weight in the question, choose :data:`POOL` of them; then their vectors are compared exactly, here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np

from server.embedding.vectors import Vector, from_bytes, similarities, to_bits
from server.queries.filters.filter_sql import compile_filter, fragment
from server.queries.filters.filter_tree import Filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, Sort
from server.queries.lists.row_layout import row_layout
from server.queries.lists.vector_cut import CANDIDATES, EVERYTHING, bit_planes, choose_distance
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


class NearSpan(NamedTuple):
    """A span, and the cosine of its vector and the question's."""

    project_id: str
    ts: datetime
    trace_id: str
    span_id: str
    similarity: float
    text: bytes = b""
    """The same for spans that say the same, word for word."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Spans, nearest first. ``looked_at``: how many passed the filter and were compared; None: there was no filter.
    ``distance``: the distance within which rows were looked at more closely.
    """

    spans: list[NearSpan]
    looked_at: int | None = None
    distance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NearQuestion:
    """Where to look for near spans. ``cut``: only vectors that were there at that moment of the database's clock.
    ``distances``: those of the first page, by model; every page has the same candidates.
    """

    view: str
    window: TimeRange
    filter: Filter | None
    most: int
    """Rows of a project that are looked at, the newest of the range; with a filter all that pass it."""
    cut: datetime | None = None
    distances: Mapping[int, int] | None = None

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
) -> Nearest:
    """Return up to :data:`POOL` spans with vectors of the model, in a transaction of ``scope``."""
    if question.filter is not None or question.view != "spans":
        records = await _read(connection, scope, question, model_id, vector, None)
        return Nearest(_ranked(records, vector), _candidates(records))
    # Nothing but the index has to be read; a scan of the table would read the vectors too.
    await connection.execute(fragment("prefer_vector_index"))
    if question.distances is not None:
        distance, total = question.distances.get(model_id, EVERYTHING), question.most + 1
    else:
        distance, total = await choose_distance(
            connection, scope, question.window, model_id, vector, most=question.most
        )
    bounded = total > question.most
    records = await _read(connection, scope, question, model_id, vector, distance, bounded=bounded)
    step = len(vector) // 16
    while question.distances is None and _candidates(records) < POOL and distance < EVERYTHING:
        # The sample was not like the rest.
        distance, step = (distance + step, 2 * step) if distance + step < len(vector) else (EVERYTHING, 0)
        records = await _read(connection, scope, question, model_id, vector, distance, bounded=bounded)
    return Nearest(_ranked(records, vector), distance=distance)


async def _read(
    connection: asyncpg.Connection,
    scope: RowScope,
    question: NearQuestion,
    model_id: int,
    vector: Vector,
    distance: int | None,
    *,
    bounded: bool = False,
) -> list[asyncpg.Record]:
    """Return the pool: of rows within ``distance``, or (None) of those that pass the filter. ``bounded``: only the
    newest of a project are looked at.
    """
    bind = _Binds()
    pool = bind(POOL, "bigint")
    shared = {"bits": bind(to_bits(vector), "bit varying"), "model": bind(model_id, "smallint")}
    weight = " + ".join(
        f"{1 << place} * bit_count(differ & {bind(plane, 'bit varying')})"
        for place, plane in enumerate(bit_planes(vector))
    )
    if distance is None:
        branches = _filtered(scope, question, bind, shared)
        most = bind(CANDIDATES, "bigint")
        text = fragment("nearest_filtered").format(
            branches=" UNION ALL ".join(branches), weight=weight, pool=pool, most_candidates=most
        )
    else:
        branches = _unfiltered(scope, question, bind, {**shared, "distance": bind(distance, "bigint")}, bounded=bounded)
        text = fragment("nearest").format(
            branches=" UNION ALL ".join(branches), weight=weight, pool=pool, model=shared["model"]
        )
    records: list[asyncpg.Record] = await connection.fetch(text, *bind.values)
    return records


def _candidates(records: Sequence[asyncpg.Record]) -> int:
    return records[0]["candidates"] if records else 0


def _ranked(records: Sequence[asyncpg.Record], vector: Vector) -> list[NearSpan]:
    """Return the spans of ``records``, nearest first."""
    if not records:
        return []
    near = similarities(from_bytes((record["vector"] for record in records), len(vector)), vector)
    values = near.tolist()
    # Of equally near ones the newest is first: they come in that order.
    ordered = [(records[place], values[place]) for place in np.argsort(-near, kind="stable").tolist()]
    return [
        NearSpan(project, ts, trace_id, span_id, value, text_hash)
        for (project, ts, trace_id, span_id, text_hash, *_), value in ordered
    ]


def _unfiltered(
    scope: RowScope, question: NearQuestion, bind: _Binds, shared: Mapping[str, str], *, bounded: bool
) -> list[str]:
    window = _window("t", question.span_window(), bind, cut=question.cut)
    if bounded:
        shared = {**shared, "most": bind(question.most, "bigint")}
    return [
        fragment("nearest_newest_branch" if bounded else "nearest_branch").format(
            **shared, project=project, window=window
        )
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
