"""``llm-quality``: how good are the answers, by evaluation and by what people say of them?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import bars, column, columns, figure, lines, table
from dashboards.queries import ranking, rows, series, variable
from dashboards.variables import choice_variable

_GROUPS: Final = (("model", "Model"), ("prompt_version", "Prompt version"), ("service", "Service"))

BOARD: Final = Board(
    uid="llm-quality",
    title="LLM quality",
    description="Scores of evaluations and of people: level, trend, by model and version.",
    time_from="now-30d",
    variables=(choice_variable("group_by", "Group by", "By what scores are split.", _GROUPS),),
    rows=(
        Row(None, (
            figure("score_average", "Average score", "The mean of all numeric scores in the range.", "short",
                   better="up", size=(8, 4)),
            figure("score_pass_rate", "Pass rate", "Share of the scores with a verdict that passed.", "percentunit",
                   better="up", size=(8, 4)),
            figure("scores", "Scores", "Scores of all kinds; few of them say little.", "short", better="up",
                   size=(8, 4)),
        )),
        Row("Over time", (
            lines("Score by evaluation", "Mean of each kind of score; a step down beside a release is a regression.",
                  series("score_average", "score_name", limit=8), unit="short"),
            lines("Pass rate by evaluation", "Share of passed verdicts of each kind of score.",
                  series("score_pass_rate", "score_name", limit=8), unit="percentunit"),
            columns("Scores by source", "How many scores came from whom: code, a judging model, people.",
                    series("scores", "score_source", limit=8), unit="short"),
            lines("Score by ${group_by:text}", "Mean of all scores, split by the variable Group by.",
                  series("score_average", variable("group_by"), limit=8), unit="short"),
        )),
        Row("What and whose", (
            table("Evaluations", "Each kind of score: how many, its mean, and the share that passed.",
                  rows("scores,score_average,score_pass_rate", "score_name"), size=(12, 9),
                  overrides=[column("Score name", displayName="Evaluation", custom__minWidth=150)]),
            bars("Average by ${group_by:text}", "Mean of all scores, split by the variable Group by.",
                 ranking("score_average", variable("group_by")), unit="short", size=(12, 9)),
        )),
    ),
)  # fmt: skip
