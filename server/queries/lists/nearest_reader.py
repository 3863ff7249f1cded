"""The spans whose vectors are nearest to a question's, within a range and a filter.

There are two steps (docs/decisions/0193-bits-are-compared-in-memory.md): what is kept of the vectors' elements chooses
up to :data:`COMPARED` rows; then their vectors are compared exactly, here. For a whole range the first step is done in
this process (:mod:`server.queries.lists.vector_cut`), for rows that pass a filter in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.embedding.vectors import Vector, from_bytes, similarities, to_bits
from server.fairness.off_loop import off_loop
from server.queries.filters.filter_sql import compile_filter
from server.queries.filters.filter_tree import Filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, Sort
from server.queries.lists.row_layout import row_layout
from server.queries.lists.vector_cut import NOTHING, Chosen, Measure, bit_planes
from server.queries.lists.vector_memory import BitQuestion, VectorMemory, as_moments
from server.storage.project_branches import project_branches
from server.storage.row_scope import RowScope
from server.storage.statements import fragment, statement

COMPARED: Final = 1250
"""Rows that are compared exactly, at most."""
COMPARED_FIRST: Final = 250
COMPARED_FOR_EACH: Final = 5
"""Rows that are compared exactly before all others, and further ones for each row of a page."""
POOL: Final = 1000
"""Rows that are ranked."""
WEIGHED: Final = 3000
"""Rows that are ordered by signs and sizes."""
PASSING: Final = 4000
"""Rows that pass a filter whose signs are weighed; they are chosen by the number of signs that differ."""
ROWS_A_VALUE: Final = 64
"""Rows whose signs are compared in the time of one value (see :mod:`server.fairness.off_loop`)."""
TRACE_MARGIN: Final = timedelta(days=1)
"""Time after the start of a trace within which its spans are searched for."""
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
    """Equal for spans whose texts are equal, word for word."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Spans, nearest first. ``looked_at``: the number of spans compared. ``is_bounded``: older spans were left out
    because of ``NearQuestion.most``. ``has_more``: the ranking goes on after ``NearQuestion.first``. ``is_all``: every
    vector of the range was compared.
    """

    spans: list[NearSpan]
    looked_at: int
    is_bounded: bool = False
    has_more: bool = False
    is_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NearQuestion:
    """Where to search for near spans. ``cut``: only vectors that were stored at that moment of the database's clock."""

    view: str
    window: TimeRange
    filter: Filter | None
    most: int
    """Most rows of a project that are compared: the newest of the range. With a filter, all that pass it are."""
    cut: datetime | None = None
    first: int = COMPARED
    """Rows that are compared exactly first. They come before all others, so a ranking that goes on begins the same."""
    is_whole: bool = True
    """Whether the ranking goes on to :data:`COMPARED`."""

    def span_window(self) -> TimeRange:
        """Return the range of the spans; for traces the window is about their starts."""
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
    connection: asyncpg.Connection,
    scope: RowScope,
    question: NearQuestion,
    model_id: int,
    vector: Vector,
    memory: VectorMemory,
    *,
    now: datetime,
) -> Nearest:
    """Return up to :data:`POOL` spans with vectors of the model, in a transaction of ``scope``. ``now``: the moment of
    that transaction.
    """
    if question.filter is not None:
        return await _passing(connection, scope, question, model_id, vector, question.span_window())
    later = None
    end = question.window.end
    if question.view == "traces" and end is not None and end < now:
        # Includes spans after the range, of traces that started within it.
        later = await _passing(connection, scope, question, model_id, vector, TimeRange(end, end + TRACE_MARGIN))
    # The index has everything that is needed; a scan of the table would read the vectors, too.
    await connection.execute(fragment("prefer_vector_index"))
    if later is not None:
        question = replace(question, first=COMPARED)
    nearest = await _of_range(connection, scope, question, model_id, vector, memory)
    if later is None:
        return nearest
    spans = sorted([*nearest.spans, *later.spans], key=lambda span: -span.similarity)[:POOL]
    return Nearest(spans, nearest.looked_at + later.looked_at, nearest.is_bounded)


