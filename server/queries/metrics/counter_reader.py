"""Counters over many windows at once, for languages of time series (PromQL, TraceQL metrics).

A :class:`~server.queries.metrics.metric_question.MetricQuestion` splits a range into buckets; here windows may overlap,
have gaps and begin anywhere. Their edges cut the range into cells, which are read like the buckets of any question,
from the same tables by the same statements; a window is the sum of its cells. Sums are of whole numbers (money in 1e-10
US dollars, durations in microseconds), so the order of adding cannot change a digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import asyncpg
import numpy as np

from server.errors import InsufficientScope, QueryTooLarge
from server.fairness.off_loop import off_loop
from server.queries.filters.filter_tree import leaves
from server.queries.filters.span_fields import FIELDS
from server.queries.metrics.counter_question import CounterQuestion, Ints
from server.queries.metrics.metric_catalog import HISTOGRAM_BOUNDS
from server.queries.metrics.metric_fetch import Fetched, fetch, fetch_sketches
from server.queries.metrics.metric_formula import MONEY_COUNTERS, Needs
from server.queries.metrics.metric_interval import Interval
from server.queries.metrics.raw_sql import Piece, Target
from server.queries.metrics.source_plan import GRAINS, SourcePlan, Timeline, plan_sources
from server.queries.metrics.span_total import estimate_spans
from server.queries.metrics.window_sums import (
    EXACT_MS,
    HOUR_MS,
    LINGER_MS,
    ReadCells,
    WindowCounts,
    hour_floor,
)
from server.rollups.sketch import PERCENTILES
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_CELLS: Final = 4_000_000
"""Most cells: groups times points in time, times the buckets of a histogram."""
SHORT_RAW: Final = timedelta(minutes=15)
"""Time that is read from single spans whatever their number, for edges that fit no rollup."""
MOST_RAW_SPANS: Final = 200_000
"""Approximate number of single spans that are read for a longer time; beyond it, edges move to those of a rollup."""


async def read_windows(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
    """Answer ``question`` over the rows of ``scope``, in one snapshot.

    Edges are exact to the millisecond if rollups fit them, or if single spans fill the gaps: those of
    :data:`SHORT_RAW`, or about :data:`MOST_RAW_SPANS` of them. Otherwise edges are moved to the nearest five minutes or
    hour; ``milliseconds`` has the resulting lengths, and a notice is added.

    Raises:
        InsufficientScope: the question counts money, or splits or filters by money or content, and ``scope`` may not
            read that.
        QueryTooLarge: more than :data:`MOST_CELLS` cells.
        QueryTimeout: it took longer than the pool's statement time-out.

    """
    _check_readable(scope, question)
    async with database.read(scope) as connection:
        (state,) = await connection.fetch(statement("read_rollup_state"))
        target = Target(scope, question.dimensions, question.filter)
        found = await _Reading(connection, target, question, state["raw_since"], state["rollup_5m_since"]).run()
    # Adding up takes long for many series, and needs no connection.
    return await off_loop(found.weight, found.counts)


def _check_readable(scope: RowScope, question: CounterQuestion) -> None:
    columns = [FIELDS.get(dimension.column) for dimension in question.dimensions if not dimension.is_attribute]
    has_content = any(item.is_attribute for item in question.dimensions) or any(
        column is not None and column.is_content for column in columns
    )
    if has_content and not scope.may_read_content:
        raise InsufficientScope("Attributes and messages hold content, which this credential may not read.")
    filtered = () if question.filter is None else leaves(question.filter)
    asks_money = not MONEY_COUNTERS.isdisjoint(question.counters) or any(
        leaf.field.permission == "costs:read" for leaf in filtered
    )
    if asks_money and not scope.may_read_costs:
        raise InsufficientScope("Money needs the scope costs:read.")


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of a question. Finding those of tens of thousands of windows takes a tenth of a second, so it happens
    beside the event loop.
    """

    edges: Ints
    linger: Ints
    has_linger: bool
    """Whether the edges of ``linger`` are among ``edges``."""
    first: Ints
    last: Ints
    of_percentile: bool
    needs: Needs
    timeline: Timeline
    plan: SourcePlan


