"""The expected cost of the month: the cost so far, plus the forecast for the days that are left."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, table
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from server.errors import InvalidParameter
from server.reports.cost_report import forecast_costs
from server.reports.report_window import ReportSource, ReportWindow, single

HISTORY: Final = timedelta(days=60)
CONFIDENCE: Final = 0.8

_MONEY: Final = {"unit": "currencyUSD"}
_COLUMNS: Final = tuple(
    Column(name, FieldType.NUMBER, _MONEY) for name in ("Expected", "At least", "At most", "So far")
)


async def month_forecast(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one row about the month in which the range ends. The forecast uses at most the 60 days before that end."""
    zone = ZoneInfo(question.timezone)
    end = question.time_range.end
    local = end.astimezone(zone)
    today = local.replace(hour=0, minute=0, second=0, microsecond=0)
    days_left = calendar.monthrange(local.year, local.month)[1] - local.day + 1
    source = ReportSource(core.database, core.scope)
    meta = FrameMeta(notices=list(question.notices))
    so_far = await _spent(source, question, today.replace(day=1), end)
    before_today = await _spent(source, question, today.replace(day=1), today)
    rows: list[list[Any]] = [[None, None, None, so_far]]
    try:
        window = _window(question, end - HISTORY, end)
        found = await forecast_costs(source, window, days=days_left, confidence=CONFIDENCE, now=end)
    except InvalidParameter as error:
        meta.notices.append(Notice(f"No forecast: {error.detail.partition(': ')[2]}"))
    else:
        # If today's spending already exceeds today's forecast, the forecast for the later days is still added in full.
        spent_today = so_far - before_today
        today_expected = found["forecast"][0]
        total = found["summary"]["total"]
        expected, lower, upper = (
            before_today + max(today_expected[key], spent_today) + max(total[key] - today_expected[key], 0.0)
            for key in ("cost_usd", "lower_usd", "upper_usd")
        )
        rows = [[expected, min(lower, expected), max(upper, expected), so_far]]
        meta.custom = {"model": found["model"], "confidence": CONFIDENCE}
    return [table(question.ref_id, question.definition.name, _COLUMNS, rows, meta)]


async def _spent(source: ReportSource, question: TargetQuestion, start: datetime, end: datetime) -> float:
    """Return the cost from ``start`` to ``end``, as a float because it is added to an estimate."""
    if start >= end:
        return 0.0
    cost = single(await source.total(_window(question, start, end), "cost", fill="zero"), "cost")
    return 0.0 if cost is None or isinstance(cost, tuple) else float(cost)


def _window(question: TargetQuestion, start: datetime, end: datetime) -> ReportWindow:
    return ReportWindow(start=start, end=end, filter=question.filter, time_zone=question.timezone)
