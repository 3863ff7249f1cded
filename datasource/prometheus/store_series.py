"""Time series of the store: what PromQL reads, asked of the metric engine.

Counters are not sampled: the value at a moment, and the growth within a window, is counted from spans and rollups, so
that nothing is extrapolated. A counter is zero at the UTC midnight at or before the earliest moment that the question
reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from datasource.prometheus.counted_rows import accepts, counted_rows
from datasource.prometheus.gauges import GAUGES, Gauge
from datasource.prometheus.label_filter import LabelFilter, label_filter
from datasource.prometheus.promql.aggregation import group_labels, reduce_groups
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.histograms import native_quantile
from datasource.prometheus.promql.plan import Kept, Read
from datasource.prometheus.promql.syntax import NAME_LABEL, Matcher
from datasource.prometheus.promql.values import (
    Histograms,
    Ints,
    Series,
    Value,
    Vector,
    Windows,
    empty_vector,
    label,
    labels_of,
    merged,
)
from datasource.prometheus.series_catalog import BOUND_LABELS, FAMILY_OF, SeriesFamily
from datasource.prometheus.shared_counts import SharedCounts
from server.errors import InsufficientScope
from server.fairness.off_loop import off_loop
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.window_sums import SketchEntries, WindowCounts
from server.rollups.sketch import GAMMA
from server.storage.database import Database
from server.storage.row_scope import RowScope

EVERY_SERIES: Final[Mapping[str, SeriesFamily | Gauge]] = {**FAMILY_OF, **GAUGES}
LOOKBACK_MS: Final = 300_000
"""How long after now the last value still counts by default, as in Prometheus."""
DAY_MS: Final = 86_400_000
LATEST_MS: Final = 253_370_764_800_000
_SECONDS: Final = 1000.0
_FINEST_SAMPLES_MS: Final = 60_000
_MOST_SAMPLES: Final = 1500
_ROW_WEIGHT: Final = 10
"""Cost of writing the labels of a series, in values."""


@dataclass(slots=True)
class StoreSeries:
    """The series that one caller may see. ``now`` in ms; ``origin``: where counters of naked selectors begin;
    ``lookback``: how long after now the last value still counts.
    """

    database: Database
    scope: RowScope
    now: int
    scopes: frozenset[str]
    origin: int = 0
    lookback: int = LOOKBACK_MS
    infos: list[str] = field(default_factory=list)
    shared: SharedCounts = field(default_factory=SharedCounts)

    def begin_at(self, earliest: int) -> None:
        """Let counters begin at the UTC midnight at or before ``earliest``."""
        self.origin = max(earliest, 0) // DAY_MS * DAY_MS

    def counts(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether the matchers choose counters alone."""
        names = self.names(matchers)
        return bool(names) and not any(name in GAUGES or _is_native(name) for name in names)

    def adds_up(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether they choose counters of one name."""
        return len(self.names(matchers)) == 1 and self.counts(matchers)

    def has_buckets(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether they name all buckets of a histogram, or it as a native one."""
        names = self.names(matchers)
        is_one = len(names) == 1 and (_is_native(names[0]) or names[0].endswith("_bucket"))
        return is_one and not any(item.name == "le" for item in matchers)

    def counts_alike(self, one: Sequence[Matcher], other: Sequence[Matcher]) -> bool:
        """Return whether both choose counters of the same spans."""
        families = {name: FAMILY_OF.get(name) for name in (*self.names(one), *self.names(other))}
        spans = {family and (family.family, family.presence) for family in families.values()}
        return len(spans) == 1 and None not in spans

    def names(self, matchers: Sequence[Matcher]) -> list[str]:
        """Return the names of series that ``matchers`` may choose and the caller may see."""
        return [
            name
            for name, family in EVERY_SERIES.items()
            if family.permission in self.scopes and accepts(matchers, NAME_LABEL, name)
        ]

    def check_readable(self, reads: Sequence[Read]) -> None:
        """Raise :class:`InsufficientScope` for a metric asked by name that the caller may not see.

        ``reads`` are all that will be asked for: what they have in common is counted once.
        """
        self.shared = SharedCounts(reads)
        for read in reads:
            name = _named(read.matchers)
            family = EVERY_SERIES.get(name)
            if family is not None and family.permission not in self.scopes:
                raise InsufficientScope(f"{name} needs the scope {family.permission}.")

    async def read(self, question: Read) -> Value:
        """Answer one read. Raises ApiErrors of the engine, and :class:`ExecutionError`."""
        names = self.names(question.matchers)
        if question.form in ("quantile", "histogram"):
            return await self._histograms(question, FAMILY_OF[names[0]]) if names else _nothing(question)
        found = []
        for name in names:
            if name in GAUGES:
                found.append(await self._gauge(question, GAUGES[name]))
                continue
            family = FAMILY_OF[name]
            if _is_native(name):
                if len(names) == 1 and question.form != "samples":
                    return await self._histograms(question, family)
                continue  # a pattern of names means the classic series
            found.append(await self._counters(question, name, family))
        if question.form == "samples":
            return Windows([item for vector, times in found for item in _series(vector, times)], question.times,
                           question.range, question.steps)  # fmt: skip
        return _joined([vector for vector, _ in found], len(question.times))

    async def _gauge(self, question: Read, gauge: Gauge) -> tuple[Vector, Ints]:
        """Return the series of a gauge, at the times of the question, or at those of samples."""
        times = self._sample_times(question) if question.form == "samples" else question.times
        projects = tuple(name for name in self.scope.projects if accepts(question.matchers, "project", name))
        if not projects or not len(times):
            return empty_vector(len(times)), times
        moments = np.clip(np.minimum(times, self.now), 1, LATEST_MS)
        vector = await gauge.read(self.database, replace(self.scope, projects=projects), moments)
        rows = [
            row
            for row, labels in enumerate(vector.labels)
            if all(item.accepts(label(labels, item.name)) for item in question.matchers if item.name != NAME_LABEL)
        ]
        chosen = Vector(
            [labels_of((*vector.labels[row], (NAME_LABEL, gauge.name))) for row in rows],
            vector.values[rows],
            vector.present[rows],
        )
        return self._until_now(chosen, times), times

    async def _counters(self, question: Read, name: str, family: SeriesFamily) -> tuple[Vector, Ints]:
        """Return the series called ``name``, at the times of the question, or at those of samples."""
        chosen = await label_filter(self.database, self.scope, question.matchers, family)
        times = self._sample_times(question) if question.form == "samples" else question.times
        if chosen is None or not len(times):
            return empty_vector(len(times)), times
        kept = question.kept
        labels = _labels_kept(family.labels, kept, chosen.needed)
        suffix = name.removeprefix(family.name)
        counted = await self._count(question, family, chosen, labels, times, with_buckets=suffix == "_bucket")

        def assembled() -> Vector:
            vector = counted_rows(counted, family, suffix, labels, question.matchers)
            length = np.where(counted.milliseconds > 0, counted.milliseconds, 1)
            if question.form == "increase":
                # A window that was moved to whole hours: the same growth by second, over the window asked for.
                vector = replace(vector, values=vector.values * (question.range / length))
            vector = self._until_now(vector, times)
            if kept is not None:
                return _added(vector, kept)
            if question.form == "increase":
                return vector
            return replace(vector, labels=[labels_of((*item, (NAME_LABEL, name))) for item in vector.labels])

        rows = len(counted.groups) * (len(BOUND_LABELS) if counted.buckets is not None else len(family.parts))
        return await off_loop(rows * (_ROW_WEIGHT + len(times) // _ROW_WEIGHT), assembled), times

    async def _count(
        self,
        question: Read,
        family: SeriesFamily,
        chosen: LabelFilter,
        labels: Sequence[str],
        times: Ints,
        *,
        with_buckets: bool = False,
        fraction: float | None = None,
        entries: bool = False,
    ) -> WindowCounts:
        highs = np.clip(np.minimum(times, self.now), 1, LATEST_MS)
        lows = np.full_like(highs, self.origin)
        if question.form in ("increase", "quantile", "histogram"):
            lows = np.maximum(highs - question.range, 0)
        lows = np.minimum(lows, highs - 1)
        by_name = {dimension.name: dimension for dimension in family.dimensions}
        is_plain = not (with_buckets or entries) and fraction is None
        beside = self.shared.families_beside(question, family, self.names) if is_plain else ()
        asked = CounterQuestion(
            family=family.family,
            presence=family.presence,
            counters=tuple(dict.fromkeys(part.counter for item in (family, *beside) for part in item.parts)),
            lows=lows,
            highs=highs,
            dimensions=tuple(by_name[name] for name in labels),
            filter=chosen.filter,
            sketch=family.sketch if with_buckets or fraction is not None or entries else None,
            histogram=with_buckets,
            fraction=fraction,
            entries=entries,
            lingers=question.form == "increase" and question.lingers,
        )
        read = self.shared.read if is_plain else read_windows
        counted = await read(self.database, chosen.scope, asked)
        self.infos += [notice for notice in counted.notices if notice not in self.infos]
        return counted

    async def _histograms(self, question: Read, family: SeriesFamily) -> Value:
        """Return a quantile of sketches, or the sketches themselves."""
        chosen = await label_filter(self.database, self.scope, question.matchers, family)
        if chosen is None:
            return _nothing(question)
        kept = None if question.kept is None else Kept(
            tuple(name for name in question.kept.names if name != "le"), question.kept.is_without
        )  # fmt: skip
        labels = _labels_kept(family.labels, kept, chosen.needed)
        is_quantile = question.form == "quantile"
        counted = await self._count(
            question,
            family,
            chosen,
            labels,
            question.times,
            fraction=question.quantile if is_quantile else None,
            entries=not is_quantile,
        )
        rows = [labels_of(zip(labels, key, strict=True)) for key in counted.groups]
        present = counted.present & (question.times <= self.now + self.lookback)
        if is_quantile and counted.percentiles is not None:
            return Vector(rows, counted.percentiles / _SECONDS, present & ~np.isnan(counted.percentiles))
        sums = counted.counters[family.parts[0].counter] / family.parts[0].unit
        entries = counted.entries or SketchEntries.none()
        native = Histograms(
            rows, present, entries.cell, entries.bins, entries.counts.astype(np.float64), sums, GAMMA, 1 / _SECONDS
        )
        if not is_quantile:
            return native
        return native_quantile(np.full(len(question.times), question.quantile), native)

    def _sample_times(self, question: Read) -> Ints:
        """Return where range vectors of raw counters have samples: at whole minutes, or wider apart in long ranges."""
        begin, end = int(question.times.min()) - question.range, min(int(question.times.max()), self.now)
        for step in (_FINEST_SAMPLES_MS, 5 * _FINEST_SAMPLES_MS, 60 * _FINEST_SAMPLES_MS, DAY_MS):
            first, last = begin // step * step + step, end // step * step
            if (last - first) // step < _MOST_SAMPLES:
                if step > question.range:
                    raise ExecutionError(
                        f"the window is shorter than the {step // 60_000} minutes between samples over so long a range:"
                        " choose a longer window or a shorter range; rate() and increase() have no such bound"
                    )
                return np.arange(first, last + 1, step, dtype=np.int64)
        raise ExecutionError("the range is too long for samples of a counter: use rate() or increase()")

    def _until_now(self, vector: Vector, times: Ints) -> Vector:
        return replace(vector, present=vector.present & (times <= self.now + self.lookback))


def _named(matchers: Sequence[Matcher]) -> str:
    """Return the name of series that ``matchers`` fix; empty when they fix none."""
    return next((item.value for item in matchers if item.name == NAME_LABEL and item.kind == "="), "")


def _is_native(name: str) -> bool:
    family = FAMILY_OF.get(name)
    return family is not None and family.type == "histogram" and name == family.name


def _labels_kept(known: Sequence[str], kept: Kept | None, needed: frozenset[str]) -> tuple[str, ...]:
    """Return the labels to split by: those that are kept, and those that a condition can only be checked on
    afterwards.
    """
    if kept is None:
        return tuple(known)
    return tuple(name for name in known if (name in kept.names) is not kept.is_without or name in needed)


def _added(vector: Vector, kept: Kept) -> Vector:
    """Return the rows of equal kept labels as one: parts of a metric, and groups split for a condition."""
    groups = group_labels(vector.labels, kept.names, is_without=kept.is_without)
    return reduce_groups("sum", vector, groups, np.zeros(vector.values.shape[1]))


def _joined(vectors: Sequence[Vector], steps: int) -> Vector:
    if not vectors:
        return empty_vector(steps)
    return merged(
        Vector(
            [labels for vector in vectors for labels in vector.labels],
            np.concatenate([vector.values for vector in vectors]),
            np.concatenate([vector.present for vector in vectors]),
        )
    )


def _series(vector: Vector, times: Ints) -> list[Series]:
    return [
        Series(labels, times[vector.present[row]], vector.values[row, vector.present[row]])
        for row, labels in enumerate(vector.labels)
    ]


def _nothing(question: Read) -> Value:
    steps = len(question.times)
    if question.form in ("quantile", "values"):
        return empty_vector(steps)
    nothing = np.empty(0, dtype=np.int64)
    blank = np.empty((0, steps))
    return Histograms([], blank.astype(bool), nothing, nothing, np.empty(0), blank, GAMMA, 1 / _SECONDS)
