"""The declaration of everything a panel can query: one :class:`TargetDefinition` each, with its payload fields.

Routes fill Grafana's query builder from it, :mod:`datasource.json.evaluation` dispatches by it, dashboards are checked
against it and docs/reference/grafana-datasource.md is generated from it. It knows no HTTP and no database, so that the
plugin and the dashboards may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from datasource.payload_fields import (
    AGGREGATION,
    COLORS,
    COMPARE,
    FILL,
    GROUP_BY,
    INCOMPLETE,
    INTERVAL,
    LIKE,
    MEANING,
    MEASURED,
    METRICS_FIELD,
    MISSING,
    NUMERIC_COLUMNS,
    ONE_METRIC,
    ONE_TRACE,
    ORDER,
    PERIOD,
    PROJECT,
    ROWS,
    SPAN_SORT,
    TRACE_ID,
    VARIABLES,
    Kind,
    PayloadField,
    limit_field,
)


class Shape(StrEnum):
    """The form of the answer."""

    SERIES = "series"
    TABLE = "table"
    WIRE = "wire frame"


@dataclass(frozen=True, slots=True)
class TargetDefinition:
    """One entry of the metric list.

    ``family`` names the function of :mod:`datasource.json.evaluation` that answers; ``preset`` fixes some of its
    payload, ``only`` narrows the rows to those whose fields have these values. ``permission`` is the scope the caller
    must hold (money additionally needs ``costs:read``, content ``content:read``). ``core`` names the part of the query
    core that answers.
    """

    name: str
    label: str
    sentence: str
    family: str
    shape: Shape
    panels: tuple[str, ...]
    unit: str
    permission: str
    core: str
    fields: tuple[PayloadField, ...]
    preset: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)

    def field_named(self, name: str) -> PayloadField | None:
        """Return the payload field ``name``, or ``None``."""
        return next((item for item in self.fields if item.name == name), None)


_SPANS = ("span list", "traces:read")
_ENGINE = ("metric engine", "metrics:read")
_TREE = ("trace tree", "traces:read")


def _target(
    name: str, label: str, sentence: str, *, family: str = "", shape: Shape, panels: tuple[str, ...], unit: str,
    asks: tuple[str, str], fields: tuple[PayloadField, ...], preset: Mapping[str, Any] | None = None,
    only: Mapping[str, Any] | None = None,
) -> TargetDefinition:  # fmt: skip
    core, permission = asks
    return TargetDefinition(
        name, label, sentence, family or name, shape, panels, unit, permission, core, fields, preset or {}, only or {}
    )


_DECLARED: Final = (
    _target(
        "timeseries", "Time series of metrics", "Any metric over time, split by up to three dimensions.",
        shape=Shape.SERIES, panels=("timeseries", "barchart", "stat", "bargauge"), unit="the metric's", asks=_ENGINE,
        fields=(METRICS_FIELD, AGGREGATION, GROUP_BY, limit_field(10, 100, "Most lines; the rest is summed as other."),
                FILL, INTERVAL, MISSING, INCOMPLETE, COLORS,
                PayloadField("exemplars", "Exemplars", Kind.BOOLEAN,
                             "Mark the slowest calls, for duration and time_to_first_token; a click opens the trace.",
                             options=(("true", "yes"), ("false", "no")), default=False),
                *MEASURED),
    ),
    _target(
        "stat", "Value with previous period", "Metrics over the range as one row, with value before and change.",
        shape=Shape.TABLE, panels=("stat", "gauge", "bargauge", "table"), unit="the metric's", asks=_ENGINE,
        fields=(METRICS_FIELD, AGGREGATION, PERIOD, COMPARE,
                PayloadField("layout", "Layout", Kind.CHOICE,
                             "One row with a column each, or two points in time (before and now), of which the Stat "
                             "panel shows the change.",
                             options=(("row", "one row"), ("change", "before and now")), default="row"),
                PayloadField("show", "Show", Kind.CHOICES, "Which of the columns; empty: all.",
                             options=(("value", "value"), ("before", "value before"), ("change", "change"))),
                *MEASURED),
    ),
    _target(
        "breakdown", "Top N by dimension", "Metrics by the values of up to three dimensions: bars, shares, tables.",
        shape=Shape.TABLE, panels=("barchart", "piechart", "bargauge", "table"), unit="the metric's", asks=_ENGINE,
        fields=(METRICS_FIELD, AGGREGATION, GROUP_BY,
                PayloadField("order_by", "Order by", Kind.CHOICE, "A metric; empty: the first one.", source="metrics"),
                ORDER, limit_field(10, 1000, "Most rows; the rest is summed as other."), MISSING, COLORS,
                PayloadField("layout", "Layout", Kind.CHOICE, "One row a group, or one row with a column a group.",
                             options=(("rows", "rows"), ("columns", "one row")), default="rows"),
                *MEASURED),
    ),
    _target(
        "month_forecast", "Cost of the month", "Cost of the month: expected, at least, at most, and so far.",
        shape=Shape.TABLE, panels=("stat", "gauge", "table"), unit="currencyUSD", asks=("cost forecast", "costs:read"),
        fields=MEASURED,
    ),
    _target(
        "budgets", "Budgets", "One row per budget: spent, used, projected, when it is used up, status.",
        shape=Shape.TABLE, panels=("table", "bargauge", "stat"), unit="by column", asks=("budgets", "costs:read"),
        fields=(PROJECT, VARIABLES),
    ),
    _target(
        "heatmap", "Heatmap of a distribution", "How a metric's values are distributed over time, in buckets of value.",
        shape=Shape.WIRE, panels=("heatmap",), unit="the metric's", asks=_ENGINE,
        fields=(ONE_METRIC, INTERVAL, *MEASURED),
    ),
    _target(
        "histogram", "Histogram of a distribution", "How often which values of a metric occur in the range.",
        shape=Shape.WIRE, panels=("histogram", "barchart"), unit="the metric's", asks=_ENGINE,
        fields=(ONE_METRIC, *MEASURED),
    ),
    _target(
        "availability", "State over time", "Whether calls work, by group: ok, degraded or failing, one row per change.",
        shape=Shape.WIRE, panels=("state-timeline", "status-history"), unit="none", asks=_ENGINE,
        fields=(GROUP_BY, limit_field(20, 100, "Most groups."), INTERVAL,
                PayloadField("degraded", "Degraded from", Kind.NUMBER, "Share of failed calls, 0–1.", default=0.05),
                PayloadField("failing", "Failing from", Kind.NUMBER, "Share of failed calls, 0–1.", default=0.5),
                *MEASURED),
    ),
    _target(
        "spans", "Table of spans", "Spans with a link to their trace, newest first or by any measure.",
        shape=Shape.TABLE, panels=("table",), unit="by column", asks=_SPANS,
        fields=(SPAN_SORT, ORDER, limit_field(50, 1000, "Most rows."),
                PayloadField("roots", "Roots only", Kind.BOOLEAN, "Only spans without a parent.",
                             options=(("true", "yes"), ("false", "no")), default=False), *ROWS),
    ),
    _target(
        "traces", "Table of traces", "One row per trace: root, user, spans, tokens, cost, duration, errors, link.",
        shape=Shape.TABLE, panels=("table",), unit="by column", asks=_SPANS,
        fields=(limit_field(50, 1000, "Most rows."), *ROWS),
    ),
    _target(
        "meaning", "Near in meaning", "Spans near in meaning to a text or a span, nearest first, with links.",
        shape=Shape.TABLE, panels=("table",), unit="by column", asks=_SPANS,
        fields=(MEANING, LIKE, limit_field(20, 1000, "Most rows."), *ROWS),
    ),
    _target(
        "errors", "Recent errors", "Failed spans, newest first, with their message and a link to the trace.",
        family="spans", shape=Shape.TABLE, panels=("table",), unit="by column", asks=_SPANS,
        fields=(limit_field(20, 1000, "Most rows."), *(item for item in ROWS if item.name != "status")),
        preset={"sort_by": "ts", "order": "desc"}, only={"status_code": "error"},
    ),
    _target(
        "slowest", "Slowest calls", "Calls of models by duration, longest first, with a link to the trace.",
        family="spans", shape=Shape.TABLE, panels=("table",), unit="by column", asks=_SPANS,
        fields=(limit_field(20, 1000, "Most rows."), *ROWS), preset={"sort_by": "duration_ms", "order": "desc"},
        only={"is_generation": True},
    ),
    _target(
        "xy", "Two measures of each call", "Newest calls as points: any two of duration, tokens, cost, first token.",
        shape=Shape.WIRE, panels=("xychart", "histogram"), unit="by column", asks=_SPANS,
        fields=(PayloadField("x", "X", Kind.CHOICE, "Across.", options=NUMERIC_COLUMNS, default="completion_tokens"),
                PayloadField("y", "Y", Kind.CHOICE, "Up.", options=NUMERIC_COLUMNS, default="duration_ms"),
                limit_field(500, 1000, "Most points."), *ROWS), only={"is_generation": True},
    ),
    _target(
        "logs", "Prompts and answers", "Prompts, answers and errors of calls as log lines, newest first.",
        shape=Shape.WIRE, panels=("logs",), unit="none", asks=_SPANS,
        fields=(limit_field(100, 1000, "Most calls."), *ROWS), only={"is_generation": True},
    ),
    _target(
        "trace", "Trace waterfall", "All spans of one trace for the Traces panel and Explore.",
        shape=Shape.WIRE, panels=("traces",), unit="ms", asks=_TREE, fields=(TRACE_ID, PROJECT, VARIABLES),
    ),
    _target(
        "messages", "Messages of a trace", "What was said in one trace: role, content, time, span.",
        shape=Shape.TABLE, panels=("table",), unit="none", asks=_TREE, fields=(TRACE_ID, PROJECT, VARIABLES),
    ),
    _target(
        "trace_totals", "Totals of a trace", "Duration, spans, tokens, cost and errors of one trace as one row.",
        shape=Shape.TABLE, panels=("stat", "table"), unit="by column", asks=_TREE,
        fields=(TRACE_ID, PROJECT, VARIABLES),
    ),
    _target(
        "trace_scores", "Scores of a trace", "What people, evaluators and applications judged of one trace.",
        shape=Shape.TABLE, panels=("table",), unit="none", asks=_TREE, fields=(TRACE_ID, PROJECT, VARIABLES),
    ),
    _target(
        "node_graph", "Agents, tools and models", "Who calls whom: agents, tools, models; calls, errors and cost.",
        shape=Shape.WIRE, panels=("nodeGraph",), unit="by field", asks=_SPANS,
        fields=(TRACE_ID, ONE_TRACE, limit_field(200, 1000, "Most traces, newest first."), *ROWS),
    ),
    _target(
        "flame_graph", "Flame graph of time or cost", "Where time or money goes along the path of spans.",
        shape=Shape.WIRE, panels=("flamegraph",), unit="ns or USD", asks=_SPANS,
        fields=(TRACE_ID, ONE_TRACE,
                PayloadField("value", "Value", Kind.CHOICE, "What the width is.",
                             options=(("cost", "cost"), ("time", "time")), default="cost"),
                limit_field(200, 1000, "Most traces, newest first."), *ROWS),
    ),
    _target(
        "annotations.releases", "Annotations: first sight of versions",
        "First sight of a service version, a model or a prompt version.", family="annotations", shape=Shape.WIRE,
        panels=("annotations",), unit="none", asks=("first sightings", "metrics:read"),
        fields=(PayloadField("kinds", "Kinds", Kind.CHOICES, "Which; empty: all.",
                             options=(("service_version", "service version"), ("model", "model"),
                                      ("prompt_version", "prompt version"))),
                PayloadField("longest_days", "Longest range", Kind.INTEGER,
                             "No lines in a range of more days, and one for several close together; empty: all.",
                             least=1, most=7320),
                PROJECT, VARIABLES),
        preset={"source": "releases"},
    ),
    _target(
        "annotations.prices", "Annotations: price changes", "When a price of a model changed.",
        family="annotations", shape=Shape.WIRE, panels=("annotations",), unit="none",
        asks=("price overrides", "costs:read"), fields=(PROJECT, VARIABLES), preset={"source": "prices"},
    ),
    _target(
        "annotations.errors", "Annotations: error bursts",
        "Stretches in which the share of failed calls was far above the usual.", family="annotations", shape=Shape.WIRE,
        panels=("annotations",), unit="none", asks=_ENGINE, fields=MEASURED, preset={"source": "errors"},
    ),
    _target(
        "annotations.custom", "Annotations: added by people", "What was posted to /api/v1/annotations.",
        family="annotations", shape=Shape.WIRE, panels=("annotations",), unit="none",
        asks=("custom annotations", "metrics:read"),
        fields=(PayloadField("tag", "Tag", Kind.VALUES, "Any of these tags; empty: all."), PROJECT, VARIABLES),
        preset={"source": "custom"},
    ),
)  # fmt: skip

TARGETS: Final[Mapping[str, TargetDefinition]] = MappingProxyType({target.name: target for target in _DECLARED})

# Names of the first editions of the data source and of other servers, so that a saved panel keeps working.
ALIASES: Final[Mapping[str, str]] = MappingProxyType({"": "timeseries"})

# Keys that narrow the values of a variable or a filter menu: not offered as a target.
VALUES_TARGET: Final = _target(
    "values", "Values of a field", "Values for variables and menus.",
    shape=Shape.TABLE, panels=(), unit="none", asks=("facets", "traces:read"), fields=MEASURED,
)  # fmt: skip
