"""``llm-overview``: is it working, how fast, what does it cost (rate, errors, duration, money)?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import (
    BLUE,
    PERCENTILE_COLORS,
    STATUS_COLORS,
    TEAL,
    colored_cell,
    column,
    columns,
    figure,
    gauge_cell,
    lines,
    panel,
    stat,
    table,
)
from dashboards.queries import rows, series, target, variable
from dashboards.variables import group_variable, to_board

ERROR_STEPS: Final = ((None, "text"), (0.02, "orange"), (0.05, "red"))
ERROR_OBJECTIVE: Final = ((None, "transparent"), (0.05, "red"))

FIGURES: Final = (
    figure("calls", "Calls", "Calls of models in the range; small: against the range before.", "short"),
    figure(
        "error_rate", "Error rate", "Share of calls with status ERROR. From 2 % on look at the errors below.",
        "percentunit", thresholds=ERROR_STEPS, better="down",
    ),
    figure("duration_p95", "Latency p95", "95 % of calls were faster; exact to 1 %.", "ms", better="down"),
    figure(
        "time_to_first_token_p95", "TTFT p95", "Time to the first token of streamed calls; 95 % were faster.", "ms",
        better="down",
    ),
    figure("cost", "Cost", "Money for all calls of the range.", "currencyUSD", better="down"),
    figure(
        "cost", "Cost today", "Money since midnight of your time zone, whatever range is chosen; small: against the "
        "same hours of yesterday.", "currencyUSD", period="day", better="down",
    ),
    stat(
        "Forecast", "What the month will have cost: spent so far and a forecast of the days left. Bounds: "
        "dashboard LLM cost.", target("month_forecast"), unit="currencyUSD",
        transformations=[{"id": "filterFieldsByName", "options": {"include": {"names": ["Expected"]}}}],
    ),
    figure("users", "Active users", "Different users with at least one span.", "short", better="up"),
)  # fmt: skip

TRAFFIC: Final = (
    columns(
        "Calls", "Calls in each interval by status, failed ones in red; drag over a stretch to look closer.",
        series("calls", "status"), unit="short", colors=STATUS_COLORS, size=(8, 8),
    ),
    lines(
        "Latency", "Percentiles of the duration of calls; p95 and p99 tell what the unlucky ones waited.",
        series("duration", aggregation="p50,p95,p99"), unit="ms", colors=PERCENTILE_COLORS, size=(8, 8),
    ),
    columns(
        "Cost by ${group_by:text}", "Money in each interval, split by the variable Group by.",
        series("cost", variable("group_by"), limit=8), unit="currencyUSD", size=(8, 8),
    ),
    lines(
        "Error rate by ${group_by:text}", "Share of failed calls; the dashed line is where it becomes critical (5 %).",
        series("error_rate", variable("group_by"), limit=8), unit="percentunit", objective=ERROR_OBJECTIVE,
        size=(8, 8),
    ),
    columns(
        "Tokens", "Input tokens (cache included) and output tokens (reasoning included) in each interval.",
        series("prompt_tokens,completion_tokens"), unit="short", size=(8, 8),
        colors={"Prompt tokens": BLUE, "Completion tokens": TEAL},
    ),
    panel(
        "alertlist", "Alerts", "Firing and pending alert rules of the folder LLM Observatory.", [],
        size=(8, 8), options={"viewMode": "list", "groupMode": "default", "maxItems": 20, "sortOrder": 1,
                              "dashboardAlerts": False, "alertName": "", "alertInstanceLabelFilter": "",
                              "stateFilter": {"firing": True, "pending": True, "noData": False, "normal": False,
                                              "error": True}},
    ),
)  # fmt: skip

SERVICE_LINK: Final = to_board("Traces of this service", "llm-explore", "service", "service")
MODEL_LINK: Final = to_board("This model alone", "llm-models", "model", "model")

DETAIL: Final = (
    table(
        "Services", "The services with most calls; a click on one lists its traces.",
        rows("calls,error_rate,duration_p95,cost", "service", limit=8), size=(12, 8),
        overrides=[
            column("Service", links=[SERVICE_LINK], custom__minWidth=130),
            gauge_cell("Calls"),
            colored_cell("Error rate", ERROR_STEPS),
            column("Error rate", custom__width=110),
            column("Duration p95", displayName="p95", custom__width=80),
            column("Cost", custom__width=100),
        ],
    ),
    table(
        "Models", "The models with the highest spend; a click on one compares it.",
        rows("cost,calls,error_rate,duration_p95", "model", limit=8), size=(12, 8),
        overrides=[
            column("Model", links=[MODEL_LINK], custom__minWidth=150),
            gauge_cell("Cost", TEAL),
            column("Calls", custom__width=85),
            colored_cell("Error rate", ERROR_STEPS),
            column("Error rate", custom__width=110),
            column("Duration p95", displayName="p95", custom__width=80),
        ],
    ),
    table(
        "Recent errors", "The newest failed spans with their messages; the first column opens the trace.",
        target("errors", limit=20), size=(24, 8),
    ),
)  # fmt: skip

BOARD: Final = Board(
    uid="llm-overview",
    title="LLM overview",
    description="Rate, errors, duration and cost of calls of language models.",
    variables=(group_variable(),),
    rows=(
        Row(None, FIGURES),
        Row("Traffic, latency, money", TRAFFIC),
        Row("Who and why", DETAIL),
    ),
)
