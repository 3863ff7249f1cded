"""``llm-explore``: find a trace."""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import STATUS_COLORS, bars, columns, panel, table
from dashboards.queries import ranking, series, target, variable
from dashboards.variables import text_variable

BOARD: Final = Board(
    uid="llm-explore",
    title="LLM trace explorer",
    description="Find traces by any field or by words in prompts and answers.",
    variables=(
        text_variable("search", "Search", "Words in prompts and answers, as in a web search, in the calls that were "
                      "the first to say them; empty for all."),
        text_variable("meaning", "Meaning", "Near in meaning to this, in any language; for the table Near in meaning."),
        text_variable("like", "Like", "TRACE_ID or TRACE_ID/SPAN_ID: what is near to it, instead of Meaning."),
    ),
    rows=(
        Row(None, (
            columns("Calls", "Calls in each interval by status; narrow the range by dragging over it.",
                    series("calls", "status"), unit="short", colors=STATUS_COLORS, size=(24, 5)),
            table("Traces", "The newest traces that match all filters; the first column opens one.",
                  target("traces", limit=100, search_new=variable("search")), size=(24, 14)),
        )),
        Row("By meaning", (
            table("Near in meaning", "Spans near in meaning to the box Meaning, or to the span in Like, nearest first; "
                  "the newest while both are empty. With Search: near in meaning or with these words.",
                  target("meaning", limit=50, meaning=variable("meaning"), like=variable("like"),
                         search=variable("search")), size=(24, 10)),
        )),
        Row("Conversation", (
            panel("logs", "Prompts and answers", "What was asked and answered, newest first; failed calls in red.",
                  [target("logs", limit=100, search_new=variable("search"))], size=(24, 12),
                  options={"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "showLabels": False,
                           "showCommonLabels": False, "prettifyLogMessage": False, "sortOrder": "Descending",
                           "dedupStrategy": "none"}),
        )),
        Row("By whom and what", (
            bars("Models", "Calls by model under the filters.", ranking("calls", "model"), unit="short", size=(8, 8)),
            bars("Users", "Calls by user under the filters.", ranking("calls", "user"), unit="short", size=(8, 8)),
            bars("Error types", "Failed calls by class under the filters.",
                 ranking("errors", "error_type", status="error"), unit="short", size=(8, 8)),
        )),
    ),
)  # fmt: skip
