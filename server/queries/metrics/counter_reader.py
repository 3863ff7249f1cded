"""Counters over many windows at once: what a language of time series (PromQL, TraceQL metrics) asks of the engine.

A :class:`~server.queries.metrics.metric_question.MetricQuestion` splits a range into buckets; here windows may
overlap, have gaps and begin anywhere. Their edges cut the range into cells, which are read like the buckets of any
question, from the same tables by the same statements; a window is the sum of its cells. Sums are of whole numbers
(money in 1e-10 US dollars, durations in microseconds), so that no order of adding changes a digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from server.errors import InsufficientScope, QueryTooLarge
from server.queries.filters.filter_tree import Filter, leaves
from server.queries.filters.span_fields import FIELDS
from server.queries.metrics.metric_catalog import HISTOGRAM_BOUNDS, Dimension, Family
from server.queries.metrics.metric_fetch import Fetched, fetch, fetch_sketches
from server.queries.metrics.metric_formula import MONEY_COUNTERS, Needs
from server.queries.metrics.metric_interval import Interval
from server.queries.metrics.raw_sql import Target
from server.queries.metrics.source_plan import GRAINS, SourcePlan, Timeline, plan_sources
from server.rollups import sketch
from server.rollups.sketch import PERCENTILES
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Key = tuple[str, ...]

MONEY_UNIT: Final = 10**10
"""How many units of a money counter are one US dollar."""
SCORE_UNIT: Final = 10**6
"""How many units of the counter score_sum are one point."""
MOST_CELLS: Final = 4_000_000
LONGEST_RAW: Final = timedelta(hours=6)
"""How much time is read from single spans, for edges that fit no rollup; beyond it edges move to the next rollup."""
LINGER_MS: Final = 86_400_000
"""A series is there, with the value zero, for a day after it last counted something."""
HOUR_MS: Final = 3_600_000
_EXACT_MS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterQuestion:
    """The counts wanted within each of the windows ``[lows[i], highs[i])``, in ms since 1970, for every group.

    ``presence`` is the counter that tells whether a group has anything at all. ``sketch`` names the values of which
    ``histogram`` asks counts up to :data:`HISTOGRAM_BOUNDS`, ``fraction`` one percentile, ``entries`` the bins.
    ``lingers``: groups with nothing in a window but something in the day before it are given with zero.
    """

    family: Family
    presence: str
    counters: tuple[str, ...]
    lows: Ints
    highs: Ints
    dimensions: tuple[Dimension, ...] = ()
    filter: Filter | None = None
    sketch: str | None = None
    histogram: bool = False
    fraction: float | None = None
    entries: bool = False
    lingers: bool = True

    def needs(self, *, of_percentile: bool) -> Needs:
        """Return the parts to read; percentiles ready made where every window is one cell."""
        counters = tuple(dict.fromkeys((self.presence, *self.counters)))
        fractions: dict[str, tuple[float, ...]] = {}
        if of_percentile and self.sketch and self.fraction:
            fractions[self.sketch] = (self.fraction,)
        histograms = frozenset({self.sketch} if self.sketch and not of_percentile else ())
        return Needs(self.family, self.presence, counters, fractions, histograms, ())


@dataclass(frozen=True, slots=True)
class SketchEntries:
    """Bins of one group and window after another: ``cell`` is ``group × windows + window``."""

    cell: Ints
    bins: Ints
    counts: Ints

    @classmethod
    def none(cls) -> SketchEntries:
        """Return no bins at all."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, nothing, nothing)


@dataclass(slots=True)
class WindowCounts:
    """Sums by group and window. ``milliseconds``: the length of each window as it was read.

    ``present`` tells which groups are there at which window. ``buckets[group, window, bound]`` counts values up to
    each bound (the last: all).
    """

    groups: list[Key]
    milliseconds: Ints
    present: Flags
    counters: dict[str, Ints]
    buckets: Ints | None = None
    percentiles: Floats | None = None
    entries: SketchEntries | None = None
    notices: list[str] = field(default_factory=list)


async def read_windows(database: Database, scope: RowScope, question: CounterQuestion) -> WindowCounts:
    """Answer ``question`` over the rows of ``scope``, in one snapshot.

    Edges are exact to the millisecond where rollups fit them or at most :data:`LONGEST_RAW` of single spans fill the
    gaps; else they are moved to the nearest five minutes or hour, and ``milliseconds`` and a notice say so.

    Raises:
        InsufficientScope: it counts money, or splits or filters by money or content, that ``scope`` may not read.
        QueryTooLarge: more than :data:`MOST_CELLS` cells.
        QueryTimeout: it took longer than the pool's statement time-out.

    """
    _check_readable(scope, question)
    async with database.read(scope) as connection:
        (state,) = await connection.fetch(statement("read_rollup_state"))
        target = Target(scope, question.dimensions, question.filter)
        return await _Reading(connection, target, question, state["raw_since"], state["rollup_5m_since"]).run()


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


