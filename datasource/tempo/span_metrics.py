"""TraceQL metrics: counts and durations of spans over time, from the metric engine like every other number.

The value at ``t`` is that of ``[t - step, t)``. Filters and ``by()`` over the dimensions of rollups are answered from
rollups, all others from single spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from datasource.tempo.span_filter import field_name, spanset_filter
from datasource.tempo.spanset_search import value_of
from datasource.tempo.traceql import Metric, Spanset, TraceQuery
from datasource.traces.trace_search import SUMMARY_FIELDS
from server.errors import InvalidParameter, QueryTooLarge
from server.fairness.off_loop import off_loop
from server.queries.filters.filter_tree import And, Filter, Not
from server.queries.filters.span_fields import FIELDS, FieldType
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.metric_catalog import Dimension, find_dimension
from server.queries.metrics.window_sums import WindowCounts
from server.rollups.sketch import GAMMA, MergedSketches
from server.storage.database import Database
from server.storage.row_scope import RowScope

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_NAMES: Final = 5
MOST_EXEMPLARS: Final = 100
MOST_QUANTILES: Final = 10
MOST_COMPARED: Final = 1000
MOST_SAMPLES: Final = 300_000
"""Series times points of an answer."""
_SECONDS: Final = 1000.0
_POWERS: Final = 8
"""About how many buckets of a histogram there are."""
_QUANTILES: Final = {"min_over_time": 0.0, "max_over_time": 1.0}
_TOKENS: Final = {
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
}  # fmt: skip
_COMPARED: Final = (
    "resource.service.name", "name", "status", "kind", "span.gen_ai.response.model", "span.gen_ai.provider.name",
    "span.gen_ai.operation.name", "span.error.type", "resource.deployment.environment.name",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SpanSeries:
    """One series: labels by name, values at the question's times; NaN where there is none."""

    labels: Mapping[str, str | float]
    values: Floats


def check_size(series: int, points: int) -> None:
    """Raise :class:`QueryTooLarge` for an answer that is too large."""
    if series * points > MOST_SAMPLES:
        raise QueryTooLarge(f"{series} series at {points} points are too many: by() fewer labels, or a wider step.")


async def read_metric(
    database: Database, scope: RowScope, query: TraceQuery, times: Ints, step: int
) -> list[SpanSeries]:
    """Return the series of a query with a function of metrics, at ``times`` (ms) for windows of ``step`` ms.

    Raises :class:`InvalidParameter` for what is not supported, with what is.
    """
    metric = query.metric
    if metric is None:
        raise InvalidParameter.named("q", "is not a metrics query: end it with a function such as | rate()")
    if not isinstance(query.spans, Spanset) or query.aggregates:
        raise InvalidParameter.named(
            "q", "metrics are of one spanset { … } and filters after it: structural operators and aggregates are not"
        )
    filters = [query.spans, *(item for item in query.filters if isinstance(item, Spanset))]
    parts = [part for part in map(spanset_filter, filters) if part is not None]
    tree: Filter | None = None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))
    if metric.function == "compare":
        return await _comparison(database, scope, metric, tree, times, step)
    return await _Question(database, scope, metric, tree, times, step).series()


