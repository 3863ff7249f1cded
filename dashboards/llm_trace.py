"""``llm-trace``: one trace in full."""

from __future__ import annotations

from typing import Any, Final

from dashboards.board import Board, Row
from dashboards.panels import column, panel, stat, table
from dashboards.queries import Json, target, variable
from dashboards.variables import datasource_variable, text_variable

_TRACE: Final = variable("trace_id")
_CHOOSE: Final = "Choose a trace: click one in the list below, or fill in the variable Trace id."

_NO_SCORES: Final = "No scores: POST /api/v1/scores adds one, and evaluations inside of spans are read."


def _query(name: str, **payload: Any) -> Json:
    return target(name, filtered=False, trace_id=_TRACE, **payload)


BOARD: Final = Board(
    uid="llm-trace",
    title="LLM trace",
    description="One trace: its spans over time, what was said, and where its money went.",
    refresh="",
    time_from="now-24h",
    common=False,
    in_menu=False,
    variables=(
        datasource_variable(),
        text_variable("trace_id", "Trace id", "The trace to show; links of other dashboards fill it in."),
    ),
    rows=(
        Row(None, (
            stat("Totals", "Duration, spans, tokens, cost and errors of the trace.", _query("trace_totals"),
                 unit="none", size=(24, 4), text_mode="value_and_name", defaults={"noValue": _CHOOSE}),
            panel("traces", "Spans", "Every span of the trace over time; a click shows its attributes and events.",
                  [_query("trace")], unit="ms", size=(24, 16), defaults={"noValue": _CHOOSE}),
        )),
        Row("Conversation", (
            table("Messages", "Prompts, answers and tool traffic in the order of the spans; what a call repeats is "
                  "shown once.", _query("messages"), size=(24, 12), defaults={"noValue": _CHOOSE},
                  overrides=[column("Content", custom__cellOptions={"type": "auto", "wrapText": True})]),
            table("Scores", "What people, evaluators and applications judged of this trace and its spans.",
                  _query("trace_scores"), size=(24, 6), defaults={"noValue": _NO_SCORES}),
        )),
        Row("Where it went", (
            panel("flamegraph", "Cost by path (USD)", "Money along the path of spans.",
                  [_query("flame_graph", value="cost", one_trace=True)], unit="short", size=(12, 12),
                  defaults={"noValue": _CHOOSE}),
            panel("nodeGraph", "Agents, tools and models", "Who called whom in this trace.",
                  [_query("node_graph", one_trace=True)], unit="short", size=(12, 12),
                  defaults={"noValue": _CHOOSE}),
        )),
        Row("Other traces", (
            table("Newest traces", "The newest traces of the range; the first column opens one here.",
                  target("traces", filtered=False, limit=20), size=(24, 10)),
        )),
    ),
)  # fmt: skip
