"""The state of a budget: spent, burn rate, and the projection to the end of the period."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from server.queries.filters.filter_tree import Filter, Leaf
from server.queries.filters.span_fields import FIELDS
from server.queries.metrics.metric_catalog import DIMENSIONS
from server.queries.metrics.metric_interval import Interval
from server.queries.records.budgets import Budget
from server.reports.report_window import ReportSource, ReportWindow, number, single

STATUSES: Final = ("ok", "warning", "critical")
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_CENT: Final = Decimal("0.0001")
_EVER_SHORTER: Final = (Interval(days=1), Interval(seconds=3600), Interval(seconds=60))


def period_of(budget: Budget, now: datetime) -> tuple[datetime, datetime]:
    """Return start and end of the calendar period of ``now``, in the budget's time zone."""
    zone = ZoneInfo(budget.time_zone)
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if budget.period == "day":
        return midnight, _midnight_after(midnight, 1)
    if budget.period == "week":
        start = _midnight_after(midnight, -midnight.weekday())
        return start, _midnight_after(start, 7)
    months = _MONTHS[budget.period]
    first_month = (midnight.month - 1) // months * months + 1
    start = midnight.replace(month=first_month, day=1)
    past_end = first_month + months
    end = start.replace(year=start.year + (past_end - 1) // 12, month=(past_end - 1) % 12 + 1)
    return start, end


def _midnight_after(midnight: datetime, days: int) -> datetime:
    # Wall-clock arithmetic: a day of a daylight-saving change has 23 or 25 hours.
    return (midnight.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=midnight.tzinfo)


async def budget_state(source: ReportSource, budget: Budget, now: datetime) -> dict[str, Any]:
    """Return the spending in the present period and its projection.

    ``projected_usd`` continues at the rate of the period so far. ``exhausted_at`` is the end of the minute in which the
    amount was used up, or, where it is not, the moment when it will be at that rate (None: not within the period);
    minutes of long ago are hours or days where finer figures are gone. ``status``: ok, warning, critical;
    ``status_level`` is its place in :data:`STATUSES`, a number that alert rules can compare.
    """
    start, end = period_of(budget, now)
    inner = ReportSource(source.database, replace(source.scope, projects=(budget.project_id,)))
    spent = number(
        single(
            await inner.total(
                ReportWindow(
                    start=start,
                    end=max(now, start + timedelta(seconds=1)),
                    filter=budget_filter(budget),
                    time_zone=budget.time_zone,
                ),
                "cost",
            ),
            "cost",
        )
    )
    elapsed = Decimal(max((now - start).total_seconds(), 1.0))
    # Within one zone Python subtracts wall clocks: a day of a clock change would have 24 hours.
    length = Decimal((end.astimezone(UTC) - start.astimezone(UTC)).total_seconds())
    per_second = spent / elapsed
    used = spent / budget.amount_usd * 100
    exhausted_at = None
    if spent >= budget.amount_usd:
        exhausted_at = await _used_up_at(inner, budget, start, max(now, start + timedelta(seconds=1)))
    elif per_second > 0:
        seconds = (budget.amount_usd - spent) / per_second
        if seconds <= length - elapsed:
            exhausted_at = now + timedelta(seconds=float(seconds))
    status = _status(budget, used)
    return {
        "period_start": start,
        "period_end": end,
        "elapsed_pct": float(round(elapsed / length * 100, 4)),
        "spent_usd": spent,
        "remaining_usd": max(budget.amount_usd - spent, Decimal(0)),
        "used_pct": float(round(used, 4)),
        "burn_usd_per_day": (per_second * 86400).quantize(_CENT),
        "projected_usd": (per_second * length).quantize(_CENT),
        "projected_pct": float(round(per_second * length / budget.amount_usd * 100, 4)),
        "exhausted_at": exhausted_at,
        "status": status,
        "status_level": STATUSES.index(status),
    }


async def _used_up_at(source: ReportSource, budget: Budget, start: datetime, end: datetime) -> datetime:
    """Return the end of the shortest bucket, of those in ``[start, end)``, in which spending reached the amount."""
    spent = Decimal(0)
    for width in _EVER_SHORTER:
        window = ReportWindow(start=start, end=end, filter=budget_filter(budget), time_zone=budget.time_zone)
        answer = await source.ask(window.question("cost", interval=width))
        before, found = spent, None
        for time, value in zip(answer.times, answer.groups[0].values["cost"], strict=True):
            if before + number(value) >= budget.amount_usd:
                found = time
                break
            before += number(value)
        if found is None:
            break
        after = [time for time in answer.times if time > found]
        spent, start, end = before, max(start, found), min([end, *after[:1]])
    return end


def _status(budget: Budget, used: Decimal) -> str:
    if used >= budget.critical_pct:
        return "critical"
    return "warning" if used >= budget.warning_pct else "ok"


def budget_filter(budget: Budget) -> Filter | None:
    """Return the filter of the spans that count for a budget; None: all of its project."""
    if budget.dimension is None:
        return None
    return Leaf(FIELDS[DIMENSIONS[budget.dimension].column], "eq", budget.value)