@dataclass(slots=True)
class _Reading:
    connection: asyncpg.Connection
    target: Target
    question: CounterQuestion
    raw_since: datetime
    rollup_5m_since: datetime

    async def run(self) -> WindowCounts:
        question = self.question
        grain, lows, highs = self._edges_that_fit()
        edges = np.unique(np.concatenate((lows, highs)))
        linger = _linger_edges(highs) if question.lingers else np.empty(0, dtype=np.int64)
        shares_cells = not (edges % HOUR_MS).any() and len(linger) > 0
        if shares_cells:
            edges = np.unique(np.concatenate((edges, linger)))
        first, last = np.searchsorted(edges, lows), np.searchsorted(edges, highs)
        of_percentile = question.fraction in PERCENTILES.values() and bool((last - first == 1).all())
        needs = question.needs(of_percentile=of_percentile)
        timeline = _timeline(edges)
        plan = self._plan(needs, timeline)
        fetched, entries = await self._fetch(needs, plan, timeline, of_percentile=of_percentile)
        counts = _window_sums(question, fetched, edges, first, last)
        counts.milliseconds = highs - lows
        if grain > _EXACT_MS:
            counts.notices.append(f"windows are moved to whole {'hours' if grain == HOUR_MS else 'five minutes'}")
        if of_percentile and question.sketch is not None:
            cells = fetched.cells.quantiles[question.sketch, float(question.fraction or 0)]
            table = np.array(cells, dtype=np.float64).reshape(len(fetched.groups), len(edges) - 1)
            counts.percentiles = table[:, first]
        elif entries is not None:
            counts.entries = _window_entries(entries, len(edges) - 1, first, last, len(fetched.groups))
        if question.histogram and question.sketch is not None:
            counts.buckets = _window_buckets(fetched.cells.histograms[question.sketch], fetched, edges, first, last)
        if len(linger):
            if shares_cells:
                at = _hour_floor(highs)
                before = _table(fetched.cells.counters[question.presence], len(fetched.groups), len(edges) - 1)
                running = _running(before)
                recent = running[:, np.searchsorted(edges, at)] - running[:, np.searchsorted(edges, at - LINGER_MS)]
                counts.present |= recent > 0
            else:
                await self._add_lingering(counts, highs, linger)
        return counts

    def _edges_that_fit(self) -> tuple[int, Ints, Ints]:
        """Return the finest grain that can be read, and the windows moved to it."""
        question = self.question
        for grain in (_EXACT_MS, int(GRAINS[-1].width.total_seconds() * 1000), HOUR_MS):
            lows, highs = _moved(question.lows, question.highs, grain)
            timeline = _timeline(np.unique(np.concatenate((lows, highs))))
            plan = self._plan(question.needs(of_percentile=False), timeline)
            if not plan.rollups and question.family != "spans":
                break
            read = sum((high - low for low, high in (*plan.raw, *plan.less)), timedelta())
            gone = any(low < self.raw_since for low, _ in plan.raw)
            if read <= LONGEST_RAW and not gone:
                break
        return grain, lows, highs

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
                f"{len(fetched.groups)} series at {timeline.buckets} places are too many: sum by fewer labels, or"
                " choose a shorter range or a wider step."
            )
        return fetched, entries

    async def _add_lingering(self, counts: WindowCounts, highs: Ints, linger: Ints) -> None:
        """Mark what counted something in the whole hours of the day before, and add the groups that only did so."""
        question = self.question
        needs = Needs(question.family, question.presence, (question.presence,), {}, frozenset(), ())
        timeline = _timeline(linger)
        found = await fetch(self.connection, self.target, needs, self._plan(needs, timeline), timeline, None)
        running = _running(_table(found.cells.counters[question.presence], len(found.groups), timeline.buckets))
        at = _hour_floor(highs)
        recent = running[:, np.searchsorted(linger, at)] - running[:, np.searchsorted(linger, at - LINGER_MS)] > 0
        places = {key: row for row, key in enumerate(counts.groups)}
        added = [row for row, key in enumerate(found.groups) if key not in places and recent[row].any()]
        for row, key in enumerate(found.groups):
            if key in places:
                counts.present[places[key]] |= recent[row]
        if not added:
            return
        counts.groups += [found.groups[row] for row in added]
        counts.present = np.concatenate((counts.present, recent[added]))
        empty = np.zeros((len(added), counts.present.shape[1]), dtype=np.int64)
        counts.counters = {name: np.concatenate((table, empty)) for name, table in counts.counters.items()}
        if counts.buckets is not None:
            shape = (len(added), *counts.buckets.shape[1:])
            counts.buckets = np.concatenate((counts.buckets, np.zeros(shape, dtype=np.int64)))
        if counts.percentiles is not None:
            counts.percentiles = np.concatenate((counts.percentiles, np.full(empty.shape, np.nan)))


