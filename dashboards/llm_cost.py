"""``llm-cost``: what is spent, by whom, and what for?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import (
    BLUE,
    TEAL,
    bars,
    column,
    columns,
    figure,
    gauge_cell,
    lines,
    shares,
    stat,
    steps,
    table,
)
from dashboards.queries import Json, ranking, rows, series, target, variable
from dashboards.variables import group_variable, to_board

BUDGETS: Final = "Budgets"
"""The panel that alerts on budgets lead to."""

_PERCENT_STEPS: Final = steps(((None, "green"), (80, "orange"), (100, "red")))
_OF_AMOUNT: Final[Json] = {"min": 0, "max": 100, "thresholds": _PERCENT_STEPS, "color": {"mode": "thresholds"}}
_NO_BUDGETS: Final = (
    "No budget yet. Set one: PUT /api/v1/budgets/{project}/{id} with "
    '{"name": "Team", "amount_usd": "500", "period": "month"} (docs/how-to/alert-on-budgets.md).'
)


def spent(title: str, period: str, words: str, before: str) -> Json:
    """Money of the current day, week or month, whatever range the dashboard shows."""
    return figure(
        "cost", title, f"Money {words}, whatever range is chosen; small: against {before}.", "currencyUSD",
        period=period, better="down",
    )  # fmt: skip


BOARD: Final = Board(
    uid="llm-cost",
    title="LLM cost",
    description="Spend by model, provider, service and user; what a call costs; what failures cost.",
    time_from="now-30d",
    refresh="5m",
    variables=(group_variable(),),
    rows=(
        Row(None, (
            spent("Today", "day", "since midnight", "the same hours of yesterday"),
            spent("This week", "week", "since Monday", "the same part of last week"),
            spent("This month", "month", "since the first of the month", "the same part of last month"),
            stat("Month, expected", "What the month will have cost: at least, expected, at most (4 of 5 cases).",
                 target("month_forecast"), unit="currencyUSD", size=(6, 4), text_mode="value_and_name",
                 transformations=[{"id": "filterFieldsByName", "options": {
                     "include": {"names": ["At least", "Expected", "At most"]}}}]),
            figure("cost", "In the range", "Money for all calls of the range.", "currencyUSD", better="down"),
            figure("cost_per_call", "Per call", "All money by all calls.", "currencyUSD", better="down"),
            figure("error_cost", "Failed calls", "Money for calls that ended in an error.", "currencyUSD",
                   better="down"),
        )),
        Row("What may be spent", (
            table(BUDGETS, "One row per budget, the fullest first: spent of its period, and where that leads. "
                           "How to set them and be told: docs/how-to/alert-on-budgets.md.",
                  target("budgets"), size=(24, 6), defaults={"noValue": _NO_BUDGETS},
                  overrides=[
                      column("Used", custom__cellOptions={"type": "gauge", "mode": "basic"}, decimals=0, **_OF_AMOUNT),
                      column("Projected use", custom__cellOptions={"type": "color-text"}, **_OF_AMOUNT),
                      column("Status", custom__cellOptions={"type": "color-background", "mode": "basic"}),
                  ]),
        )),
        Row("Where it goes", (
            columns("Cost by ${group_by:text}", "Money in each interval, split by the variable Group by.",
                    series("cost", variable("group_by")), unit="currencyUSD", size=(16, 9)),
            shares("Share by ${group_by:text}", "Parts of all money in the range.",
                   ranking("cost", variable("group_by"), limit=8), unit="currencyUSD", size=(8, 9)),
            columns("Input and output", "Money for input and for output tokens.",
                    series("prompt_cost,completion_cost"), unit="currencyUSD", size=(8, 8),
                    colors={"Prompt cost": BLUE, "Completion cost": TEAL}),
            lines("Cost per call by ${group_by:text}", "What one call costs, split by the variable Group by.",
                  series("cost_per_call", variable("group_by"), limit=8), unit="currencyUSD", size=(8, 8)),
            columns("Saved by caches", "What cache reads of the providers saved, by model.",
                    series("cache_savings", "model", limit=8), unit="currencyUSD", size=(8, 8)),
        )),
        Row("Who spends", (
            table("Users", "The 20 users with the highest spend; a click lists their traces.",
                  rows("cost,calls,total_tokens,cost_per_call", "user"), size=(12, 10),
                  overrides=[
                      column("User", links=[to_board("Traces of this user", "llm-explore", "user", "user")],
                             custom__minWidth=130),
                      gauge_cell("Cost", TEAL),
                      column("Calls", custom__width=85),
                      column("Cost per call", displayName="Per call", custom__width=90),
                      column("Total tokens", displayName="Tokens", custom__width=90),
                  ]),
            table("Models", "Spend by model with its price by call and by thousand tokens.",
                  rows("cost,calls,cost_per_call,cost_per_1k_tokens", "provider,model"), size=(12, 10),
                  overrides=[
                      column("Provider", custom__width=105),
                      column("Model", links=[to_board("This model alone", "llm-models", "model", "model")],
                             custom__minWidth=140),
                      gauge_cell("Cost", TEAL),
                      column("Calls", custom__width=85),
                      column("Cost per call", displayName="Per call", custom__width=90),
                      column("Cost per 1k tokens", displayName="Per 1k tokens", custom__width=130),
                  ]),
            bars("Services", "Money by service, most first.", ranking("cost", "service"), unit="currencyUSD",
                 size=(12, 8)),
            bars("Prompts", "Spend by prompt, of the calls that name theirs.", ranking("cost", "prompt_name"),
                 unit="currencyUSD", size=(12, 8)),
        )),
    ),
)  # fmt: skip
