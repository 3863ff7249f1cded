"""``llm-models``: which model is used, how well does it do, what does it cost?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import ERROR_STEPS
from dashboards.panels import (
    ORANGE,
    TEAL,
    colored_cell,
    column,
    columns,
    gauge_cell,
    lines,
    shares,
    sized,
    states,
    table,
)
from dashboards.queries import ranking, rows, series, target

BOARD: Final = Board(
    uid="llm-models",
    title="LLM models and providers",
    description="Models side by side: traffic, errors, latency, speed, cost.",
    time_from="now-24h",
    rows=(
        Row("Side by side", (
            table("Models", "One row a model; compare p95 and cost by call before you switch.",
                  rows("calls,error_rate,duration_p50,duration_p95,time_to_first_token_p95,"
                       "output_tokens_per_second,total_tokens,cost,cost_per_call", "provider,model", limit=50),
                  size=(24, 10),
                  overrides=[
                      sized("Provider", 115),
                      column("Model", custom__minWidth=175),
                      gauge_cell("Calls"),
                      colored_cell("Error rate", ERROR_STEPS),
                      sized("Duration p50", 90, displayName="p50"),
                      column("Duration p95", displayName="p95", custom__minWidth=130,
                             custom__cellOptions={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
                             color={"mode": "fixed", "fixedColor": ORANGE}, min=0, fieldMinMax=True),
                      sized("Time to first token p95", 110, displayName="TTFT p95"),
                      sized("Output tokens per second avg", 80, displayName="Tok/s"),
                      sized("Total tokens", 90, displayName="Tokens"),
                      gauge_cell("Cost", TEAL),
                      sized("Cost per call", 100, displayName="Per call"),
                  ]),
        )),
        Row("Traffic", (
            columns("Calls by model", "Calls in each interval.", series("calls", "model"), unit="short", size=(16, 8)),
            shares("Share of calls", "Parts of all calls in the range.", ranking("calls", "model", limit=8),
                   unit="short", size=(8, 8)),
        )),
        Row("How well", (
            lines("p95 by model", "95th percentile of the duration.", series("duration_p95", "model", limit=8),
                  unit="ms"),
            lines("Cost per call by model", "What one call of each model costs: all its money by all its calls.",
                  series("cost_per_call", "model", limit=8), unit="currencyUSD"),
            states("Availability", "ok; degraded from 5 % of failed calls on; failing from 50 % on.",
                   target("availability", group_by="provider,model"), size=(24, 8)),
        )),
    ),
)  # fmt: skip
