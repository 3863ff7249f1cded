"""A validated question to the metric engine: no impossible question reaches the database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from server.errors import ApiError, InvalidBody, UnknownMetric
from server.queries.filters.filter_tree import Filter, leaves
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS, Dimension, Metric, find_dimension, suggest_name
from server.queries.metrics.metric_interval import MAX_POINTS, Interval

MAX_MEASURES: Final = 20
MAX_GROUP_BY: Final = 5
MAX_GROUPS: Final = 1000
DEFAULT_GROUPS: Final = 10
MAX_RANGE_DAYS: Final = 1100
_MOST_NAMED: Final = 6
_AGGREGATION: Final = re.compile(r"avg|min|max|sum|histogram|distinct|p[0-9]{1,3}")

Fill = Literal["none", "null", "zero", "previous"]
Compare = Literal["previous_period", "year_ago"]
FILLS: Final[tuple[Fill, ...]] = ("none", "null", "zero", "previous")
COMPARISONS: Final[tuple[Compare, ...]] = ("previous_period", "year_ago")


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric and how it is aggregated; an empty aggregation means the metric's default."""

    metric: str
    aggregation: str = ""

    @property
    def definition(self) -> Metric:
        """The metric's row in the catalogue."""
        return METRICS[self.metric]

    @property
    def effective(self) -> str:
        """The aggregation in effect."""
        return self.aggregation or self.definition.aggregations[0]

    @property
    def key(self) -> str:
        """Name in answers: ``calls``, or ``duration_p95`` for a metric with several aggregations."""
        several = len(self.definition.aggregations) > 1
        return f"{self.metric}_{self.effective}" if several else self.metric


@dataclass(frozen=True, slots=True)
class Having:
    """Condition on groups: the comparison of ``measure``, over the whole range, with ``value``."""

    measure: Measure
    operator: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuestion:
    """Metrics over ``[start, end)``, split by dimensions and by time.

    ``interval``: None asks for one value for the whole range, ``"auto"`` for a width that fits ``max_points``.
    ``limit`` bounds the groups; the rest is summed into one group "other" unless ``other`` is false or there is a
    ``having``. Groups are ranked by ``order_by`` (default: the first measure), over the whole range. ``compare`` adds
    the values of the same groups in an earlier range.

    Construction raises :class:`UnknownMetric` or :class:`InvalidBody`, each with a JSON pointer.
    """

    measures: tuple[Measure, ...]
    start: datetime
    end: datetime
    group_by: tuple[str, ...] = ()
    filter: Filter | None = None
    having: tuple[Having, ...] = ()
    order_by: Measure | None = None
    descending: bool = True
    limit: int = DEFAULT_GROUPS
    other: bool = True
    interval: Interval | Literal["auto"] | None = None
    max_points: int = MAX_POINTS
    time_zone: str = "UTC"
    fill: Fill = "null"
    compare: Compare | None = None
    dimensions: tuple[Dimension, ...] = field(init=False)
    zone: ZoneInfo = field(init=False)

    def __post_init__(self) -> None:
        """Check everything; fill in ``dimensions`` and ``zone``."""
        if not 1 <= len(self.measures) <= MAX_MEASURES:
            raise _bad("/metrics", f"expected 1 to {MAX_MEASURES} metrics: ask for the others in another question")
        for index, measure in enumerate(self.measures):
            _check_measure(measure, f"/metrics/{index}")
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("start and end must have a time zone")
        if self.end <= self.start:
            raise _bad("/to", "the range is empty or reversed: to must be later than from")
        if (self.end - self.start).days > MAX_RANGE_DAYS:
            raise _bad("/from", f"the range is longer than {MAX_RANGE_DAYS} days: ask for a shorter one")
        if len(self.group_by) > MAX_GROUP_BY:
            surplus = len(self.group_by) - MAX_GROUP_BY
            raise _bad("/group_by", f"expected at most {MAX_GROUP_BY} dimensions: leave out {surplus}")
        if not 1 <= self.limit <= MAX_GROUPS:
            raise _bad("/limit", f"expected a number of groups from 1 to {MAX_GROUPS}; the rest is summed as other")
        if not 1 <= self.max_points <= MAX_POINTS:
            raise _bad("/max_points", f"expected a number from 1 to {MAX_POINTS}")
        try:
            object.__setattr__(self, "zone", ZoneInfo(self.time_zone))
        except (KeyError, ValueError, OSError) as error:
            raise _bad("/time_zone", "expected an IANA name such as Europe/Berlin") from error
        for index, item in enumerate(self.having):
            _check_measure(item.measure, f"/having/{index}/metric")
        if self.having and not self.group_by:
            raise _bad("/having", "having selects groups: name dimensions in group_by")
        if self.order_by is not None:
            _check_measure(self.order_by, "/order_by")
        object.__setattr__(self, "dimensions", self._checked_dimensions())
        for measure in self.ranking_measures:
            if measure.effective == "histogram":
                raise _bad("/order_by", "groups cannot be ranked by a histogram: name another metric in order_by")

    def _checked_dimensions(self) -> tuple[Dimension, ...]:
        found = []
        for index, name in enumerate(self.group_by):
            dimension = find_dimension(name)
            if dimension is None:
                raise _bad(f"/group_by/{index}", f"unknown dimension {name[:80]}: {suggest_name(name, DIMENSIONS)}")
            if dimension in found:
                raise _bad(f"/group_by/{index}", f"{name} is given more than once")
            found.append(dimension)
        families = {measure.definition.family for measure in self.all_measures}
        for index, dimension in enumerate(found):
            if dimension.family == "scores" and families != {"scores"}:
                known = ", ".join(name for name, metric in METRICS.items() if metric.family == "scores")
                raise _bad(f"/group_by/{index}", f"{dimension.name} splits only metrics of scores: {known}")
        return tuple(found)

    @property
    def ranking_measures(self) -> tuple[Measure, ...]:
        """Measures by which groups are ranked and selected."""
        wanted = (self.order_by or self.measures[0], *(item.measure for item in self.having))
        return wanted if self.group_by else tuple(item.measure for item in self.having)

    @property
    def all_measures(self) -> tuple[Measure, ...]:
        """Measures of the answer and of ranking, each once."""
        wanted = (*self.measures, *([self.order_by] if self.order_by else []), *(item.measure for item in self.having))
        return tuple(dict.fromkeys(wanted))

    @property
    def permissions(self) -> Mapping[str, str]:
        """The scopes that a caller needs for this question, each with the first metric or field that needs it.

        A caller may not filter, rank or select groups by a value that it may not see: counts would reveal the value by
        bisection.
        """
        asked: list[tuple[str, str]] = [(item.definition.permission, item.metric) for item in self.all_measures]
        filtered = leaves(self.filter) if self.filter is not None else ()
        asked += [(leaf.field.permission, f"A filter by {leaf.field.name}") for leaf in filtered]
        return dict(reversed(asked))


