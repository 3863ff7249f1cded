"""``llm-errors``: what fails, where, since when?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import ERROR_OBJECTIVE, ERROR_STEPS
from dashboards.panels import bars, colored_cell, column, columns, figure, gauge_cell, lines, states, table
from dashboards.queries import ranking, rows, series, target, variable
from dashboards.variables import group_variable, to_board

RED_GAUGE: Final = "#E02F44"

BOARD: Final = Board(
    uid="llm-errors",
    title="LLM errors and limits",
    description="Failed calls by class, model and provider; retries; states of providers over time.",
    variables=(group_variable(),),
    rows=(
        Row(None, (
            figure("errors", "Failed calls", "Calls with status ERROR.", "short", better="down", size=(6, 4)),
            figure("error_rate", "Error rate", "Share of calls that failed.", "percentunit", thresholds=ERROR_STEPS,
                   better="down", size=(6, 4)),
            figure("retries", "Retries", "Calls that follow a failed one of the same name under the same parent.",
                   "short", better="down", size=(6, 4)),
            figure("error_cost", "Cost of failed calls", "Money for calls that ended in an error.", "currencyUSD",
                   better="down", size=(6, 4)),
        )),
        Row("Over time", (
            states("Providers", "ok; degraded from 5 % of failed calls on; failing from 50 % on.",
                   target("availability", group_by="provider"), size=(24, 6)),
            columns("Failed calls by class", "Failed calls in each interval by error type.",
                    series("errors", "error_type", status="error"), unit="short"),
            lines("Error rate by ${group_by:text}", "Share of failed calls; the dashed line is where it becomes "
                  "critical (5 %).", series("error_rate", variable("group_by"), limit=8), unit="percentunit",
                  objective=ERROR_OBJECTIVE),
        )),
        Row("What and where", (
            bars("By class", "Failed calls by error type.", ranking("errors", "error_type", status="error"),
                 unit="short", size=(8, 8)),
            bars("Finish reasons", "Why models stopped; length means that the answer was cut.",
                 ranking("calls", "finish_reason"), unit="short", size=(6, 8)),
            table("By model", "Models by failed calls.", rows("errors,error_rate,calls", "model"), size=(10, 8),
                  overrides=[
                      column("Model", links=[to_board("This model alone", "llm-models", "model", "model")],
                             custom__minWidth=130),
                      gauge_cell("Errors", RED_GAUGE),
                      colored_cell("Error rate", ERROR_STEPS),
                      column("Error rate", custom__minWidth=110),
                      column("Calls", custom__width=90),
                  ]),
            table("Errors", "The newest failed spans with their messages; the first column opens the trace.",
                  target("errors", limit=100), size=(24, 12)),
        )),
    ),
)  # fmt: skip
