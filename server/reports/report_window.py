"""The subject of every report: a range of time, a filter, a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.queries.filters.filter_tree import Filter
from server.queries.metrics.metric_answer import MetricAnswer, MetricGroup, MetricMeta, Value
from server.queries.metrics.metric_coverage import NOTHING_BEFORE
from server.queries.metrics.metric_question import Measure, MetricQuestion, parse_measure
from server.queries.metrics.metric_reader import query_metrics
from server.storage.database import Database
from server.storage.row_scope import RowScope

_PRECISIONS: Final = ("exact", "sketch", "approximate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWindow:
    """The spans that a report is about: ``[start, end)`` and ``filter``; days are those of ``time_zone``."""

    start: datetime
    end: datetime
    filter: Filter | None = None
    time_zone: str = "UTC"

    def question(self, *measures: str, **more: Any) -> MetricQuestion:
        """Return the question for ``measures`` (``cost``, ``duration_p95``) within this window; ``more`` goes to
        :class:`MetricQuestion`.
        """
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
    """The source of reports: the metric engine on ``database``, limited to ``scope``.

    ``answered`` gathers facts about each answer, for :meth:`told`.
    """

    database: Database
    scope: RowScope
    answered: list[MetricMeta] = field(default_factory=list, compare=False, repr=False)

    async def ask(self, question: MetricQuestion) -> MetricAnswer:
        """Return the engine's answer, and note its facts for :meth:`told`."""
        answer = await query_metrics(self.database, self.scope, question)
        self.answered.append(answer.meta)
        return answer

    async def total(self, window: ReportWindow, *measures: str, **more: Any) -> MetricGroup:
        """Return the totals over the whole window: one group, not split."""
        answer = await self.ask(window.question(*measures, **more))
        return answer.groups[0]

    async def compare(self, window: ReportWindow, *measures: str) -> tuple[MetricGroup, dict[str, Change]]:
        """Return the totals over the whole window, and the change of each measure against the period before."""
        answer = await self.ask(window.question(*measures, compare="previous_period"))
        group, gap = answer.groups[0], answer.meta.no_change_reason
        before = group.compared or {}
        return group, {key: change(values[0], before[key][0], gap) for key, values in group.values.items()}

    async def split(self, window: ReportWindow, dimension: str, *measures: str, **more: Any) -> MetricAnswer:
        """Return one group for each value of ``dimension``, ranked, the rest summed as "other"."""
        return await self.ask(window.question(*measures, group_by=(dimension,), **more))

    def told(self) -> dict[str, Any]:
        """Return the facts about all answers so far: the sources, the least precision, each notice once.

        ``interval_seconds`` is None unless every series had the same buckets.
        """
        sources = {meta.source for meta in self.answered}
        widths = {meta.interval_seconds for meta in self.answered} - {None}
        return {
            "source": "both" if len(sources) > 1 else next(iter(sources), "rollup"),
            "precision": max((meta.precision for meta in self.answered), key=_PRECISIONS.index, default="exact"),
            "interval_seconds": widths.pop() if len(widths) == 1 else None,
            "notices": list(dict.fromkeys(notice for meta in self.answered for notice in meta.notices)),
        }


def single(group: MetricGroup, measure: str) -> Value:
    """Return the value of ``measure`` in a group that was not split by time."""
    return group.values[parse_measure(measure).key][0]


def number(value: Value) -> Decimal:
    """Return ``value`` as Decimal; a missing one is zero."""
    if value is None or isinstance(value, tuple):
        return Decimal(0)
    return value if isinstance(value, Decimal) else Decimal(str(value))


def share(part: Value, whole: Value) -> float | None:
    """Return ``part`` in percent of ``whole``; None if there is no whole."""
    total = number(whole)
    return float(number(part) / total * 100) if total else None


@dataclass(frozen=True, slots=True)
class Change:
    """A change in percent; without one, the ``reason``."""

    percent: float | None
    reason: str | None = None


def change(now: Value, before: Value, gap: str | None = None) -> Change:
    """Return the change from ``before`` to ``now``. There is none if there was nothing before, or if data do not cover
    the earlier range; ``gap`` is the reason then.
    """
    earlier = number(before)
    if gap is not None or not earlier:
        return Change(None, gap or NOTHING_BEFORE)
    return Change(float((number(now) - earlier) / earlier * 100))


def reasons(changes: Mapping[str, Change]) -> dict[str, str]:
    """Return why some of ``changes`` have no percentage, by name."""
    return {name: item.reason for name, item in changes.items() if item.reason is not None}


def measures_of(*names: str) -> tuple[Measure, ...]:
    """Return measures by their names in answers."""
    return tuple(parse_measure(name) for name in names)