def _moved(lows: Ints, highs: Ints, grain: int) -> tuple[Ints, Ints]:
    """Return windows with edges at multiples of ``grain``, as nearly as possible as long as before."""
    if grain == _EXACT_MS:
        return lows, highs
    ends = (highs + grain // 2) // grain * grain
    return ends - np.maximum((highs - lows + grain // 2) // grain, 1) * grain, ends


def _hour_floor(moments: Ints) -> Ints:
    return moments // HOUR_MS * HOUR_MS


def _linger_edges(highs: Ints) -> Ints:
    at = _hour_floor(highs)
    return np.unique(np.concatenate((at, at - LINGER_MS)))


def _timeline(edges: Ints) -> Timeline:
    boundaries = tuple(datetime.fromtimestamp(edge / 1000, UTC) for edge in edges.tolist())
    steps = np.diff(edges)
    is_hourly = bool((steps == HOUR_MS).all()) and edges[0] % HOUR_MS == 0
    return Timeline(boundaries[0], boundaries[-1], boundaries, Interval(seconds=3600) if is_hourly else None)


def _table(cells: Sequence[object], groups: int, buckets: int) -> NDArray[np.generic]:
    return np.array(cells).reshape(groups, buckets)


def _running(table: NDArray[np.generic]) -> Ints:
    """Sum up to each edge."""
    running = np.zeros((table.shape[0], table.shape[1] + 1), dtype=np.int64)
    np.cumsum(table, axis=1, out=running[:, 1:])
    return running


def _window_sums(question: CounterQuestion, fetched: Fetched, edges: Ints, first: Ints, last: Ints) -> WindowCounts:
    groups, buckets = len(fetched.groups), len(edges) - 1
    counters = {}
    for name in fetched.cells.needs.counters:
        cells = fetched.cells.counters[name]
        unit = MONEY_UNIT if name in MONEY_COUNTERS else SCORE_UNIT if name == "score_sum" else 1
        whole = np.fromiter((round(value * unit) for value in cells), dtype=np.int64, count=len(cells))
        running = _running(whole.reshape(groups, buckets))
        counters[name] = running[:, last] - running[:, first]
    present = counters[question.presence] > 0
    return WindowCounts([tuple(key) for key in fetched.groups], np.empty(0, dtype=np.int64), present, counters)


def _window_buckets(cells: Sequence[Sequence[int]], fetched: Fetched, edges: Ints, first: Ints, last: Ints) -> Ints:
    bounds = len(HISTOGRAM_BOUNDS) + 1
    table = np.array(cells, dtype=np.int64).reshape(len(fetched.groups), len(edges) - 1, bounds)
    up_to = np.cumsum(table, axis=2)
    running = np.zeros((up_to.shape[0], up_to.shape[1] + 1, bounds), dtype=np.int64)
    np.cumsum(up_to, axis=1, out=running[:, 1:])
    return running[:, last] - running[:, first]


def _window_entries(
    entries: tuple[list[int], list[bytes]], buckets: int, first: Ints, last: Ints, groups: int
) -> SketchEntries:
    """Return the bins of each window: sketches of its cells merged, one group after the other."""
    owners, sketches = np.array(entries[0], dtype=np.int64), entries[1]
    cells, bins_of, counts_of = [], [], []
    windows = len(first)
    for group in range(groups):
        places = np.flatnonzero(owners // buckets == group)
        if not len(places):
            continue
        merged = sketch.merge([sketches[place] for place in places.tolist()], owners[places] % buckets, buckets)
        low = int(merged.bins.min(initial=0))
        width = int(merged.bins.max(initial=0)) - low + 1
        running = np.zeros((buckets + 1, width), dtype=np.int64)
        running[merged.group + 1, merged.bins - low] = merged.counts
        np.cumsum(running, axis=0, out=running)
        sums = np.maximum(running[last] - running[first], 0)
        window, place = np.nonzero(sums)
        cells.append(group * windows + window)
        bins_of.append(place + low)
        counts_of.append(sums[window, place])
    if not cells:
        return SketchEntries.none()
    return SketchEntries(np.concatenate(cells), np.concatenate(bins_of), np.concatenate(counts_of))