@dataclass(slots=True)
class _Reading:
    connection: asyncpg.Connection
    target: Target
    question: CounterQuestion
    raw_since: datetime
    rollup_5m_since: datetime

    async def run(self) -> ReadCells:
        """Read what ``question`` needs."""
        question = self.question
        grain, lows, highs = await self._edges_that_fit()
        cells = await off_loop(2 * len(lows), partial(self._cells, lows, highs))
        edges, linger, of_percentile = cells.edges, cells.linger, cells.of_percentile
        fetched, entries = await self._fetch(cells.needs, cells.plan, cells.timeline, of_percentile=of_percentile)
        before = await self._fetch_lingering(linger) if len(linger) and not cells.has_linger else None
        first, last = cells.first, cells.last
        return ReadCells(
            question, grain, lows, highs, edges, first, last, linger, of_percentile, fetched, entries, before
        )

    def _cells(self, lows: Ints, highs: Ints) -> _Cells:
        """Return the cells that the edges of windows cut the range into, and where to read them."""
        question = self.question
        edges = np.unique(np.concatenate((lows, highs)))
        linger = _linger_edges(highs) if question.lingers else np.empty(0, dtype=np.int64)
        has_linger = not (edges % HOUR_MS).any() and len(linger) > 0
        if has_linger:
            edges = np.unique(np.concatenate((edges, linger)))
        first, last = np.searchsorted(edges, lows), np.searchsorted(edges, highs)
        of_percentile = question.fraction in PERCENTILES.values() and bool((last - first == 1).all())
        needs, timeline = question.needs(of_percentile=of_percentile), _timeline(edges)
        return _Cells(
            edges, linger, has_linger, first, last, of_percentile, needs, timeline, self._plan(needs, timeline)
        )

    async def _edges_that_fit(self) -> tuple[int, Ints, Ints]:
        """Return the finest grain that can be read, and the windows moved to it."""
        question = self.question
        for grain in (EXACT_MS, int(GRAINS[-1].width.total_seconds() * 1000), HOUR_MS):
            lows, highs, plan = await off_loop(2 * len(question.lows), partial(self._at_grain, grain))
            if not plan.rollups and question.family != "spans":
                break
            gone = any(low < self.raw_since for low, _ in plan.raw)
            if not gone and await self._are_few([*plan.raw, *plan.less]):
                break
        return grain, lows, highs

    def _at_grain(self, grain: int) -> tuple[Ints, Ints, SourcePlan]:
        """Return the windows moved to ``grain``, and where their cells would be read."""
        lows, highs = _moved(self.question.lows, self.question.highs, grain)
        timeline = _timeline(np.unique(np.concatenate((lows, highs))))
        return lows, highs, self._plan(self.question.needs(of_percentile=False), timeline)

    async def _are_few(self, pieces: Sequence[Piece]) -> bool:
        """Return whether the spans of ``pieces`` may be read one by one."""
        length = sum((high - low for low, high in pieces), timedelta())
        if length <= SHORT_RAW:
            return True
        scope = self.target.scope
        return await estimate_spans(self.connection, scope, pieces, self.rollup_5m_since) <= MOST_RAW_SPANS

    def _plan(self, needs: Needs, timeline: Timeline) -> SourcePlan:
        return plan_sources(self.target, needs, timeline, self.rollup_5m_since, self.raw_since)

    async def _fetch(
        self, needs: Needs, plan: SourcePlan, timeline: Timeline, *, of_percentile: bool
    ) -> tuple[Fetched, tuple[list[int], list[bytes]] | None]:
        question = self.question
        wants_entries = question.entries or (question.fraction is not None and not of_percentile)
        if wants_entries:
            fetched, owners, sketches = await fetch_sketches(self.connection, self.target, needs, plan, timeline)
            entries = (owners, sketches)
        else:
            fetched, entries = await fetch(self.connection, self.target, needs, plan, timeline, None), None
        width = 1 + len(HISTOGRAM_BOUNDS) * question.histogram
        if len(fetched.groups) * timeline.buckets * width > MOST_CELLS:
            raise QueryTooLarge(
                f"{len(fetched.groups)} series at {timeline.buckets} points in time are too many: sum by fewer labels, "
                "or choose a shorter range or a wider step."
            )
        return fetched, entries

    async def _fetch_lingering(self, linger: Ints) -> Fetched:
        """Read the groups that counted something in the whole hours of the day before."""
        question = self.question
        needs = Needs(question.family, question.presence, (question.presence,), {}, frozenset(), ())
        timeline = await off_loop(len(linger), partial(_timeline, linger))
        return await fetch(self.connection, self.target, needs, self._plan(needs, timeline), timeline, None)


def _moved(lows: Ints, highs: Ints, grain: int) -> tuple[Ints, Ints]:
    """Return the windows with edges at multiples of ``grain``, as close as possible to their former lengths."""
    if grain == EXACT_MS:
        return lows, highs
    ends = (highs + grain // 2) // grain * grain
    return ends - np.maximum((highs - lows + grain // 2) // grain, 1) * grain, ends


def _linger_edges(highs: Ints) -> Ints:
    at = hour_floor(highs)
    return np.unique(np.concatenate((at, at - LINGER_MS)))


def _timeline(edges: Ints) -> Timeline:
    boundaries = tuple(datetime.fromtimestamp(edge / 1000, UTC) for edge in edges.tolist())
    steps = np.diff(edges)
    is_hourly = bool((steps == HOUR_MS).all()) and edges[0] % HOUR_MS == 0
    return Timeline(boundaries[0], boundaries[-1], boundaries, Interval(seconds=3600) if is_hourly else None)