async def _of_range(
    connection: asyncpg.Connection,
    scope: RowScope,
    question: NearQuestion,
    model_id: int,
    vector: Vector,
    memory: VectorMemory,
) -> Nearest:
    """Return the nearest of all rows of the range."""
    measure, chosen = Measure(vector), NOTHING
    asked = BitQuestion(window=question.window, model_id=model_id, most=question.most, cut=question.cut)
    looked_at = dict.fromkeys(scope.projects, 0)
    async for parts in memory.read(connection, scope, asked):
        for part in parts:
            looked_at[part.project_id] += len(part.ts)
        values = sum(len(part.ts) for part in parts)
        chosen = await off_loop(values // ROWS_A_VALUE, partial(measure.choose, parts, WEIGHED, chosen))
    total = sum(looked_at.values())
    ordered = measure.ordered(chosen)
    spans: list[NearSpan] = []
    for block in _blocks(question, min(len(ordered.ts), COMPARED)):
        spans += await _compared(connection, ordered.rows(block), model_id, vector)
    # It is not worth a statement to find out whether the range has more rows.
    is_bounded = max(looked_at.values(), default=0) >= question.most
    has_more = not question.is_whole and len(ordered.ts) > question.first
    is_all = not is_bounded and question.cut is None and question.view == "spans"
    return Nearest(spans[:POOL], total, is_bounded, has_more, is_all)


def _blocks(question: NearQuestion, count: int) -> list[NDArray[np.int64]]:
    """Return the places of ``count`` rows, by the blocks that are ordered."""
    end = count if question.is_whole else min(count, question.first)
    return [block for block in np.split(np.arange(end), [question.first]) if len(block)]


async def _compared(connection: asyncpg.Connection, chosen: Chosen, model_id: int, vector: Vector) -> list[NearSpan]:
    """Return the spans of those chosen rows that still exist, nearest first; among equally near ones, the newest
    first."""
    found: list[NearSpan] = []
    for project in sorted(set(chosen.projects.tolist())):
        mine = np.flatnonzero(chosen.projects == project)
        span_ids = [span_id.decode() for span_id in chosen.span_ids[mine].tolist()]
        moments = as_moments(chosen.ts[mine])
        (record,) = await connection.fetch(statement("read_chosen_vectors"), project, moments, span_ids, model_id)
        if record["places"] is None:
            continue
        near = similarities(from_bytes([record["vectors"]], len(vector)), vector).tolist()
        found += [
            NearSpan(project, moments[place - 1], trace_id, span_ids[place - 1], value, text)
            for place, trace_id, value, text in zip(
                record["places"], record["trace_ids"], near, record["texts"], strict=True
            )
        ]
    found.sort(key=attrgetter("ts", "span_id"), reverse=True)
    found.sort(key=attrgetter("similarity"), reverse=True)
    return found


async def _passing(
    connection: asyncpg.Connection,
    scope: RowScope,
    question: NearQuestion,
    model_id: int,
    vector: Vector,
    spans: TimeRange,
) -> Nearest:
    """Return the nearest of the rows that pass the filter and whose spans are within ``spans``."""
    bind = _Binds()
    compared, passing = bind(COMPARED, "bigint"), bind(PASSING, "bigint")
    shared = {"bits": bind(to_bits(vector), "bit varying"), "model": bind(model_id, "smallint")}
    weight = " + ".join(
        f"{1 << place} * bit_count(differ & {bind(plane, 'bit varying')})"
        for place, plane in enumerate(bit_planes(vector))
    )
    branches = _filtered(scope, question, spans, bind, shared)
    text = fragment("nearest_filtered").format(
        branches=" UNION ALL ".join(branches), weight=weight, pool=compared, most_candidates=passing
    )
    records = await connection.fetch(text, *bind.values)
    if not records:
        return Nearest([], 0)
    near = similarities(from_bytes((record["vector"] for record in records), len(vector)), vector)
    values = near.tolist()
    # The sort is stable and rows come newest first, so that among equally near ones the newest is first.
    ordered = [(records[place], values[place]) for place in np.argsort(-near, kind="stable")[:POOL].tolist()]
    return Nearest(
        [
            NearSpan(project, ts, trace_id, span_id, value, text_hash)
            for (project, ts, trace_id, span_id, text_hash, *_), value in ordered
        ],
        records[0]["candidates"],
    )


def _filtered(
    scope: RowScope, question: NearQuestion, spans: TimeRange, bind: _Binds, shared: Mapping[str, str]
) -> list[str]:
    view = VIEWS[question.view]
    window = _window("v", spans, bind, cut=question.cut)
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
    """Return those of ``model_ids`` that have vectors in the range."""
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
