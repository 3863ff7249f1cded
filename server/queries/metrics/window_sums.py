"""The sums of windows, from the cells that were read for them: pure arithmetic, which may take long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.errors import QueryTooLarge
from server.queries.metrics.counter_question import CounterQuestion, Ints
from server.queries.metrics.metric_catalog import HISTOGRAM_BOUNDS
from server.queries.metrics.metric_fetch import Fetched
from server.queries.metrics.metric_formula import MONEY_COUNTERS
from server.rollups import sketch

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Key = tuple[str, ...]

MONEY_UNIT: Final = 10**10
"""Units of a money counter per US dollar."""
SCORE_UNIT: Final = 10**6
"""Units of the counter score_sum per point."""
LINGER_MS: Final = 86_400_000
"""Time for which a series still exists, with the value zero, after it last counted something."""
HOUR_MS: Final = 3_600_000
EXACT_MS: Final = 1
_SKETCH_WEIGHT: Final = 50
_MOST_BINS: Final = 16_000_000
"""Most bins of merged sketches, times windows."""


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
    """Sums by group and window. ``milliseconds``: the length of each window that was read.

    ``present`` is true where a group exists in a window. ``buckets[group, window, bound]`` counts values up to each
    bound (the last: all).
    """

    groups: list[Key]
    milliseconds: Ints
    present: Flags
    counters: dict[str, Ints]
    buckets: Ints | None = None
    percentiles: Floats | None = None
    entries: SketchEntries | None = None
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReadCells:
    """The data read for a question whose windows, moved to multiples of ``grain``, begin at ``lows`` and end at
    ``highs``. There is a cell between each two ``edges``; a window has the cells from ``first`` to before ``last``.
    """

    question: CounterQuestion
    grain: int
    lows: Ints
    highs: Ints
    edges: Ints
    first: Ints
    last: Ints
    linger: Ints
    of_percentile: bool
    fetched: Fetched
    entries: tuple[list[int], list[bytes]] | None
    before: Fetched | None

    @property
    def weight(self) -> int:
        """Approximate number of values to add up."""
        cells = len(self.fetched.groups) * len(self.edges)
        sketches = 0 if self.entries is None else len(self.entries[1])
        return cells * len(self.fetched.cells.needs.counters) + _SKETCH_WEIGHT * sketches

    def counts(self) -> WindowCounts:
        """Return the sums of each window."""
        question, fetched, edges, first, last = self.question, self.fetched, self.edges, self.first, self.last
        counts = _window_sums(question, fetched, edges, first, last)
        counts.milliseconds = self.highs - self.lows
        if self.grain > EXACT_MS:
            counts.notices.append(f"windows are moved to whole {'hours' if self.grain == HOUR_MS else 'five minutes'}")
        if self.of_percentile and question.sketch is not None:
            cells = fetched.cells.quantiles[question.sketch, float(question.fraction or 0)]
            table = np.array(cells, dtype=np.float64).reshape(len(fetched.groups), len(edges) - 1)
            counts.percentiles = table[:, first]
        elif self.entries is not None:
            counts.entries = _window_entries(self.entries, len(edges) - 1, first, last, len(fetched.groups))
        if question.histogram and question.sketch is not None:
            counts.buckets = _window_buckets(fetched.cells.histograms[question.sketch], fetched, edges, first, last)
        if self.before is not None:
            self._add_lingering(counts, self.before)
        elif len(self.linger):
            at = hour_floor(self.highs)
            before = _table(fetched.cells.counters[question.presence], len(fetched.groups), len(edges) - 1)
            running = _running(before)
            recent = running[:, np.searchsorted(edges, at)] - running[:, np.searchsorted(edges, at - LINGER_MS)]
            counts.present |= recent > 0
        return counts

    def _add_lingering(self, counts: WindowCounts, found: Fetched) -> None:
        """Mark the groups that counted something in the day before as present, and add those that counted only then."""
        linger = self.linger
        buckets = len(linger) - 1
        running = _running(_table(found.cells.counters[self.question.presence], len(found.groups), buckets))
        at = hour_floor(self.highs)
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


def hour_floor(moments: Ints) -> Ints:
    """Return the whole hours at or before ``moments``."""
    return moments // HOUR_MS * HOUR_MS


def _table(cells: Sequence[object], groups: int, buckets: int) -> NDArray[np.generic]:
    return np.array(cells).reshape(groups, buckets)


def _running(table: NDArray[np.generic]) -> Ints:
    """Return running sums up to each edge."""
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
    """Return the bins of each window: the merged sketches of its cells, one group after the other."""
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
        if (max(buckets, windows) + 1) * width > _MOST_BINS:
            raise QueryTooLarge(
                f"{max(buckets, windows)} windows of {width} bins are too many: choose a shorter range or a wider step."
            )
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
