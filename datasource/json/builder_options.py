"""Options shown in Grafana's query builder, variables and filter menus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from datasource.panel_catalog import TARGETS
from datasource.panels.payload_values import parse_values
from datasource.payload_fields import Kind, PayloadField
from server.errors import InvalidParameter
from server.queries.filters.span_fields import FIELDS, FieldType
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS
from server.queries.metrics.metric_question import parse_measure

Option = dict[str, str]

# Headings in the menu of ad hoc filters, by the field table's groups.
_HEADINGS: Final[Mapping[str, str]] = {
    "core": "Span",
    "timing": "Time",
    "service": "Service",
    "generation": "Model call",
    "usage": "Tokens",
    "cost": "Cost",
    "identity": "User",
    "error": "Error",
    "virtual": "Span",
}
# The fields that people filter by most, first in the menu.
_FIRST: Final = (
    "model", "user_id", "service_name", "error_type", "status_code", "provider", "environment", "agent_name",
    "tool_name", "session_id",
)  # fmt: skip
_NOT_OFFERED: Final = frozenset({FieldType.JSON, FieldType.FULL_TEXT, FieldType.TIME})


def describe_targets(chosen: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the metric list of the query builder, each entry with its payload fields.

    For the ``chosen`` target the options that depend on its ``payload`` are filled in.
    """
    return [
        {
            "label": target.label,
            "value": target.name,
            "payloads": [_describe_field(item, payload if target.name == chosen else {}) for item in target.fields],
        }
        for target in TARGETS.values()
    ]


def fixed_options(item: PayloadField, payload: Mapping[str, Any]) -> list[Option] | None:
    """Return options that need no database; ``None`` if there are none or they must be looked up."""
    if item.options:
        return [{"label": label, "value": value} for value, label in item.options]
    match item.source:
        case "metrics":
            return [{"label": f"{name} – {metric.sentence}", "value": name} for name, metric in METRICS.items()]
        case "dimensions":
            return [{"label": f"{name} – {entry.sentence}", "value": name} for name, entry in DIMENSIONS.items()]
        case "aggregations":
            return [{"label": name, "value": name} for name in aggregations_of(payload)]
        case _:
            return None


def aggregations_of(payload: Mapping[str, Any]) -> list[str]:
    """Return the aggregations for the metrics of an unfinished ``payload``; all aggregations if no metric is chosen."""
    try:
        chosen = [parse_measure(name).metric for name in parse_values("metric", payload.get("metric"), escaped=True)]
    except InvalidParameter:
        # The builder asks before variables are replaced: "$metric" is not the name of a metric yet.
        chosen = []
    metrics = [METRICS[name] for name in chosen if name in METRICS] or METRICS.values()
    return list(dict.fromkeys(name for metric in metrics for name in metric.aggregations if name != "histogram"))


def tag_keys(may_read_content: bool) -> list[Option]:
    """Return the fields of ad hoc filters, grouped."""
    ordered = sorted(
        FIELDS.values(), key=lambda field: _FIRST.index(field.name) if field.name in _FIRST else len(_FIRST)
    )
    return [
        {"text": field.name, "value": field.name, "group": _HEADINGS.get(field.group, "Other")}
        for field in ordered
        if field.operators and field.type not in _NOT_OFFERED and (may_read_content or not field.is_content)
    ]


def as_options(values: Iterable[tuple[str, int | None]]) -> list[Option]:
    """Return the values with counts as options of the query builder."""
    return [{"label": value if count is None else f"{value} ({count})", "value": value} for value, count in values]


def _describe_field(item: PayloadField, payload: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": item.name,
        "label": item.label,
        "type": item.editor,
        "placeholder": _placeholder(item),
        "reloadMetric": item.reload,
    }
    options = fixed_options(item, payload)
    if options is not None:
        described["options"] = options
    if item.kind in (Kind.DOCUMENT, Kind.TEXT):
        described["width"] = 60
    return described


def _placeholder(item: PayloadField) -> str:
    if item.default is not None:
        return str(item.default).lower() if isinstance(item.default, bool) else str(item.default)
    return "all" if item.kind is Kind.VALUES else ""
