"""The vocabulary of questions: every metric and every dimension, as two tables.

The tables feed validation, the planner, ``GET /api/v1/metrics/catalog``, Grafana's metric list and
docs/reference/metrics.md (a test compares them). A metric is a formula over *measures that add up*: counters, whose
sums over any partition of the spans make up the whole, and sketches, which merge. Ratios and percentiles are computed
last, from merged parts, so no average of averages can happen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from server.rollups.sketch import PERCENTILES
from server.text.suggestion import nearest_name

Permission = Literal["metrics:read", "costs:read"]
Family = Literal["spans", "actors", "scores", "retries"]
ActorKind = Literal["user", "session"]

DISTRIBUTION_AGGREGATIONS: Final = ("avg", "min", "max", "sum", *PERCENTILES, "histogram")

HISTOGRAM_BOUNDS: Final[tuple[float, ...]] = tuple(step * 10.0**power for power in range(7) for step in (1, 2, 5))
"""Upper bounds of histogram buckets: 1, 2, 5, 10 … 5,000,000, in the unit of the metric."""


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of a counter; ``avg`` (where allowed) is that sum divided by ``per``."""

    counter: str
    per: str = "calls"


@dataclass(frozen=True, slots=True)
class Ratio:
    """``numerator / denominator × scale``; null where the denominator is zero."""

    numerator: str
    denominator: str
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """A counter divided by the seconds of the bucket that are within the range and in the past."""

    counter: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of single spans: two counters yield the average, ``sketch`` the rest.

    The average is ``sum × factor / (weight × divisor)``, which brings it to the metric's unit.
    """

    sketch: str
    sum: str
    weight: str
    divisor: int = 1
    factor: int = 1


@dataclass(frozen=True, slots=True)
class Distinct:
    """Number of different users or sessions with at least one span."""

    actor: ActorKind


Formula = Total | Ratio | Rate | Distribution | Distinct


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. The first aggregation is the default. ``unit`` is a Grafana unit id."""

    name: str
    unit: str
    aggregations: tuple[str, ...]
    formula: Formula
    sentence: str
    family: Family = "spans"
    permission: Permission = "metrics:read"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One way to split. ``column`` is the column of llm_traces, or of the family's own table.

    ``is_rolled_up``: rollups know it, so long ranges stay cheap. ``has_many_values``: millions are possible, so only a
    top-N with "other" is returned. ``is_multiple``: one span may have several values and counts under each, so the
    parts may add up to more than the whole. ``is_attribute``: ``column`` is a key of the span's attributes, which only
    readers of content may see.
    """

    name: str
    column: str
    sentence: str
    is_rolled_up: bool = False
    has_many_values: bool = False
    is_multiple: bool = False
    is_attribute: bool = False
    family: Family = "spans"


_COST: Final = "costs:read"

_METRICS: Final = (
    Metric("calls", "short", ("sum",), Total("calls"), "Model calls: spans that are generations."),
    Metric("spans", "short", ("sum",), Total("spans"), "All spans: calls, tools, agents and the rest."),
    Metric("traces", "short", ("sum",), Total("traces"), "Traces: spans without a parent."),
    Metric("errors", "short", ("sum",), Total("errors"), "Model calls with status ERROR."),
    Metric("span_errors", "short", ("sum",), Total("span_errors"), "All spans with status ERROR."),
    Metric("error_rate", "percentunit", ("avg",), Ratio("errors", "calls"), "Share of model calls that failed."),
    Metric("success_rate", "percentunit", ("avg",), Ratio("successes", "calls"), "Share of calls that did not fail."),
    Metric("throughput", "reqps", ("avg",), Rate("calls"), "Model calls per second."),
    Metric(
        "retries",
        "short",
        ("sum",),
        Total("retries"),
        "Calls that follow a failed call of the same name under the same parent.",
        "retries",
    ),
    Metric(
        "duration",
        "ms",
        DISTRIBUTION_AGGREGATIONS,
        Distribution("duration", "duration_us", "calls", divisor=1000),
        "Time from start to end of a model call.",
    ),
    Metric(
        "span_duration",
        "ms",
        DISTRIBUTION_AGGREGATIONS,
        Distribution("span_duration", "span_duration_us", "spans", divisor=1000),
        "Time from start to end of any span; tools and agents by their names.",
    ),
    Metric(
        "time_to_first_token",
        "ms",
        DISTRIBUTION_AGGREGATIONS,
        Distribution("ttft", "ttft_us", "ttft_count", divisor=1000),
        "Delay until the first token or chunk, of calls that report it.",
    ),
    Metric(
        "output_tokens_per_second",
        "short",
        ("avg", "min", "max", *PERCENTILES, "histogram"),
        Distribution("speed", "speed_tokens", "speed_us", factor=1_000_000),
        "Output tokens per second of duration, of calls with output; avg is all tokens divided by all seconds.",
    ),
    *(
        Metric(f"{kind}_tokens", "short", ("sum", "avg"), Total(f"{kind}_tokens"), sentence)
        for kind, sentence in (
            ("prompt", "Input tokens of model calls, cache reads and writes included; avg is per call."),
            ("completion", "Output tokens of model calls, reasoning included; avg is per call."),
            ("total", "Input and output tokens of model calls; avg is per call."),
            ("cached", "Input tokens read from the provider's cache; avg is per call."),
            ("cache_write", "Input tokens written to the provider's cache; avg is per call."),
            ("reasoning", "Output tokens spent on reasoning; avg is per call."),
        )
    ),
    Metric(
        "prompt_cost",
        "currencyUSD",
        ("sum",),
        Total("prompt_cost"),
        "Cost of input tokens.",
        permission=_COST,
    ),
    Metric(
        "completion_cost",
        "currencyUSD",
        ("sum",),
        Total("completion_cost"),
        "Cost of output tokens.",
        permission=_COST,
    ),
    Metric("cost", "currencyUSD", ("sum",), Total("total_cost"), "Cost of model calls.", permission=_COST),
    Metric(
        "cost_per_call",
        "currencyUSD",
        ("avg",),
        Ratio("total_cost", "calls"),
        "Cost per model call.",
        permission=_COST,
    ),
    Metric(
        "cost_per_1k_tokens",
        "currencyUSD",
        ("avg",),
        Ratio("total_cost", "total_tokens", 1000),
        "Cost per thousand tokens.",
        permission=_COST,
    ),
    Metric(
        "error_cost",
        "currencyUSD",
        ("sum",),
        Total("error_cost"),
        "Cost of model calls that failed.",
        permission=_COST,
    ),
    Metric(
        "cache_savings",
        "currencyUSD",
        ("sum",),
        Total("cache_savings"),
        "Money saved by the provider's cache.",
        permission=_COST,
    ),
    Metric(
        "users",
        "short",
        ("distinct",),
        Distinct("user"),
        "Different users with at least one span; 0 if there are none.",
        "actors",
    ),
    Metric(
        "sessions",
        "short",
        ("distinct",),
        Distinct("session"),
        "Different sessions with at least one span; 0 if there are none.",
        "actors",
    ),
    Metric("scores", "short", ("sum",), Total("scores"), "Scores given, by the time they were given.", "scores"),
    Metric(
        "score_average",
        "short",
        ("avg",),
        Ratio("score_sum", "score_values"),
        "Average of numeric and boolean scores (true is 1).",
        "scores",
    ),
    Metric(
        "score_pass_rate",
        "percentunit",
        ("avg",),
        Ratio("score_passes", "score_checks"),
        "Share of boolean scores that are true.",
        "scores",
    ),
)

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _METRICS}

_DIMENSIONS: Final = (
    Dimension("provider", "provider", "Provider of the model.", is_rolled_up=True),
    Dimension("model", "model", "Model that answered.", is_rolled_up=True),
    Dimension("operation", "operation_type", "Kind of operation: chat, embeddings, execute_tool …", is_rolled_up=True),
    Dimension("service", "service_name", "Service that sent the span.", is_rolled_up=True),
    Dimension("environment", "environment", "Deployment environment.", is_rolled_up=True),
    Dimension("status", "status_code", "OK, ERROR or UNSET.", is_rolled_up=True),
    Dimension("error_type", "error_type", "Kind of error.", is_rolled_up=True),
    Dimension("finish_reason", "finish_reason", "Why the model stopped.", is_rolled_up=True),
    Dimension("agent", "agent_name", "Name of the agent.", is_rolled_up=True),
    Dimension("tool", "tool_name", "Name of the tool.", is_rolled_up=True),
    Dimension("prompt_name", "prompt_name", "Name of the prompt template.", is_rolled_up=True),
    Dimension("prompt_version", "prompt_version", "Version of the prompt template.", is_rolled_up=True),
    Dimension("project", "project_id", "Project.", is_rolled_up=True),
    Dimension("user", "user_id", "User; top-N with other.", has_many_values=True),
    Dimension("session", "session_id", "Session; top-N with other.", has_many_values=True),
    Dimension("tag", "tags", "Tag; a span counts under each of its tags.", has_many_values=True, is_multiple=True),
    Dimension("span_name", "span_name", "Name of the span.", has_many_values=True),
    Dimension("request_model", "request_model", "Requested model."),
    Dimension("service_version", "service_version", "Version of the service."),
    Dimension("score_name", "name", "Name of the score.", family="scores"),
    Dimension("score_source", "source", "Origin of the score: human, eval or api.", family="scores"),
)

DIMENSIONS: Final[dict[str, Dimension]] = {dimension.name: dimension for dimension in _DIMENSIONS}

# Columns and query parameters of the filter grammar name the same dimensions.
_ALIASES: Final = {dimension.column: dimension.name for dimension in _DIMENSIONS if dimension.family == "spans"}

_ATTRIBUTE = re.compile(r"attribute\.([^\x00-\x1f\x7f]{1,200})")


def find_dimension(name: str) -> Dimension | None:
    """Return the dimension called ``name``: one of the table (or its column), or ``attribute.KEY`` for any span
    attribute.
    """
    known = DIMENSIONS.get(_ALIASES.get(name, name))
    if known is not None:
        return known
    match = _ATTRIBUTE.fullmatch(name)
    if match is None:
        return None
    return Dimension(name, match[1], f"Span attribute {match[1]}.", has_many_values=True, is_attribute=True)


# Names in other tools: a question with one of them is refused with the name to use.
_ELSEWHERE: Final = {
    "latency": "duration", "response_time": "duration", "ttft": "time_to_first_token", "tps": "throughput",
    "requests": "calls", "count": "calls", "tokens": "total_tokens", "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens", "spend": "cost", "total_cost": "cost", "total_cost_usd": "cost",
    "failures": "errors", "customer": "user", "vendor": "provider", "app": "service", "env": "environment",
}  # fmt: skip


def suggest_name(name: str, known: dict[str, Metric] | dict[str, Dimension]) -> str:
    """Return a "did you mean" sentence, or the list of known names."""
    meant = _ELSEWHERE.get(name.lower())
    close = meant if meant in known else nearest_name(name, known)
    if close:
        return f"did you mean {close}?"
    return f"known are {', '.join(known)}{' and attribute.KEY' if known is DIMENSIONS else ''}"
