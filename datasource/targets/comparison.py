"""The range before a panel's range, and whether values of both can be compared.

A change is shown only if it has a meaning: data must cover the range before, and its value must not be close to zero.
Otherwise a notice has the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from datasource.panels.frames import Notice
from datasource.panels.target_question import TargetQuestion, current_period
from datasource.targets.core import Core
from server.queries.metrics.metric_answer import MetricGroup, Value
from server.queries.metrics.metric_coverage import coverage_gap
from server.queries.records.annotations import first_data_at

MOST_TIMES: Final = 10.0
"""If a value is at least this many times the value before, that one is close to zero and a percentage has no
meaning."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values of one group ``before`` and over the range. ``reason``: why no change may be shown, else empty."""

    start: datetime
    end: datetime
    group: MetricGroup | None
    reason: str = ""

    def before(self, measure: str) -> Value:
        """Return the value of ``measure`` in the range before; None without one."""
        values = self.group.values.get(measure) if self.group is not None else None
        return values[0] if values else None

    def change(self, measure: str, value: Value) -> float | None:
        """Return the relative change to ``value`` (0.1: ten per cent more), or None if it has no meaning."""
        return None if self.reason else relative_change(value, self.before(measure))

    def notice(self, measure: str, value: Value) -> Notice | None:
        """Return the reason why there is no change to ``value``; None if there is a change, or nothing to compare."""
        if value is None or isinstance(value, tuple) or self.change(measure, value) is not None:
            return None
        return Notice(f"No change is shown: {self.reason or 'the previous period has next to nothing.'}")


def relative_change(value: Value, before: Value) -> float | None:
    """Return the relative change, 0.1 for ten per cent more; None if the value before is missing or close to zero."""
    if value is None or before is None or isinstance(value, tuple) or isinstance(before, tuple) or not before:
        return None
    times = float(value) / float(before)
    return times - 1 if times <= MOST_TIMES else None


def period_before(question: TargetQuestion) -> tuple[datetime, datetime]:
    """Return the range of the same length before; for a calendar period, the same part of the previous period."""
    start, end = question.time_range.start, question.time_range.end
    period = question.values.get("period")
    if period is None:
        return start - (end - start), start
    zone = ZoneInfo(question.timezone)
    earlier = current_period(period, question.timezone, start.astimezone(zone) - timedelta(hours=1)).start
    return earlier, min(earlier + (end - start), start)


async def coverage(core: Core, start: datetime, end: datetime) -> str:
    """Return the reason why data do not cover the previous period, from ``start`` to ``end``; empty if they do."""
    return coverage_gap(await first_data_at(core.database, core.scope), start, end) or ""
