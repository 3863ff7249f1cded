"""Reports of costs: summary, attribution, forecast."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from server.errors import InvalidParameter
from server.fairness.off_loop import off_loop
from server.queries.metrics.metric_answer import MetricAnswer, MetricGroup
from server.queries.metrics.metric_coverage import coverage_gap
from server.queries.metrics.metric_interval import Interval
from server.queries.metrics.metric_question import Having
from server.queries.records.annotations import first_data_at
from server.reports.forecast import SHORTEST_HISTORY, Forecast, ForecastPoint, forecast
from server.reports.report_window import (
    Change,
    ReportSource,
    ReportWindow,
    change,
    measures_of,
    number,
    reasons,
    share,
    single,
)

OVERVIEW: Final = (
    "cost",
    "prompt_cost",
    "completion_cost",
    "error_cost",
    "cache_savings",
    "calls",
    "total_tokens_sum",
    "cost_per_call",
    "cost_per_1k_tokens",
)
SPLIT: Final = ("cost", "prompt_cost", "completion_cost", "calls", "total_tokens_sum", "cost_per_call")
SUMMARY_SPLITS: Final = ("provider", "model", "environment", "service")
DAY: Final = Interval(days=1)
WEEK: Final = Interval(days=7)

ATTRIBUTION_DIMENSIONS: Final = (
    "user",
    "session",
    "project",
    "provider",
    "model",
    "operation",
    "service",
    "environment",
    "agent",
    "tool",
    "prompt_name",
    "prompt_version",
    "tag",
)
FORECAST_PERIODS: Final = {"next_week": 7, "next_month": 30, "next_quarter": 90}

_SHORT_RANGE: Final = "the range has not two complete ones."
_DAY_WEIGHT: Final = 500
"""Work for one day of a forecast's history, as a number of values (see :func:`off_loop`)."""


async def summarize_costs(source: ReportSource, window: ReportWindow, *, top: int) -> dict[str, Any]:
    """Return totals with their change against the period before, splits by the usual dimensions, days and weeks."""
    overview, before = await source.compare(window, *OVERVIEW)
    splits = {}
    for dimension in SUMMARY_SPLITS:
        answer = await source.split(window, dimension, *SPLIT, limit=top)
        splits[f"by_{dimension}"] = [_item(group, dimension, overview) for group in answer.groups]
    daily = await source.ask(window.question("cost", "calls", interval=DAY, fill="zero"))
    weekly = await source.ask(window.question("cost", "calls", interval=WEEK, fill="zero"))
    first = await first_data_at(source.database, source.scope)
    changes = {
        "cost_change_pct": before["cost"],
        "calls_change_pct": before["calls"],
        "day_over_day_change_pct": _last_change(daily, first),
        "week_over_week_change_pct": _last_change(weekly, first),
    }
    return {
        "overview": {
            **{public_name(name): single(overview, name) for name in OVERVIEW},
            **{name: item.percent for name, item in changes.items()},
            "no_change_reasons": reasons(changes),
        },
        **splits,
        "trends": {"daily": _trend(daily), "weekly": _trend(weekly)},
    }


async def attribute_costs(
    source: ReportSource, window: ReportWindow, dimension: str, *, limit: int, min_cost: float | None
) -> dict[str, Any]:
    """Return the cost of each value of ``dimension``; shares are of the whole, not of the values that are shown.

    ``min_cost`` leaves cheaper values out before ``limit`` is applied, and then there is no "other".
    """
    having: dict[str, Any] = {}
    if min_cost is not None:
        having = {"having": (Having(measures_of("cost")[0], "gte", min_cost),), "other": False}
    overall = await source.total(window, *SPLIT)
    answer = await source.split(window, dimension, *SPLIT, limit=limit, **having)
    return {
        "dimension": dimension,
        "items": [_item(group, dimension, overall) for group in answer.groups],
        "total": {public_name(name): single(overall, name) for name in SPLIT},
        "values_total": answer.meta.groups_total,
    }


