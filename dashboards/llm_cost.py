"""``llm-cost``: what is spent, by whom, and what for?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import figure, total
from dashboards.panels import column, shares, stat, steps, table, time_series
from dashboards.queries import Json, target, variable
from dashboards.variables import group_variable

BUDGETS: Final = "Budgets"
"""The panel that alerts on budgets lead to."""

_PERCENT_STEPS: Final = steps(((None, "green"), (80, "orange"), (100, "red")))
_OF_AMOUNT: Final[Json] = {"min": 0, "max": 100, "thresholds": _PERCENT_STEPS, "color": {"mode": "thresholds"}}


def spent(title: str, time_from: str, words: str) -> Json:
    """Money since a moment of its own, whatever range the dashboard shows."""
    return stat(
        title, f"Money for calls {words}, whatever range is chosen.", target("timeseries", metric="cost"),
        unit="currencyUSD", calc="sum", sparkline=True, decimals=2, timeFrom=time_from,
    )  # fmt: skip


BOARD: Final = Board(
    uid="llm-cost",
    title="LLM cost",
    description="Spend by model, provider, service and user; what a call costs; what failures cost.",
    time_from="now-30d",
    refresh="5m",
    variables=(group_variable(),),
    rows=(
        Row("At a glance", (
            spent("Today", "now/d", "since midnight"),
            spent("This week", "now/w", "since Monday"),
            spent("This month", "now/M", "since the first of the month"),
            stat("Cost of the month", "Spent so far plus a forecast of the days left, with its bounds.",
                 target("month_forecast"), unit="currencyUSD", decimals=2),
            total("cost", "In the range", "Money for all calls of the range.", "currencyUSD", decimals=2),
            figure("cost_per_call", "Cost per call", "All money divided by all calls.", "currencyUSD", decimals=4),
            total("error_cost", "Cost of failed calls", "Money for calls that ended in an error.", "currencyUSD",
                  decimals=2),
            total("cache_savings", "Saved by caches", "What cache reads of the providers saved.", "currencyUSD",
                  decimals=2),
        )),
        Row("What may be spent", (
            table(BUDGETS, "One row per budget, the fullest first: spent of its period, and where that leads. "
                           "How to set them and be told: docs/how-to/alert-on-budgets.md.",
                  target("budgets"), size=(24, 6), defaults={"noValue": "No budgets"},
                  overrides=[
                      column("Used", custom__cellOptions={"type": "gauge", "mode": "basic"}, **_OF_AMOUNT),
                      column("Projected use", custom__cellOptions={"type": "color-text"}, **_OF_AMOUNT),
                      column("Status", custom__cellOptions={"type": "color-background", "mode": "basic"}),
                  ]),
        )),
        Row("Where it goes", (
            time_series("Cost by ${group_by}", "Money in each interval, split by the variable Group by.",
                        target("timeseries", metric="cost", group_by=variable("group_by")), unit="currencyUSD",
                        bars=True, stacked=True, size=(16, 9)),
            shares("Share by ${group_by}", "Parts of all money in the range.",
                   target("breakdown", metric="cost", group_by=variable("group_by"), layout="columns", limit=10),
                   unit="currencyUSD", size=(8, 9)),
            time_series("Input and output", "Money for input and for output tokens.",
                        target("timeseries", metric="prompt_cost,completion_cost"), unit="currencyUSD", stacked=True),
            time_series("Cost per call by ${group_by}", "What one call costs, split by the variable Group by.",
                        target("timeseries", metric="cost_per_call", group_by=variable("group_by")),
                        unit="currencyUSD"),
        )),
        Row("Who spends", (
            table("Users", "The 20 users with the highest spend.",
                  target("breakdown", metric="cost,calls,total_tokens,cost_per_call", group_by="user", limit=20),
                  size=(12, 9)),
            table("Models", "Spend by model with its price per call and per thousand tokens.",
                  target("breakdown", metric="cost,calls,cost_per_call,cost_per_1k_tokens", group_by="provider,model",
                         limit=20), size=(12, 9)),
        )),
    ),
)  # fmt: skip