@dataclass(frozen=True, slots=True)
class _Question:
    database: Database
    scope: RowScope
    metric: Metric
    filter: Filter | None
    times: Ints
    step: int

    async def series(self) -> list[SpanSeries]:
        function, name = self.metric.function, self.metric.name
        if function in ("rate", "count_over_time"):
            if name:
                raise InvalidParameter.named("q", f"{function}() takes no argument")
            counted = await self._count("spans", ("spans",))
            values = counted.counters["spans"] / (self.step / _SECONDS if function == "rate" else 1.0)
            return self._labelled(counted, values)
        field = field_name(name) if name else ""
        if field in _TOKENS and function in ("sum_over_time", "avg_over_time"):
            counted = await self._count("calls", ("calls", field))
            sums = counted.counters[field].astype(np.float64)
            is_average = function == "avg_over_time"
            return self._labelled(counted, _ratio(sums, counted.counters["calls"]) if is_average else sums)
        if field != "duration_ms":
            raise InvalidParameter.named(
                "q",
                f"{function}() is of duration (sum_over_time() and avg_over_time() of tokens too), not of {name!r}",
            )
        if function in ("sum_over_time", "avg_over_time"):
            counted = await self._count("spans", ("spans", "span_duration_us"))
            seconds = counted.counters["span_duration_us"] / 1e6
            is_average = function == "avg_over_time"
            return self._labelled(counted, _ratio(seconds, counted.counters["spans"]) if is_average else seconds)
        if function == "histogram_over_time":
            counted = await self._count("spans", ("spans",), entries=True)
            check_size(len(counted.groups) * _POWERS, len(self.times))
            return await off_loop(_weight(counted, len(counted.groups)), lambda: self._histogram(counted))
        wanted = self.metric.numbers or (_QUANTILES.get(function, 0.9),)
        if len(wanted) > MOST_QUANTILES or not all(0 <= fraction <= 1 for fraction in wanted):
            raise InvalidParameter.named("q", f"expected at most {MOST_QUANTILES} quantiles from 0 to 1")
        counted = await self._count("spans", ("spans",), entries=True)
        check_size(len(counted.groups) * len(wanted), len(self.times))

        def quantiles() -> list[SpanSeries]:
            found = []
            for fraction in wanted:
                label = {"p": fraction} if function == "quantile_over_time" else {}
                found += self._labelled(counted, _quantile(counted, fraction, len(self.times)) / _SECONDS, label)
            return found

        return await off_loop(_weight(counted, len(wanted)), quantiles)

    async def _count(self, presence: str, counters: tuple[str, ...], *, entries: bool = False) -> WindowCounts:
        asked = CounterQuestion(
            family="spans",
            presence=presence,
            counters=counters,
            lows=self.times - self.step,
            highs=self.times,
            dimensions=tuple(_dimension(name) for name in self.metric.by[:MOST_NAMES]),
            filter=self.filter,
            sketch="span_duration" if entries else None,
            entries=entries,
            lingers=False,
        )
        return await read_windows(self.database, self.scope, asked)

    def _labelled(
        self, counted: WindowCounts, values: Any, more: Mapping[str, float] | None = None
    ) -> list[SpanSeries]:
        """Return one series a group. Counts and rates are zero where there is nothing, others are missing."""
        check_size(len(counted.groups), len(self.times))
        is_count = self.metric.function in ("rate", "count_over_time", "sum_over_time")
        table = np.where(counted.present, values, 0.0 if is_count else np.nan)
        return [
            SpanSeries({**self._labels(key), **(more or {})}, table[row])
            for row, key in enumerate(counted.groups)
            if counted.present[row].any()
        ]

    def _labels(self, key: Sequence[str]) -> dict[str, str | float]:
        if not self.metric.by:
            return {"__name__": self.metric.function}
        return {name: _shown(name, value) for name, value in zip(self.metric.by, key, strict=False)}

    def _histogram(self, counted: WindowCounts) -> list[SpanSeries]:
        """Return counts by powers of two of nanoseconds, as Tempo does; the label is the upper bound in seconds."""
        if counted.entries is None:
            return []
        steps = len(self.times)
        upper = np.power(GAMMA, counted.entries.bins.astype(np.float64)) * 1e6
        power = np.ceil(np.log2(upper * (2 / (GAMMA + 1)))).astype(np.int64)
        found = []
        for row, key in enumerate(counted.groups):
            own = counted.entries.cell // steps == row
            for exponent in np.unique(power[own]).tolist():
                chosen = own & (power == exponent)
                values = np.bincount(
                    counted.entries.cell[chosen] % steps, weights=counted.entries.counts[chosen], minlength=steps
                )
                labels = self._labels(key) if self.metric.by else {}
                found.append(SpanSeries({**labels, "__bucket": 2.0**exponent / 1e9}, values.astype(np.float64)))
        return found


