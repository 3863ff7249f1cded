"""``llm-overview``: is it working, how fast, what does it cost (rate, errors, duration, money)?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import PERCENTILE_COLORS, STATUS_COLORS, column, panel, stat, table, time_series
from dashboards.queries import Json, target, variable
from dashboards.variables import group_variable

EXPLORE_LINK: Final = {
    "title": "Traces of this service",
    "url": "/d/llm-explore?var-service=${__data.fields.service:percentencode}&${__url_time_range}&var-ds=${ds}",
}
ERROR_STEPS: Final = ((None, "green"), (0.01, "orange"), (0.05, "red"))


def figure(metric: str, title: str, description: str, unit: str, **more: object) -> Json:
    """Return the value over the whole range and its change; exact, so without a sparkline."""
    query = target("stat", metric=metric, show="value,change")
    return stat(title, description, query, unit=unit, **more)  # type: ignore[arg-type]


def total(metric: str, title: str, description: str, unit: str, **more: object) -> Json:
    """Return the panel of a sum: the sum over the buckets with their sparkline, and its change."""
    queries = (target("timeseries", metric=metric), target("stat", "B", metric=metric, show="change"))
    return stat(title, description, *queries, unit=unit, calc="sum", sparkline=True, **more)  # type: ignore[arg-type]


FIGURES: Final = (
    total("calls", "Calls", "Calls of models in the range, and the change against the range before.", "short"),
    figure(
        "error_rate", "Failed calls", "Share of calls with status ERROR. From 1 % on look at recent errors below.",
        "percentunit", thresholds=ERROR_STEPS, decimals=2,
    ),
    figure("duration_p95", "Latency p95", "95 % of calls were faster; exact to 1 %.", "ms", decimals=0),
    figure(
        "time_to_first_token_p95", "First token p95", "95 % of streamed calls showed their first token sooner.", "ms",
        decimals=0,
    ),
    total("total_tokens", "Tokens", "Input and output tokens of all calls.", "short"),
    stat(
        "Cost today", "Money for calls since midnight of your time zone, whatever range is chosen.",
        target("timeseries", metric="cost"), unit="currencyUSD", calc="sum", sparkline=True, decimals=2,
        timeFrom="now/d",
    ),
    stat(
        "Cost of the month", "Spent so far plus a forecast of the days left; between the bounds in 4 of 5 cases.",
        target("month_forecast"), unit="currencyUSD", decimals=2,
    ),
    figure("users", "Active users", "Different users with at least one span.", "short"),
)  # fmt: skip

TRAFFIC: Final = (
    time_series(
        "Calls by status", "Calls in each interval, failed ones in red.",
        target("timeseries", metric="calls", group_by="status"), unit="short", bars=True, stacked=True,
        colors=STATUS_COLORS,
    ),
    time_series(
        "Latency", "Percentiles of the duration of calls; p95 and p99 tell what the unlucky ones waited.",
        target("timeseries", metric="duration", aggregation="p50,p95,p99"), unit="ms", colors=PERCENTILE_COLORS,
    ),
    time_series(
        "Cost by ${group_by}", "Money in each interval, split by the variable Group by.",
        target("timeseries", metric="cost", group_by=variable("group_by")), unit="currencyUSD", bars=True,
        stacked=True,
    ),
    time_series(
        "Tokens in and out", "Input tokens (cache included) and output tokens (reasoning included) in each interval.",
        target("timeseries", metric="prompt_tokens,completion_tokens"), unit="short",
    ),
)  # fmt: skip

DETAIL: Final = (
    table(
        "Top 10 services", "The services with most calls; a click on one lists its traces.",
        target("breakdown", metric="calls,error_rate,duration_p95,cost,total_tokens", group_by="service", limit=10),
        size=(16, 9),
        overrides=[
            column("service", links=[EXPLORE_LINK]),
            column("Error rate", custom__cellOptions={"type": "color-text"},
                   thresholds={"mode": "absolute", "steps": [
                       {"value": value, "color": color} for value, color in ERROR_STEPS]},
                   color={"mode": "thresholds"}),
        ],
    ),
    stat(
        "Success rate", "Share of calls that did not fail, against an objective of 99 %.",
        target("stat", metric="success_rate", show="value,change"), unit="percentunit", decimals=2, size=(8, 4),
        thresholds=((None, "red"), (0.95, "orange"), (0.99, "green")),
    ),
    panel(
        "alertlist", "Firing alerts", "Alert rules of folders and labels that are about LLM traffic.", [],
        size=(8, 5), options={"viewMode": "list", "groupMode": "default", "maxItems": 20, "sortOrder": 1,
                              "dashboardAlerts": False, "alertName": "", "alertInstanceLabelFilter": "",
                              "stateFilter": {"firing": True, "pending": True, "noData": False, "normal": False,
                                              "error": True}},
    ),
    table(
        "Recent errors", "The newest failed spans with their messages; the link opens the trace.",
        target("errors", limit=20),
    ),
)  # fmt: skip

BOARD: Final = Board(
    uid="llm-overview",
    title="LLM overview",
    description="Rate, errors, duration and cost of calls of language models.",
    variables=(group_variable(),),
    rows=(
        Row("At a glance", FIGURES),
        Row("Traffic, latency, money", TRAFFIC),
        Row("Services and errors", DETAIL),
    ),
)
