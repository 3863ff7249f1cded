"""What every report is asked about: a range of time, a filter, a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from server.database import Database
from server.queries.metric_answer import MetricAnswer, MetricGroup, Value
from server.queries.metric_question import Measure, MetricQuestion, parse_measure
from server.queries.metric_reader import query_metrics
from server.queries.row_scope import RowScope
from server.queries.trace_filter import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWindow:
    """The spans that a report is about: ``[start, end)`` and ``filter``; days are those of ``time_zone``."""

    start: datetime
    end: datetime
    filter: Filter | None = None
    time_zone: str = "UTC"

    def question(self, *measures: str, **more: Any) -> MetricQuestion:
        """The question after ``measures`` (``cost``, ``duration_p95``) within this window; ``more`` goes to
        :class:`MetricQuestion`."""
        if isinstance(more.get("order_by"), str):
            more["order_by"] = parse_measure(more["order_by"])
        return MetricQuestion(
            measures=tuple(parse_measure(name) for name in measures),
            **{
                "start": self.start,
                "end": self.end,
                "filter": self.filter,
                "time_zone": self.time_zone,
                **more,
            },
        )


@dataclass(frozen=True, slots=True)
class ReportSource:
    """Where reports read: the metric engine on ``database``, limited to ``scope``."""

    database: Database
    scope: RowScope

    async def ask(self, question: MetricQuestion) -> MetricAnswer:
        """The engine's answer."""
        return await query_metrics(self.database, self.scope, question)

    async def total(self, window: ReportWindow, *measures: str, **more: Any) -> MetricGroup:
        """One group over the whole window, without a split."""
        answer = await self.ask(window.question(*measures, **more))
        return answer.groups[0]

    async def split(self, window: ReportWindow, dimension: str, *measures: str, **more: Any) -> MetricAnswer:
        """One group for each value of ``dimension``, ranked, the rest summed as "other"."""
        return await self.ask(window.question(*measures, group_by=(dimension,), **more))


def single(group: MetricGroup, measure: str) -> Value:
    """The value of ``measure`` in a group that was not split by time."""
    return group.values[parse_measure(measure).key][0]


def compared(group: MetricGroup, measure: str) -> Value:
    """The value of ``measure`` in the earlier range, if the question asked for one."""
    if group.compared is None:
        return None
    return group.compared[parse_measure(measure).key][0]


def number(value: Value) -> Decimal:
    """``value`` as Decimal, nothing as zero."""
    if value is None or isinstance(value, tuple):
        return Decimal(0)
    return value if isinstance(value, Decimal) else Decimal(str(value))


def share(part: Value, whole: Value) -> float | None:
    """``part`` in percent of ``whole``; None when there is no whole."""
    total = number(whole)
    return float(number(part) / total * 100) if total else None


def change(now: Value, before: Value) -> float | None:
    """The change from ``before`` to ``now`` in percent; None when there was nothing before."""
    earlier = number(before)
    return float((number(now) - earlier) / earlier * 100) if earlier else None


def measures_of(*names: str) -> tuple[Measure, ...]:
    """Measures by their names in answers."""
    return tuple(parse_measure(name) for name in names)
