"""``llm-errors``: what fails, where, since when?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import ERROR_STEPS, figure, total
from dashboards.panels import bars, panel, table, time_series
from dashboards.queries import target, variable
from dashboards.variables import group_variable

BOARD: Final = Board(
    uid="llm-errors",
    title="LLM errors and limits",
    description="Failed calls by class, model and provider; retries; states of providers over time.",
    variables=(group_variable(),),
    rows=(
        Row("At a glance", (
            total("errors", "Failed calls", "Calls with status ERROR.", "short"),
            figure("error_rate", "Error rate", "Share of calls that failed.", "percentunit", thresholds=ERROR_STEPS,
                   decimals=2),
            total("retries", "Retries", "Calls that follow a failed one of the same name under the same parent.",
                  "short"),
            total("error_cost", "Cost of failed calls", "Money for calls that ended in an error.", "currencyUSD",
                  decimals=2),
        )),
        Row("Over time", (
            panel("state-timeline", "Providers", "ok; degraded from 5 % of failed calls on; failing from 50 % on.",
                  [target("availability", group_by="provider")], size=(24, 6),
                  options={"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "alignValue": "left",
                           "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                           "tooltip": {"mode": "single"}},
                  custom={"fillOpacity": 70, "lineWidth": 0}),
            time_series("Failed calls by class", "Failed calls in each interval by error type.",
                        target("timeseries", metric="errors", group_by="error_type", status="error"), unit="short",
                        bars=True, stacked=True),
            time_series("Error rate by ${group_by}", "Share of failed calls, split by the variable Group by.",
                        target("timeseries", metric="error_rate", group_by=variable("group_by")), unit="percentunit"),
        )),
        Row("What and where", (
            bars("By class", "Failed calls by error type.",
                 target("breakdown", metric="errors", group_by="error_type", status="error"), unit="short",
                 size=(8, 8)),
            bars("Finish reasons", "Why models stopped; length means the answer was cut.",
                 target("breakdown", metric="calls", group_by="finish_reason"), unit="short", size=(8, 8)),
            table("By model", "Models by failed calls.",
                  target("breakdown", metric="errors,error_rate,calls", group_by="provider,model", limit=20),
                  size=(8, 8)),
            table("Errors", "The newest failed spans with their messages; the link opens the trace.",
                  target("errors", limit=100), size=(24, 12)),
        )),
    ),
)  # fmt: skip
