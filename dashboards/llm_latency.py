"""``llm-latency``: how long do calls take, and where does the time go?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import BLUE, PERCENTILE_COLORS, POINTS, bars, figure, lines, panel, table
from dashboards.queries import ranking, series, target, variable
from dashboards.variables import group_variable

BOARD: Final = Board(
    uid="llm-latency",
    title="LLM latency and streaming",
    description="Duration, time to first token and speed of calls.",
    variables=(group_variable(),),
    rows=(
        Row(None, (
            figure("duration_p50", "Latency p50", "Half of the calls were faster.", "ms", better="down", size=(4, 4)),
            figure("duration_p95", "Latency p95", "95 % of calls were faster.", "ms", better="down", size=(4, 4)),
            figure("duration_p99", "Latency p99", "99 % of calls were faster.", "ms", better="down", size=(4, 4)),
            figure("time_to_first_token_p50", "First token p50", "Half of the streamed calls were faster.", "ms",
                   better="down", size=(4, 4)),
            figure("time_to_first_token_p95", "First token p95", "95 % of the streamed calls were faster.", "ms",
                   better="down", size=(4, 4)),
            figure("output_tokens_per_second", "Output tokens/s", "Output tokens by second of duration.", "short",
                   better="up", size=(4, 4)),
        )),
        Row("Over time", (
            lines("Latency", "Percentiles of the duration of calls; diamonds are slow calls, each a link.",
                  series("duration", aggregation="p50,p95,p99", exemplars=True), unit="ms", colors=PERCENTILE_COLORS),
            lines("Time to first token", "Percentiles of the delay until something was shown.",
                  series("time_to_first_token", aggregation="p50,p95,p99"), unit="ms", colors=PERCENTILE_COLORS),
            lines("p95 by ${group_by:text}", "95th percentile of the duration, split by the variable Group by.",
                  series("duration_p95", variable("group_by"), limit=8), unit="ms"),
            lines("Output tokens/s by ${group_by:text}", "Speed of the answers, split by the variable Group by.",
                  series("output_tokens_per_second", variable("group_by"), limit=8), unit="short"),
        )),
        Row("Distribution", (
            panel("heatmap", "Duration of calls", "How many calls took how long in each interval; brighter is more.",
                  [target("heatmap", metric="duration")], unit="short", maxDataPoints=POINTS,
                  options={"calculate": False, "yAxis": {"unit": "ms", "axisPlacement": "left"},
                           "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "reverse": False},
                           "cellGap": 1, "legend": {"show": True}, "cellValues": {"unit": "short", "decimals": 0},
                           "tooltip": {"mode": "single", "yHistogram": True}, "rowsFrame": {"layout": "le"}}),
            panel("histogram", "Durations in the range", "How many calls of the range took how long.",
                  [target("histogram", metric="duration")], unit="ms",
                  defaults={"color": {"mode": "fixed", "fixedColor": BLUE}},
                  custom={"fillOpacity": 80, "lineWidth": 0},
                  options={"legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"}}),
        )),
        Row("Who is slow", (
            bars("p95 by model", "95th percentile of the duration by model, longest first.",
                 ranking("duration_p95", "model", limit=12), unit="ms"),
            panel("xychart", "Duration and output tokens",
                  "The newest calls as points: long answers take long; points far above the rest waited elsewhere.",
                  [target("xy", x="completion_tokens", y="duration_ms", limit=1000)], unit="ms",
                  defaults={"color": {"mode": "fixed", "fixedColor": BLUE}},
                  custom={"show": "points", "pointSize": {"fixed": 4}, "fillOpacity": 40},
                  options={"mapping": "auto", "series": [], "legend": {"showLegend": False, "displayMode": "list",
                                                                       "placement": "bottom"},
                           "tooltip": {"mode": "single", "sort": "none"}}),
            table("Slowest calls", "The 20 longest calls of the range; the first column opens the trace.",
                  target("slowest", limit=20), size=(24, 10)),
        )),
    ),
)  # fmt: skip
