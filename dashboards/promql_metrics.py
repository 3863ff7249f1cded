"""Metrics of the JSON data source as PromQL: the same engine answers both, so the numbers are the same.

A metric that only the JSON data source has (different users, speed of output, retries …) is not in the table, and a
panel about it is left out of the dashboards that need no plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LABELS: Final[Mapping[str, str]] = {
    name: name
    for name in (
        "project", "provider", "model", "operation", "service", "environment", "status", "error_type", "finish_reason",
        "agent", "tool", "prompt_name", "prompt_version", "score_name", "score_source",
    )
}  # fmt: skip
"""Dimensions by which series are split, and their labels."""


@dataclass(frozen=True, slots=True)
class PromqlMetric:
    """``expression`` has places for the labels ``{by}``, the selector ``{where}`` and the window ``{window}``."""

    expression: str
    unit: str
    label: str

    def write(self, by: str, where: str, window: str) -> str:
        """Return the expression for a grouping, a selector and a window."""
        grouped = self.expression.replace("le, {by}", f"le, {by}" if by else "le").replace("{by}", by)
        return grouped.replace("{where}", where).replace("{window}", window)


def _grown(series: str, *matchers: str) -> str:
    chosen = ", ".join(("{where}", *matchers))
    return f"sum by ({{by}}) (increase({series}{{{chosen}}}[{{window}}]))"


def _counter(series: str, unit: str, label: str, *matchers: str) -> PromqlMetric:
    return PromqlMetric(_grown(series, *matchers), unit, label)


def _quantile(histogram: str, fraction: float, label: str) -> PromqlMetric:
    rate = f"sum by (le, {{by}}) (rate({histogram}_bucket{{{{where}}}}[{{window}}]))"
    return PromqlMetric(f"1000 * histogram_quantile({fraction:g}, {rate})", "ms", label)


_CALLS: Final = _grown("llm_calls_total")
_SPANS: Final = _grown("llm_spans_total")
_FAILED_SPANS: Final = _grown("llm_spans_total", 'status="ERROR"')
_TOKENS: Final = _grown("llm_tokens_total")
_COST: Final = _grown("llm_cost_usd_total")
_DURATION: Final = "llm_duration_seconds"
_FIRST_TOKEN: Final = "llm_time_to_first_token_seconds"  # noqa: S105 - the name of a series

METRICS: Final[Mapping[str, PromqlMetric]] = {
    "calls": _counter("llm_calls_total", "short", "Calls"),
    "errors": _counter("llm_errors_total", "short", "Errors"),
    "spans": _counter("llm_spans_total", "short", "Spans"),
    # If no call failed, the value is 0, not missing.
    "span_errors": PromqlMetric(f"({_FAILED_SPANS} or 0 * {_SPANS})", "short", "Span errors"),
    "error_rate": PromqlMetric(f"{_grown('llm_errors_total')} / {_CALLS}", "percentunit", "Error rate"),
    "prompt_tokens": _counter("llm_tokens_total", "short", "Prompt tokens", 'token_type="input"'),
    "completion_tokens": _counter("llm_tokens_total", "short", "Completion tokens", 'token_type="output"'),
    "total_tokens": _counter("llm_tokens_total", "short", "Total tokens"),
    "total_tokens_avg": PromqlMetric(f"{_TOKENS} / {_CALLS}", "short", "Total tokens avg"),
    "cached_tokens": _counter("llm_special_tokens_total", "short", "Cached tokens", 'token_type="cache_read"'),
    "cache_write_tokens": _counter(
        "llm_special_tokens_total", "short", "Cache write tokens", 'token_type="cache_write"'
    ),
    "reasoning_tokens": _counter("llm_special_tokens_total", "short", "Reasoning tokens", 'token_type="reasoning"'),
    "cost": _counter("llm_cost_usd_total", "currencyUSD", "Cost"),
    "error_cost": _counter("llm_error_cost_usd_total", "currencyUSD", "Error cost"),
    "cache_savings": _counter("llm_cache_savings_usd_total", "currencyUSD", "Cache savings"),
    "cost_per_call": PromqlMetric(f"{_COST} / {_CALLS}", "currencyUSD", "Cost per call"),
    "cost_per_1k_tokens": PromqlMetric(f"1000 * {_COST} / {_TOKENS}", "currencyUSD", "Cost per 1k tokens"),
    **{f"duration_p{part}": _quantile(_DURATION, part / 100, f"Duration p{part}") for part in (50, 95, 99)},
    **{
        f"time_to_first_token_p{part}": _quantile(_FIRST_TOKEN, part / 100, f"Time to first token p{part}")
        for part in (50, 95, 99)
    },
}
"""Metric, with its aggregation if the name has one → its PromQL."""
