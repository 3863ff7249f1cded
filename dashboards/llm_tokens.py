"""``llm-tokens``: how many tokens, for what, and how many of them came from a cache?"""

from __future__ import annotations

from typing import Final

from dashboards.board import Board, Row
from dashboards.panels import BLUE, ORANGE, PURPLE, TEAL, bars, columns, figure, lines, panel, table
from dashboards.queries import ranking, rows, series, target, variable
from dashboards.variables import group_variable

BOARD: Final = Board(
    uid="llm-tokens",
    title="LLM tokens and caches",
    description="Input, output, reasoning and cached tokens; calls that were cut; what uses most.",
    time_from="now-24h",
    variables=(group_variable(),),
    rows=(
        Row(None, (
            figure("prompt_tokens", "Input tokens", "Input tokens, cache reads and writes included.", "short",
                   size=(4, 4)),
            figure("completion_tokens", "Output tokens", "Output tokens, reasoning included.", "short", size=(4, 4)),
            figure("reasoning_tokens", "Reasoning", "Output tokens spent on reasoning.", "short", size=(4, 4)),
            figure("cached_tokens", "From caches", "Input tokens read from a cache of the provider.", "short",
                   better="up", size=(4, 4)),
            figure("cache_savings", "Saved by caches", "What cache reads saved.", "currencyUSD", better="up",
                   size=(4, 4)),
            figure("total_tokens", "Tokens per call", "Input and output tokens of the average call.", "short",
                   payload={"aggregation": "avg"}, size=(4, 4)),
        )),
        Row("Over time", (
            columns("Tokens", "Input and output tokens in each interval.", series("prompt_tokens,completion_tokens"),
                    unit="short", colors={"Prompt tokens": BLUE, "Completion tokens": TEAL}),
            columns("Cache and reasoning", "Of the tokens: read from a cache, written to it, spent on reasoning.",
                    series("cached_tokens,cache_write_tokens,reasoning_tokens"), unit="short",
                    colors={"Cached tokens": TEAL, "Cache write tokens": ORANGE, "Reasoning tokens": PURPLE}),
            columns("Tokens by ${group_by:text}", "All tokens in each interval, split by the variable Group by.",
                    series("total_tokens", variable("group_by")), unit="short"),
            lines("Tokens per call by ${group_by:text}", "Tokens of the average call: a prompt that grows shows here.",
                  series("total_tokens_avg", variable("group_by"), limit=8), unit="short"),
        )),
        Row("What uses most", (
            bars("By prompt", "Tokens by prompt, of the calls that name theirs.",
                 ranking("total_tokens", "prompt_name"), unit="short", size=(8, 8)),
            bars("By model", "Tokens by model, most first.", ranking("total_tokens", "model"), unit="short",
                 size=(8, 8)),
            bars("Finish reasons", "Why models stopped; length means that the answer was cut: raise the limit.",
                 ranking("calls", "finish_reason"), unit="short", size=(8, 8)),
            table("Services", "Tokens by service, most first.",
                  rows("total_tokens,prompt_tokens,completion_tokens,cached_tokens,calls", "service"), size=(12, 9)),
            panel("histogram", "Input tokens of calls", "How many calls had an input of which length.",
                  [target("xy", x="prompt_tokens", y="completion_tokens", limit=1000)], unit="short", size=(12, 9),
                  defaults={"color": {"mode": "fixed", "fixedColor": BLUE}},
                  custom={"fillOpacity": 80, "lineWidth": 0},
                  transformations=[{"id": "filterFieldsByName", "options": {"include": {"names": ["Prompt tokens"]}}}],
                  options={"bucketCount": 30, "combine": False,
                           "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"}}),
        )),
    ),
)  # fmt: skip
