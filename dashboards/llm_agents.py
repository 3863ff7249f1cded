"""``llm-agents``: which agents call which tools and models, how often, how long, for how much?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import panel, table, time_series
from dashboards.queries import target

BOARD: Final = Board(
    uid="llm-agents",
    title="LLM agents and tools",
    description="Agents, their tools and models: who calls whom, and where time and money go.",
    rows=(
        Row("Who calls whom", (
            panel("nodeGraph", "Agents, tools and models",
                  "Calls and cost of each; the ring is red for the share of failed calls. Newest 200 traces.",
                  [target("node_graph", limit=200)], unit="short", size=(24, 12), options={"zoomMode": "cooperative"}),
        )),
        Row("Where it goes", (
            panel("flamegraph", "Cost by path", "Money along the path of spans, newest 200 traces laid together.",
                  [target("flame_graph", value="cost", limit=200)], unit="currencyUSD", size=(12, 12)),
            panel("flamegraph", "Time by path", "Time along the path of spans, newest 200 traces laid together.",
                  [target("flame_graph", value="time", limit=200)], unit="ms", size=(12, 12)),
        )),
        Row("Agents and tools", (
            table("Agents", "Spans of each agent: how many, how long, how many failed.",
                  target("breakdown", metric="spans,span_errors,span_duration_p95", group_by="agent", limit=20),
                  size=(12, 9)),
            table("Tools", "Spans of each tool: how many, how long, how many failed.",
                  target("breakdown", metric="spans,span_errors,span_duration_p95", group_by="tool", limit=20),
                  size=(12, 9)),
            time_series("Tool spans", "Spans of each tool in each interval.",
                        target("timeseries", metric="spans", group_by="tool"), unit="short", size=(24, 8)),
        )),
    ),
)  # fmt: skip
