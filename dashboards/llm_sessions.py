"""``llm-sessions``: who uses it, and what is said from the first message of a conversation to its last?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import TEAL, column, columns, figure, gauge_cell, lines, panel, table
from dashboards.queries import rows, series, target, variable
from dashboards.variables import text_variable, to_board

_SESSION: Final = variable("session")

BOARD: Final = Board(
    uid="llm-sessions",
    title="LLM users and sessions",
    description="Users and their conversations; with a session chosen, that conversation from first to last message.",
    time_from="now-7d",
    variables=(text_variable("session", "Session", "One conversation; links fill it in, empty for all."),),
    rows=(
        Row(None, (
            figure("users", "Active users", "Different users with at least one span.", "short", better="up",
                   payload={"session": _SESSION}, size=(6, 4)),
            figure("sessions", "Sessions", "Different conversations with at least one span.", "short", better="up",
                   payload={"session": _SESSION}, size=(6, 4)),
            figure("calls", "Calls", "Calls of models in these conversations.", "short",
                   payload={"session": _SESSION}, size=(6, 4)),
            figure("cost", "Cost", "Money for these conversations.", "currencyUSD", better="down",
                   payload={"session": _SESSION}, size=(6, 4)),
        )),
        Row("Over time", (
            lines("Active users and sessions", "Different users and conversations in each interval.",
                  series("users,sessions", session=_SESSION), unit="short"),
            columns("Cost by user", "Money in each interval of the users with most.",
                    series("cost", "user", limit=8, session=_SESSION), unit="currencyUSD"),
        )),
        Row("Who", (
            table("Users", "The users with the highest spend; a click lists their traces.",
                  rows("cost,calls,sessions,error_rate", "user", session=_SESSION), size=(12, 10),
                  overrides=[
                      column("User", links=[to_board("Traces of this user", "llm-explore", "user", "user")],
                             custom__minWidth=130),
                      gauge_cell("Cost", TEAL),
                  ]),
            table("Sessions", "The conversations with the highest spend; a click shows one from first to last.",
                  rows("cost,calls,total_tokens,errors", "session", session=_SESSION), size=(12, 10),
                  overrides=[
                      column("Session", links=[to_board("This conversation", "llm-sessions", "session", "session")],
                             custom__minWidth=150),
                      gauge_cell("Cost", TEAL),
                      column("Total tokens", displayName="Tokens"),
                  ]),
        )),
        Row("The conversation", (
            table("Traces", "One row a turn, newest first; the first column opens the trace.",
                  target("traces", limit=100, session=_SESSION), size=(24, 9)),
            panel("logs", "Prompts and answers", "Turns in the order of time; choose a session to read one "
                  "conversation from first to last message.",
                  [target("logs", limit=200, session=_SESSION)], size=(24, 14),
                  options={"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "showLabels": False,
                           "showCommonLabels": False, "prettifyLogMessage": False, "sortOrder": "Ascending",
                           "dedupStrategy": "none"}),
        )),
    ),
)  # fmt: skip
