"""The function that answers each family of targets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from datasource.targets import budgets, call_paths, distributions, events, forecasts, metrics, spans, traces
from datasource.targets.core import Family

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        "timeseries": Family(metrics.timeseries, metrics.permissions),
        "stat": Family(metrics.stat, metrics.permissions),
        "breakdown": Family(metrics.breakdown, metrics.permissions),
        "month_forecast": Family(forecasts.month_forecast),
        "budgets": Family(budgets.budget_table),
        "heatmap": Family(distributions.heatmap, distributions.permissions),
        "histogram": Family(distributions.histogram, distributions.permissions),
        "availability": Family(distributions.availability),
        "spans": Family(spans.span_table),
        "traces": Family(spans.trace_table),
        "meaning": Family(spans.near_table),
        "xy": Family(spans.points),
        "logs": Family(spans.log_lines),
        "trace": Family(traces.waterfall),
        "messages": Family(traces.messages),
        "trace_totals": Family(traces.totals),
        "trace_scores": Family(traces.scores),
        "node_graph": Family(call_paths.node_graph),
        "flame_graph": Family(call_paths.flame_graph),
        "annotations": Family(events.annotation_frame),
    }
)
