"""``llm-agents``: which agents call which tools and models, how often, how long, for how much?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import TEAL, colored_cell, column, columns, figure, gauge_cell, lines, panel, table
from dashboards.queries import rows, series, target

SPAN_ERROR_STEPS: Final = ((None, "text"), (1, "red"))


BOARD: Final = Board(
    uid="llm-agents",
    title="LLM agents and tools",
    description="Agents, their tools and models: who calls whom, and where time and money go.",
    rows=(
        Row(None, (
            figure("traces", "Runs", "Traces: one for each time that an agent or a request began.", "short",
                   size=(6, 4)),
            figure("spans", "Steps", "Spans: calls of models and tools, and agents.", "short", size=(6, 4)),
            figure("span_errors", "Failed steps", "Spans with status ERROR, tools included.", "short", better="down",
                   size=(6, 4)),
            figure("cost", "Cost", "Money for all calls of models.", "currencyUSD", better="down", size=(6, 4)),
        )),
        Row("Agents and tools", (
            table("Agents", "Steps of each agent: how many, how long, how many failed, and the money of the calls "
                  "that carry its name.", rows("spans,span_errors,span_duration_p95,cost", "agent"), size=(12, 9),
                  overrides=[
                      column("Agent", custom__minWidth=140),
                      column("Spans", displayName="Steps"),
                      colored_cell("Span errors", SPAN_ERROR_STEPS),
                      column("Span errors", displayName="Failed"),
                      gauge_cell("Cost", TEAL),
                      column("Span duration p95", displayName="p95"),
                  ]),
            table("Tools", "Spans of each tool: how many, how long, how many failed.",
                  rows("spans,span_errors,span_duration_p95", "tool"), size=(12, 9),
                  overrides=[
                      column("Tool", custom__minWidth=140),
                      gauge_cell("Spans"),
                      colored_cell("Span errors", SPAN_ERROR_STEPS),
                      column("Span errors", displayName="Failed"),
                      column("Span duration p95", displayName="p95"),
                  ]),
            columns("Tool calls", "Spans of each tool in each interval; a tool called in circles is easy to see.",
                    series("spans", "tool", limit=8), unit="short", size=(8, 8)),
            columns("Failed tool calls", "Failed spans of each tool in each interval.",
                    series("span_errors", "tool", limit=8), unit="short", size=(8, 8)),
            lines("p95 by tool", "95th percentile of the duration of each tool.",
                  series("span_duration_p95", "tool", limit=8), unit="ms", size=(8, 8)),
        )),
        Row("Who calls whom", (
            panel("nodeGraph", "Agents, tools and models",
                  "Calls and cost of each; the ring is red for the share of failed calls. Newest 200 traces.",
                  [target("node_graph", limit=200)], unit="short", size=(24, 20),
                  options={"zoomMode": "cooperative", "layoutAlgorithm": "layered"}),
        )),
        Row("Where it goes", (
            panel("flamegraph", "Cost by path (USD)", "Money along the path of spans, newest 200 traces laid together.",
                  [target("flame_graph", value="cost", limit=200)], unit="short", size=(12, 9)),
            panel("flamegraph", "Time by path", "Time along the path of spans, newest 200 traces laid together.",
                  [target("flame_graph", value="time", limit=200)], unit="ns", size=(12, 9)),
        )),
    ),
)  # fmt: skip
