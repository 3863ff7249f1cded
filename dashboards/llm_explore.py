"""``llm-explore``: find a trace."""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import STATUS_COLORS, panel, table, time_series
from dashboards.queries import target, variable
from dashboards.variables import text_variable

BOARD: Final = Board(
    uid="llm-explore",
    title="LLM trace explorer",
    description="Find traces by any field or by words in prompts and answers.",
    variables=(text_variable("search", "Search", "Words in prompts and answers, as in a web search; empty for all."),),
    rows=(
        Row("Traces", (
            time_series("Calls by status", "Calls in each interval; narrow the range by dragging over it.",
                        target("timeseries", metric="calls", group_by="status"), unit="short", bars=True,
                        stacked=True, colors=STATUS_COLORS, size=(24, 5)),
            table("Traces", "The newest traces that match all filters; the link opens one.",
                  target("traces", limit=100, search=variable("search")), size=(24, 13)),
        )),
        Row("Prompts and answers", (
            panel("logs", "Prompts and answers", "What was asked and answered, newest first.",
                  [target("logs", limit=100, search=variable("search"))], size=(24, 12),
                  options={"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "showLabels": False,
                           "showCommonLabels": False, "prettifyLogMessage": False, "sortOrder": "Descending",
                           "dedupStrategy": "none"}),
        )),
    ),
)  # fmt: skip
