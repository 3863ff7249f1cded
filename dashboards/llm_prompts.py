"""``llm-prompts``: how does each prompt do, and did its new version make it better?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import ERROR_STEPS
from dashboards.panels import TEAL, colored_cell, column, columns, gauge_cell, lines, table
from dashboards.queries import rows, series, variable
from dashboards.variables import values_variable

_PROMPT: Final = variable("prompt")

BOARD: Final = Board(
    uid="llm-prompts",
    title="LLM prompts and versions",
    description="Prompts and their versions side by side: use, latency, cost, errors, scores.",
    time_from="now-30d",
    variables=(values_variable("prompt", "Prompt", "prompt", under=("project",)),),
    rows=(
        Row("Side by side", (
            table("Versions", "One row a version of a prompt; compare errors, p95 and cost by call before you roll on.",
                  rows("calls,error_rate,duration_p95,total_tokens_avg,cost,cost_per_call",
                       "prompt_name,prompt_version", limit=50, prompt=_PROMPT), size=(24, 10),
                  overrides=[
                      column("Prompt name", displayName="Prompt", custom__minWidth=140),
                      column("Prompt version", displayName="Version", custom__width=100),
                      gauge_cell("Calls"),
                      colored_cell("Error rate", ERROR_STEPS),
                      column("Duration p95", displayName="p95", custom__width=90),
                      column("Total tokens avg", displayName="Tokens/call", custom__width=110),
                      gauge_cell("Cost", TEAL),
                      column("Cost per call", displayName="Per call", custom__width=100),
                  ]),
        )),
        Row("Over time", (
            columns("Calls by version", "Calls of each version: how far a new one is rolled out.",
                    series("calls", "prompt_version", prompt=_PROMPT), unit="short"),
            lines("Score by version", "Mean score of the calls of each version.",
                  series("score_average", "prompt_version", limit=8, prompt=_PROMPT), unit="short"),
            lines("p95 by version", "95th percentile of the duration of each version.",
                  series("duration_p95", "prompt_version", limit=8, prompt=_PROMPT), unit="ms"),
            lines("Cost per call by version", "What one call of each version costs.",
                  series("cost_per_call", "prompt_version", limit=8, prompt=_PROMPT), unit="currencyUSD"),
        )),
    ),
)  # fmt: skip
