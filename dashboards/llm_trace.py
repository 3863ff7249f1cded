"""``llm-trace``: one trace in full."""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import panel, stat, table
from dashboards.queries import Json, target, variable
from dashboards.variables import datasource_variable, text_variable

_TRACE: Final = variable("trace_id")


def _query(name: str, **payload: str) -> Json:
    return target(name, filtered=False, **{"trace_id": _TRACE, **payload})


BOARD: Final = Board(
    uid="llm-trace",
    title="LLM trace",
    description="One trace: its spans over time, what was said, and where its money went.",
    refresh="",
    time_from="now-24h",
    common=False,
    variables=(
        datasource_variable(),
        text_variable("trace_id", "Trace id", "The trace to show; links of other dashboards fill it in."),
    ),
    rows=(
        Row("Trace", (
            stat("Totals", "Duration, spans, tokens, cost and errors of the trace.", _query("trace_totals"),
                 unit="none", size=(24, 4)),
            panel("traces", "Spans", "Every span of the trace over time; a click shows its attributes and events.",
                  [_query("trace")], unit="ms", size=(24, 16)),
        )),
        Row("What was said", (
            table("Messages", "Prompts, answers and tool traffic in the order of the spans.", _query("messages"),
                  size=(24, 12)),
        )),
        Row("Where it went", (
            panel("flamegraph", "Cost by path", "Money along the path of spans.",
                  [_query("flame_graph", value="cost")], unit="currencyUSD", size=(12, 10)),
            panel("nodeGraph", "Agents, tools and models", "Who called whom in this trace.", [_query("node_graph")],
                  unit="short", size=(12, 10)),
        )),
    ),
)  # fmt: skip
