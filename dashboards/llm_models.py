"""``llm-models``: which model is used, how well does it do, what does it cost?"""

from __future__ import annotations

from typing import Any, Final

from dashboards.board import Board, Row
from dashboards.panels import column, panel, shares, table, time_series
from dashboards.queries import target

_GAUGE: Final[dict[str, Any]] = {"custom__cellOptions": {"type": "gauge", "mode": "gradient"}, "min": 0}

BOARD: Final = Board(
    uid="llm-models",
    title="LLM models and providers",
    description="Models side by side: traffic, errors, latency, speed, cost.",
    time_from="now-24h",
    rows=(
        Row("Side by side", (
            table("Models", "One row per model; compare p95 and cost per call before you switch.",
                  target("breakdown", limit=50, group_by="provider,model",
                         metric="calls,error_rate,duration_p50,duration_p95,time_to_first_token_p95,"
                                "output_tokens_per_second,total_tokens,cost,cost_per_call"),
                  size=(24, 10),
                  overrides=[column("Calls", **_GAUGE), column("Cost", **_GAUGE), column("Duration p95", **_GAUGE)]),
        )),
        Row("Traffic", (
            time_series("Calls by model", "Calls in each interval.",
                        target("timeseries", metric="calls", group_by="model"), unit="short", bars=True,
                        stacked=True, size=(16, 8)),
            shares("Share of calls", "Parts of all calls in the range.",
                   target("breakdown", metric="calls", group_by="model", layout="columns"), unit="short",
                   size=(8, 8)),
            time_series("p95 by model", "95th percentile of the duration.",
                        target("timeseries", metric="duration_p95", group_by="model"), unit="ms"),
            time_series("Cost per call by model", "Money of each model divided by its calls.",
                        target("timeseries", metric="cost_per_call", group_by="model"), unit="currencyUSD"),
            panel("state-timeline", "Availability", "ok; degraded from 5 % of failed calls on; failing from 50 % on.",
                  [target("availability", group_by="provider,model")], size=(24, 8),
                  options={"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "alignValue": "left",
                           "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                           "tooltip": {"mode": "single"}},
                  custom={"fillOpacity": 70, "lineWidth": 0}),
        )),
    ),
)  # fmt: skip
