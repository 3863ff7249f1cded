"""``llm-latency``: how long do calls take, and where does the time go?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.llm_overview import figure
from dashboards.panels import PERCENTILE_COLORS, bars, panel, table, time_series
from dashboards.queries import target, variable
from dashboards.variables import group_variable

BOARD: Final = Board(
    uid="llm-latency",
    title="LLM latency and streaming",
    description="Duration, time to first token and speed of calls.",
    variables=(group_variable(),),
    rows=(
        Row("At a glance", (
            figure("duration_p50", "Latency p50", "Half of the calls were faster.", "ms", decimals=0),
            figure("duration_p99", "Latency p99", "99 % of calls were faster.", "ms", decimals=0),
            figure("time_to_first_token_p50", "First token p50", "Half of the streamed calls were faster.", "ms",
                   decimals=0),
            figure("output_tokens_per_second", "Output tokens/s", "Output tokens per second of duration.", "short",
                   decimals=1),
        )),
        Row("Distribution", (
            panel("heatmap", "Duration of calls", "How many calls took how long in each interval; brighter is more.",
                  [target("heatmap", metric="duration")], unit="short",
                  options={"calculate": False, "yAxis": {"unit": "ms", "axisPlacement": "left"},
                           "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                           "cellGap": 1, "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": True},
                           "rowsFrame": {"layout": "le"}}),
            panel("histogram", "Durations in the range", "How many calls of the range took how long.",
                  [target("histogram", metric="duration")], unit="ms",
                  options={"legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"}}),
        )),
        Row("Over time", (
            time_series("Latency", "Percentiles of the duration of calls; diamonds are slow calls, each a link.",
                        target("timeseries", metric="duration", aggregation="p50,p95,p99", exemplars=True), unit="ms",
                        colors=PERCENTILE_COLORS),
            time_series("Time to first token", "Percentiles of the delay until something was shown.",
                        target("timeseries", metric="time_to_first_token", aggregation="p50,p95,p99"), unit="ms",
                        colors=PERCENTILE_COLORS),
            time_series("p95 by ${group_by}", "95th percentile of the duration, split by the variable Group by.",
                        target("timeseries", metric="duration_p95", group_by=variable("group_by")), unit="ms"),
            time_series("Output tokens/s by ${group_by}", "Speed of the answers, split by the variable Group by.",
                        target("timeseries", metric="output_tokens_per_second", group_by=variable("group_by")),
                        unit="short"),
        )),
        Row("Who is slow", (
            bars("p95 by model", "95th percentile of the duration by model, longest first.",
                 target("breakdown", metric="duration_p95", group_by="model", limit=15), unit="ms"),
            panel("xychart", "Duration and output tokens",
                  "The newest calls as points: long answers take long; points far above the rest waited elsewhere.",
                  [target("xy", x="completion_tokens", y="duration_ms", limit=1000)], unit="ms",
                  options={"mapping": "auto", "series": [], "legend": {"showLegend": False, "displayMode": "list",
                                                                       "placement": "bottom"},
                           "tooltip": {"mode": "single"}}),
            table("Slowest calls", "The 20 longest calls of the range; the link opens the trace.",
                  target("slowest", limit=20)),
        )),
    ),
)  # fmt: skip
