"""``llm-coding-agents``: what do coding agents cost, who uses them, and is what they write kept?"""

from __future__ import annotations

import json
from typing import Any, Final

from dashboards.board import Board, Row
from dashboards.panels import TEAL, bars, colored_cell, column, columns, figure, gauge_cell, lines, table
from dashboards.queries import ranking, rows, series, target
from dashboards.variables import to_board

AGENTS: Final = (
    "claude-code", "codex", "codex_cli_rs", "codex-cli", "gemini-cli", "opencode", "aider", "cursor", "copilot-cli",
    "qwen-code",
)  # fmt: skip
"""Services under whose name coding agents report themselves."""

_ONLY: Final[dict[str, Any]] = {
    "where": json.dumps({"field": "service_name", "operator": "in", "value": list(AGENTS)}),
}
_FAILED_STEPS: Final = ((None, "text"), (1, "orange"), (20, "red"))

BOARD: Final = Board(
    uid="llm-coding-agents",
    title="LLM coding agents",
    description="Claude Code, Codex, Gemini CLI and the like: cost, sessions, tools, people, and what was accepted.",
    time_from="now-7d",
    rows=(
        Row(None, (
            figure("cost", "Cost", "Money for the calls of coding agents.", "currencyUSD", better="down",
                   payload=_ONLY, size=(4, 4)),
            figure("sessions", "Sessions", "Different sessions with at least one step.", "short", payload=_ONLY,
                   size=(4, 4)),
            figure("users", "People", "Different people with at least one step.", "short", better="up",
                   payload=_ONLY, size=(4, 4)),
            figure("calls", "Model calls", "Calls of models by coding agents.", "short", payload=_ONLY, size=(4, 4)),
            figure("error_rate", "Error rate", "Share of their model calls that failed.", "percentunit",
                   better="down", payload=_ONLY, size=(4, 4)),
            figure("cached_tokens", "From caches", "Input tokens read from a cache of the provider: a session that "
                   "reads little from it costs a multiple.", "short", better="up", payload=_ONLY, size=(4, 4)),
        )),
        Row("Over time", (
            columns("Cost by model", "Money in each interval by model.", series("cost", "model", **_ONLY),
                    unit="currencyUSD", size=(8, 8)),
            columns("Cost by person", "Money in each interval of the people with most.",
                    series("cost", "user", limit=8, **_ONLY), unit="currencyUSD", size=(8, 8)),
            columns("Tool calls", "Spans of each tool in each interval.", series("spans", "tool", limit=8, **_ONLY),
                    unit="short", size=(8, 8)),
        )),
        Row("Who and with what", (
            table("People", "People by spend; a click lists their traces.",
                  rows("cost,sessions,calls,total_tokens", "user", **_ONLY), size=(12, 9),
                  overrides=[
                      column("User", displayName="Person", custom__minWidth=120,
                             links=[to_board("Traces of this person", "llm-explore", "user", "user")]),
                      gauge_cell("Cost", TEAL),
                      column("Total tokens", displayName="Tokens"),
                  ]),
            table("Tools", "Tools by use: how long they take, and how often they fail.",
                  rows("spans,span_errors,span_duration_p95", "tool", **_ONLY), size=(12, 9),
                  overrides=[
                      column("Tool", custom__minWidth=120),
                      gauge_cell("Spans"),
                      column("Spans", displayName="Calls"),
                      colored_cell("Span errors", _FAILED_STEPS),
                      column("Span errors", displayName="Failed"),
                      column("Span duration p95", displayName="p95"),
                  ]),
            bars("Repositories and tags", "Money by tag: coding agents tag their spans with the repository.",
                 ranking("cost", "tag", **_ONLY), unit="currencyUSD", size=(8, 8)),
            bars("Agents", "Money by agent, most first.", ranking("cost", "service", **_ONLY),
                 unit="currencyUSD", size=(8, 8)),
            lines("Accepted", "Share of the scores with a verdict that passed, such as accepted edits.",
                  series("score_pass_rate", "score_name", limit=6, **_ONLY), unit="percentunit", size=(8, 8)),
        )),
        Row("Sessions", (
            table("Newest runs", "One row a run; the first column opens its trace.",
                  target("traces", limit=50, **_ONLY), size=(24, 10)),
        )),
    ),
)  # fmt: skip