async def forecast_costs(
    source: ReportSource, window: ReportWindow, *, days: int, confidence: float, now: datetime | None = None
) -> dict[str, Any]:
    """Return the daily cost after ``window``, from the complete days within it. Raises InvalidParameter for a short
    history.
    """
    zone = ZoneInfo(window.time_zone)
    last = min(window.end, now or datetime.now(UTC)).astimezone(zone)
    # The day in which the range ends is incomplete, so it is the first to be forecast.
    today = last.replace(hour=0, minute=0, second=0, microsecond=0)
    complete = replace(window, end=today)
    if complete.end <= complete.start:
        raise InvalidParameter.named("from", "the range holds no complete day")
    answer = await source.ask(complete.question("cost", "calls", interval=DAY, fill="zero"))
    group = answer.groups[0]
    costs = [float(number(value)) for value in group.values["cost"]]
    # The range may begin within a day: that day is incomplete, so it says nothing about days.
    first = next((index for index, value in enumerate(costs) if value > 0), len(costs))
    first = max(first, 1 if answer.times and answer.times[0] < complete.start else 0)
    history = costs[first:]
    if len(history) < SHORTEST_HISTORY:
        raise InvalidParameter.named(
            "from", f"a forecast needs at least {SHORTEST_HISTORY} complete days with costs, there are {len(history)}"
        )
    result = await off_loop(len(history) * _DAY_WEIGHT, lambda: forecast(history, days, confidence=confidence))
    return {
        "model": result.model,
        "confidence": confidence,
        "historical": [
            {"date": time.astimezone(zone).date(), "cost_usd": value, "calls": calls}
            for time, value, calls in list(zip(answer.times, group.values["cost"], group.values["calls"], strict=True))[
                first:
            ]
        ],
        "forecast": [
            {"date": (today + timedelta(days=offset)).date(), **_point(point)}
            for offset, point in enumerate(result.points)
        ],
        "summary": {
            "total": _point(result.total),
            "daily_average_usd": round(result.total.value / days, 6),
            "projected_month_usd": round(result.total.value / days * 30, 6),
        },
        "backtest": _backtest(result),
    }


def public_name(measure: str) -> str:
    """Return the public name: ``cost`` is called ``total_cost_usd`` in reports, as in the rows that it sums."""
    names = {"cost": "total_cost_usd", "total_tokens_sum": "total_tokens", "cache_savings": "cache_savings_usd"}
    return names.get(measure) or (f"{measure}_usd" if "cost" in measure else measure)


def _item(group: MetricGroup, dimension: str, whole: MetricGroup) -> dict[str, Any]:
    cost = single(group, "cost")
    return {
        "name": "other" if group.is_other else group.labels[dimension],
        "is_other": group.is_other,
        **{public_name(name): single(group, name) for name in SPLIT},
        "cost_share_pct": share(cost, single(whole, "cost")),
    }


def _trend(answer: MetricAnswer) -> list[dict[str, Any]]:
    group = answer.groups[0]
    incomplete = frozenset(answer.meta.incomplete)
    return [
        {"time": time, "total_cost_usd": cost, "calls": calls, "incomplete": time in incomplete}
        for time, cost, calls in zip(answer.times, group.values["cost"], group.values["calls"], strict=True)
    ]


def _last_change(answer: MetricAnswer, first: datetime | None) -> Change:
    """Return the change between the last two complete buckets; data begin at ``first``."""
    incomplete = frozenset(answer.meta.incomplete)
    pairs = zip(answer.times, answer.groups[0].values["cost"], strict=True)
    whole = [(time, value) for time, value in pairs if time not in incomplete]
    if len(whole) < 2:
        return Change(None, _SHORT_RANGE)
    (earlier, before), (later, now) = whole[-2:]
    return change(now, before, coverage_gap(first, earlier, later))


def _point(point: ForecastPoint) -> dict[str, float]:
    return {
        "cost_usd": round(point.value, 6),
        "lower_usd": round(point.lower, 6),
        "upper_usd": round(point.upper, 6),
    }


def _backtest(result: Forecast) -> dict[str, Any] | None:
    tested = result.backtest
    if tested is None:
        return None
    return {
        "days": tested.days,
        "mean_absolute_error_usd": round(tested.mean_absolute_error, 6),
        "mape_pct": None if tested.mape is None else round(tested.mape * 100, 2),
        "interval_coverage_pct": round(tested.coverage * 100, 1),
        "error_versus_same_day_last_week": None if tested.versus_naive is None else round(tested.versus_naive, 3),
    }
