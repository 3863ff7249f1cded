"""Performance, quality and models: the reports of ``/analytics``."""

from __future__ import annotations

from typing import Any, Final, Literal

from server.queries.filters.filter_tree import And, Filter, Leaf
from server.queries.filters.span_fields import FIELDS
from server.queries.metrics.metric_answer import MetricAnswer, MetricGroup
from server.queries.metrics.metric_interval import Interval
from server.reports.report_window import ReportSource, ReportWindow, measures_of, reasons, share, single

Width = Interval | Literal["auto"]

COSTS: Final = ("cost", "prompt_cost", "completion_cost", "calls", "cost_per_call", "cost_per_1k_tokens")
PERFORMANCE: Final = (
    "calls",
    "throughput",
    "duration_avg",
    "duration_min",
    "duration_max",
    "duration_p50",
    "duration_p95",
    "duration_p99",
    "time_to_first_token_p50",
    "time_to_first_token_p95",
    "output_tokens_per_second_avg",
    "total_tokens_sum",
)
QUALITY: Final = (
    "calls",
    "errors",
    "error_rate",
    "success_rate",
    "retries",
    "scores",
    "score_average",
    "score_pass_rate",
)
MODELS: Final = (
    "calls",
    "error_rate",
    "success_rate",
    "duration_avg",
    "duration_p50",
    "duration_p95",
    "time_to_first_token_p95",
    "output_tokens_per_second_avg",
    "total_tokens_sum",
    "cost",
    "cost_per_call",
    "cost_per_1k_tokens",
)
SERIES: Final = {
    "costs": ("cost", "prompt_cost", "completion_cost", "calls"),
    "performance": ("calls", "duration_avg", "duration_p50", "duration_p95", "duration_p99"),
    "quality": ("calls", "errors", "error_rate", "success_rate"),
}
FEWEST_COMPARED: Final = 2
MOST_COMPARED: Final = 10


async def report_costs(source: ReportSource, window: ReportWindow, width: Width) -> dict[str, Any]:
    """Report money over time, and by provider, model and user."""
    report = await _overview(source, window, "costs", COSTS, width)
    whole = report["totals"]["cost"]
    for dimension in ("provider", "model", "user"):
        answer = await source.split(window, dimension, "cost", "calls", limit=20)
        report[f"by_{dimension}"] = [
            {**_row(group, ("cost", "calls"), dimension), "cost_share_pct": share(single(group, "cost"), whole)}
            for group in answer.groups
        ]
    return report


async def report_performance(source: ReportSource, window: ReportWindow, width: Width) -> dict[str, Any]:
    """Report latency, throughput and time to the first token, over time and by model."""
    report = await _overview(source, window, "performance", PERFORMANCE, width)
    answer = await source.split(
        window, "model", "calls", "duration_p50", "duration_p95", "duration_p99", order_by="calls", limit=20
    )
    report["by_model"] = [
        _row(group, ("calls", "duration_p50", "duration_p95", "duration_p99"), "model") for group in answer.groups
    ]
    return report


async def report_quality(source: ReportSource, window: ReportWindow, width: Width) -> dict[str, Any]:
    """Report errors by kind, finish reasons and scores."""
    report = await _overview(source, window, "quality", QUALITY, width)
    errors = await source.split(window, "error_type", "errors", order_by="errors", limit=10)
    report["errors_by_type"] = [
        {
            **_row(group, ("errors",), "error_type"),
            "share_pct": share(single(group, "errors"), report["totals"]["errors"]),
        }
        for group in errors.groups
        if single(group, "errors")
    ]
    finished = await source.split(window, "finish_reason", "calls", limit=10)
    report["finish_reasons"] = [_row(group, ("calls",), "finish_reason") for group in finished.groups]
    scores = await source.split(window, "score_name", "scores", "score_average", "score_pass_rate", limit=20)
    report["scores_by_name"] = [
        _row(group, ("scores", "score_average", "score_pass_rate"), "score_name") for group in scores.groups
    ]
    return report


async def report_models(source: ReportSource, window: ReportWindow, *, limit: int) -> list[dict[str, Any]]:
    """Return one row for each provider and model, busiest first."""
    answer = await source.ask(window.question(*MODELS, group_by=("provider", "model"), order_by="calls", limit=limit))
    return [_model(group) for group in answer.groups]


async def compare_models(source: ReportSource, window: ReportWindow, models: list[str]) -> dict[str, Any]:
    """Compare the named models, and name the fastest, cheapest and most reliable among those with calls."""
    chosen = Leaf(FIELDS["model"], "in", tuple(models))
    narrowed: Filter = chosen if window.filter is None else And((window.filter, chosen))
    answer = await source.ask(
        window.question(*MODELS, group_by=("model",), filter=narrowed, order_by="calls", limit=MOST_COMPARED)
    )
    found = {group.labels["model"]: _row(group, MODELS, "model") for group in answer.groups if not group.is_other}
    unused = {"is_other": False, **dict.fromkeys(_keys(MODELS))}
    rows = [found.get(model) or {"model": model, **unused} for model in models]
    for row in rows:
        row["calls"] = row["calls"] or 0
    return {"models": rows, "summary": _winners(rows)}


def _winners(rows: list[dict[str, Any]]) -> dict[str, Any]:
    used = [row for row in rows if row["calls"]]

    def best(key: str, lowest: bool) -> str | None:
        candidates = [row for row in used if row[key] is not None]
        if not candidates:
            return None
        ranked = sorted(candidates, key=lambda row: (row[key] if lowest else -row[key], row["model"]))
        return str(ranked[0]["model"])

    return {
        "fastest_model": best("duration_p50", True),
        "cheapest_model": best("cost_per_1k_tokens", True),
        "most_reliable_model": best("success_rate", False),
    }


async def _overview(
    source: ReportSource, window: ReportWindow, kind: str, measures: tuple[str, ...], width: Width
) -> dict[str, Any]:
    totals, changes = await source.compare(window, *measures)
    series = await source.ask(window.question(*SERIES[kind], interval=width))
    return {
        "totals": _row(totals, measures),
        "change_pct": {key: item.percent for key, item in changes.items()},
        "no_change_reasons": reasons(changes),
        "time_series": _series(series),
        "interval_seconds": series.meta.interval_seconds,
        "source": series.meta.source,
        "precision": series.meta.precision,
    }


def _series(answer: MetricAnswer) -> list[dict[str, Any]]:
    values = answer.groups[0].values
    incomplete = frozenset(answer.meta.incomplete)
    return [
        {"time": time, **{key: values[key][index] for key in answer.keys}, "incomplete": time in incomplete}
        for index, time in enumerate(answer.times)
    ]


def _model(group: MetricGroup) -> dict[str, Any]:
    labels = {name: "other" if group.is_other else value for name, value in group.labels.items()}
    return {**labels, "is_other": group.is_other, **_row(group, MODELS)}


def _row(group: MetricGroup, measures: tuple[str, ...], dimension: str | None = None) -> dict[str, Any]:
    values = {measure.key: single(group, measure.key) for measure in measures_of(*measures)}
    if dimension is None:
        return values
    name = "other" if group.is_other else group.labels[dimension]
    return {dimension: name, "is_other": group.is_other, **values}


def _keys(measures: tuple[str, ...]) -> list[str]:
    return [measure.key for measure in measures_of(*measures)]