def _shown(name: str, value: object) -> str:
    """Return a value as TraceQL writes it in a label."""
    if not value:
        return "nil"
    return str(value).lower() if field_name(name) == "status_code" else str(value)


def _weight(counted: WindowCounts, times: int) -> int:
    """About how many values are looked at if the bins of ``counted`` are gone through so many times."""
    return 0 if counted.entries is None else len(counted.entries.cell) * times


def _ratio(total: Floats, number: Ints) -> Floats:
    """Return averages; what has no number is left out by its caller."""
    return np.asarray(total / np.maximum(number, 1), dtype=np.float64)


def _quantile(counted: WindowCounts, fraction: float, steps: int) -> Floats:
    """Return one quantile of each group and window, in ms."""
    size = len(counted.groups) * steps
    if counted.entries is None or not len(counted.entries.cell):
        return np.full((len(counted.groups), steps), np.nan)
    merged = MergedSketches(size, counted.entries.cell, counted.entries.bins, counted.entries.counts)
    return merged.quantiles((fraction,))[:, 0].reshape(len(counted.groups), steps)


def _dimension(name: str) -> Dimension:
    field = field_name(name)
    found = find_dimension(field)
    if found is None and field in FIELDS and FIELDS[field].type is FieldType.KEYWORD:
        found = Dimension(field, field, FIELDS[field].sentence, has_many_values=True)
    if found is None:
        raise InvalidParameter.named(
            "q",
            f"by({name}) is not supported; name, status, kind, resource.service.name and span.x are",
        )
    return found


async def _comparison(
    database: Database, scope: RowScope, metric: Metric, tree: Filter | None, times: Ints, step: int
) -> list[SpanSeries]:
    """Return how often each value of some attributes occurs within a selection and outside it: ``compare``."""
    if metric.selection is None:
        raise InvalidParameter.named("q", "write compare({status = error}, 10): a spanset, and how many values")
    selected = spanset_filter(metric.selection)
    most = int(min(max(metric.numbers[0], 1), MOST_COMPARED)) if metric.numbers else 10
    found: list[SpanSeries] = []
    for meta, part in (("selection", selected), ("baseline", None if selected is None else Not(selected))):
        if part is None and meta == "baseline":
            continue
        both = [item for item in (tree, part) if item is not None]
        whole = None if not both else both[0] if len(both) == 1 else And(tuple(both))
        for name in _COMPARED:
            question = _Question(database, scope, Metric("count_over_time", by=(name,)), whole, times, step)
            series = await question.series()
            series.sort(key=lambda item: -float(item.values.sum()))
            found += [SpanSeries({"__meta_type": meta, name: item.labels[name]}, item.values) for item in series[:most]]
            if series:
                total = np.sum([item.values for item in series], axis=0)
                found.append(SpanSeries({"__meta_type": f"{meta}_total", name: "nil"}, total))
    return found


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One span on top of a series."""

    labels: Mapping[str, str]
    trace_id: str
    time: int
    seconds: float


async def read_exemplars(
    database: Database, scope: RowScope, query: TraceQuery, window: TimeRange, most: int
) -> list[Exemplar]:
    """Return the newest spans that a metrics query counts, with the labels of their series."""
    if not isinstance(query.spans, Spanset) or query.metric is None or query.metric.function == "compare":
        return []
    names = query.metric.by
    fields = (*SUMMARY_FIELDS, *({"attributes"} if any(field_name(n).startswith("attribute.") for n in names) else ()))
    page = await list_spans(
        database,
        scope,
        ListQuestion(
            window=window, filter=spanset_filter(query.spans), sort=(Sort("ts"),), fields=fields,
            limit=min(max(most, 1), MOST_EXEMPLARS),
        ),
    )  # fmt: skip
    return [
        Exemplar(
            {name: _shown(name, value_of(row, name)) for name in names} or {"__name__": query.metric.function},
            row["trace_id"],
            int(row["ts"].timestamp() * 1000),
            row["duration_ms"] / 1000,
        )
        for row in page.rows
    ]
