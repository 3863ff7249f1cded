"""The counters of one project as text for a Prometheus that scrapes: OpenMetrics, or the older text format.

Counters begin with the month (UTC), which ``_created`` says: a counter that begins again is nothing unusual to
Prometheus. The cost of a scrape does not depend on the traffic: it reads rollups of days and of today's hours. Labels
are few, and beyond :data:`MOST_GROUPS` combinations those with the fewest calls are summed up as ``other``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.values import Labels, labels_of
from datasource.prometheus.series_catalog import BOUND_LABELS, FAMILIES, SeriesFamily
from server.fairness.off_loop import off_loop
from server.queries.filters.filter_tree import Leaf
from server.queries.filters.span_fields import FIELDS
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.counter_question import CounterQuestion
from server.queries.metrics.counter_reader import read_windows
from server.queries.metrics.metric_catalog import DIMENSIONS, HISTOGRAM_BOUNDS
from server.queries.metrics.window_sums import WindowCounts
from server.storage.database import Database
from server.storage.row_scope import RowScope

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
LABELS: Final = ("provider", "model", "operation", "service", "environment")
MOST_GROUPS: Final = 500
MOST_EXEMPLARS: Final = 100
OTHER: Final = "other"
_GROUP_WEIGHT: Final = 100
"""Cost of writing the lines of one group, in values."""
_RECENT: Final = timedelta(hours=1)
_COLUMNS: Final = {name: DIMENSIONS[name].column for name in LABELS}
_VALUE_OF: Final = {"duration": "duration_ms", "ttft": "ttft_ms"}
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One call on top of a histogram."""

    trace_id: str
    seconds: float
    at: float

    def __str__(self) -> str:
        return f' # {{trace_id="{self.trace_id.translate(_ESCAPES)}"}} {format_number(self.seconds)} {self.at:.3f}'


async def exposition(
    database: Database, scope: RowScope, scopes: frozenset[str], now: datetime, *, is_openmetrics: bool
) -> str:
    """Return the text for the projects of ``scope``; series about money only with costs:read in ``scopes``."""
    created = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    families = [family for family in FAMILIES.values() if family.family == "spans" and family.permission in scopes]
    counters = tuple(dict.fromkeys(part.counter for family in families for part in family.parts))
    counted: dict[str, WindowCounts] = {}
    for sketch in ("duration", "ttft"):
        counted[sketch] = _bounded(await read_windows(database, scope, _question(counters, sketch, created, now)))
    recent = await _recent_calls(database, scope, now) if is_openmetrics else []

    def written() -> str:
        lines: list[str] = []
        for family in families:
            found = counted[family.sketch or "duration"]
            lines += _family(family, found, created, recent, is_openmetrics=is_openmetrics)
        return "\n".join((*lines, "# EOF", "") if is_openmetrics else (*lines, ""))

    return await off_loop(len(counted["duration"].groups) * _GROUP_WEIGHT, written)


def _question(counters: tuple[str, ...], sketch: str, created: datetime, now: datetime) -> CounterQuestion:
    begin, end = int(created.timestamp() * 1000), int(now.timestamp() * 1000)
    return CounterQuestion(
        family="spans",
        presence="spans",
        counters=counters,
        lows=np.array([begin], dtype=np.int64),
        highs=np.array([max(end, begin + 1)], dtype=np.int64),
        dimensions=tuple(DIMENSIONS[name] for name in LABELS),
        sketch=sketch,
        histogram=True,
        lingers=False,
    )


def _bounded(counted: WindowCounts) -> WindowCounts:
    """Return the same with at most MOST_GROUPS groups and one for the others."""
    if len(counted.groups) <= MOST_GROUPS:
        return counted
    order = np.argsort(-counted.counters["calls"][:, 0], kind="stable")
    kept, rest = order[:MOST_GROUPS], order[MOST_GROUPS:]

    def joined(table: Any) -> Any:
        return np.concatenate((table[kept], table[rest].sum(axis=0, keepdims=True)))

    return WindowCounts(
        [*(counted.groups[row] for row in kept.tolist()), (OTHER,) * len(LABELS)],
        counted.milliseconds,
        np.concatenate((counted.present[kept], counted.present[rest].any(axis=0, keepdims=True))),
        {name: joined(table) for name, table in counted.counters.items()},
        None if counted.buckets is None else joined(counted.buckets),
    )


def _family(
    family: SeriesFamily,
    counted: WindowCounts,
    created: datetime,
    recent: Sequence[Mapping[str, Any]],
    *,
    is_openmetrics: bool,
) -> Iterator[str]:
    base = family.name.removesuffix("_total") if is_openmetrics else family.name
    yield f"# HELP {base} {family.help}"
    yield f"# TYPE {base} {family.type}"
    if is_openmetrics and family.unit and base.endswith(family.unit):
        yield f"# UNIT {base} {family.unit}"
    made = f"{created.timestamp():.3f}"
    for row, key in enumerate(counted.groups):
        if not counted.counters[family.presence][row, 0]:
            continue
        labels = labels_of(zip(LABELS, key, strict=True))
        if family.sketch is None:
            for part in family.parts:
                own = labels_of((*labels, *part.labels.items()))
                value = counted.counters[part.counter][row, 0] / part.unit
                yield f"{family.name}{_written(own)} {format_number(value)}"
                if is_openmetrics:
                    yield f"{base}_created{_written(own)} {made}"
            continue
        exemplars = _by_bucket(recent, family.sketch, labels)
        buckets = counted.buckets[row, 0].tolist() if counted.buckets is not None else []
        for place, (bound, count) in enumerate(zip(BOUND_LABELS, buckets, strict=True)):
            exemplar = exemplars.get(place, "")
            yield f"{family.name}_bucket{_written((*labels, ('le', bound)))} {count}{exemplar}"
        total, number = (counted.counters[part.counter][row, 0] / part.unit for part in family.parts)
        yield f"{family.name}_sum{_written(labels)} {format_number(total)}"
        yield f"{family.name}_count{_written(labels)} {format_number(number)}"
        if is_openmetrics:
            yield f"{family.name}_created{_written(labels)} {made}"


def _written(labels: Labels) -> str:
    inner = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


async def _recent_calls(database: Database, scope: RowScope, now: datetime) -> Sequence[Mapping[str, Any]]:
    page = await list_spans(
        database,
        scope,
        ListQuestion(
            window=TimeRange(now - _RECENT, now),
            filter=Leaf(FIELDS["is_generation"], "eq", True),
            sort=(Sort("ts"),),
            fields=("ts", "trace_id", *_VALUE_OF.values(), *_COLUMNS.values()),
            limit=MOST_EXEMPLARS,
        ),
    )
    return page.rows


def _by_bucket(recent: Sequence[Mapping[str, Any]], sketch: str, labels: Labels) -> dict[int, Exemplar]:
    """Return the newest call of each bucket of the group called ``labels``."""
    found: dict[int, Exemplar] = {}
    for row in recent:
        value = row[_VALUE_OF[sketch]]
        if value is None or labels_of((name, row[column] or "") for name, column in _COLUMNS.items()) != labels:
            continue
        place = int(np.searchsorted(HISTOGRAM_BOUNDS, value, side="left"))
        found.setdefault(place, Exemplar(row["trace_id"], value / 1000, row["ts"].timestamp()))
    return found