def _bad(pointer: str, detail: str) -> ApiError:
    return InvalidBody.at(pointer, detail)


def _check_measure(measure: Measure, pointer: str) -> None:
    metric, aggregation = METRICS.get(measure.metric), measure.aggregation
    if metric is None:
        # duration_p97, cost_p95: a metric with an aggregation that it does not have.
        name, _, ending = measure.metric.rpartition("_")
        if name in METRICS and _AGGREGATION.fullmatch(ending):
            metric, aggregation = METRICS[name], ending
    if metric is None:
        detail = f"unknown metric {measure.metric[:80]}: {suggest_name(measure.metric, METRICS)}"
        raise UnknownMetric(detail, errors=[{"pointer": pointer, "detail": detail}])
    if aggregation and aggregation not in metric.aggregations:
        having = [name for name, other in METRICS.items() if aggregation in other.aggregations]
        detail = f"{metric.name} has no aggregation {aggregation[:80]}, only {', '.join(metric.aggregations)}"
        if 0 < len(having) <= _MOST_NAMED:
            detail = f"{detail}; {aggregation} is available for {', '.join(having)}"
        raise _bad(pointer, detail)


def parse_measure(text: str) -> Measure:
    """Parse ``calls``, ``duration.p95`` or ``duration_p95``; :class:`MetricQuestion` checks that the metric exists."""
    metric, dot, aggregation = text.partition(".")
    if dot:
        return Measure(metric, aggregation)
    if text not in METRICS:
        metric, _, aggregation = text.rpartition("_")
        if metric in METRICS and aggregation in METRICS[metric].aggregations:
            return Measure(metric, aggregation)
    return Measure(text)


def labels_of(question: MetricQuestion, values: tuple[str, ...]) -> Mapping[str, Any]:
    """Return dimension names with the values of one group; an empty value is None."""
    return {item.name: value or None for item, value in zip(question.dimensions, values, strict=True)}
