"""The keys of payloads: the meaning, editor and reader of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Kind(StrEnum):
    """The type of a payload field's value, which decides how :mod:`datasource.panels.payload_values` reads it."""

    VALUES = "values"
    CHOICE = "choice"
    CHOICES = "choices"
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class PayloadField:
    """One key of a payload.

    ``options``: fixed (value, label) pairs. ``source`` names options that the server knows:
    ``metrics``, ``dimensions``, ``aggregations``, ``projects`` or ``values:<field>`` (values of that
    field, narrowed by the rest of the payload). ``filter_field``: the field of the filter table that a
    VALUES key narrows.
    """

    name: str
    label: str
    kind: Kind
    sentence: str
    options: tuple[tuple[str, str], ...] = ()
    source: str = ""
    default: Any = None
    least: int = 0
    most: int = 0
    filter_field: str = ""
    reload: bool = False

    @property
    def editor(self) -> str:
        """The control of the plugin's query builder."""
        if self.kind in (Kind.VALUES, Kind.CHOICES):
            return "multi-select"
        if self.kind in (Kind.CHOICE, Kind.BOOLEAN):
            return "select"
        return "textarea" if self.kind is Kind.DOCUMENT else "input"


def _filter(name: str, label: str, filter_field: str, sentence: str) -> PayloadField:
    return PayloadField(name, label, Kind.VALUES, sentence, source=f"values:{filter_field}", filter_field=filter_field)


PROJECT: Final = PayloadField(
    "project", "Project", Kind.VALUES, "Projects to read; empty: all that the credential grants.", source="projects"
)

# Keys that narrow the rows, the same for every target that reads spans.
FILTER_FIELDS: Final[tuple[PayloadField, ...]] = (
    _filter("environment", "Environment", "environment", "Deployment environment."),
    _filter("service", "Service", "service_name", "Service (application) that made the call."),
    _filter("provider", "Provider", "provider", "Vendor of the model."),
    _filter("model", "Model", "model", "Model that answered."),
    _filter("operation", "Operation", "operation_type", "Kind of call: chat, embeddings, tool …"),
    _filter("status", "Status", "status_code", "success, error or pending."),
    _filter("error_type", "Error type", "error_type", "Class of the error."),
    _filter("finish_reason", "Finish reason", "finish_reason", "Why the model stopped."),
    _filter("agent", "Agent", "agent_name", "Name of the agent."),
    _filter("tool", "Tool", "tool_name", "Name of the tool."),
    _filter("prompt", "Prompt", "prompt_name", "Name of the prompt."),
    _filter("prompt_version", "Prompt version", "prompt_version", "Version of the prompt."),
    _filter("user", "User", "user_id", "User id."),
    _filter("session", "Session", "session_id", "Session (conversation) id."),
    _filter("tag", "Tag", "tags", "Any of these tags."),
)

WHERE: Final = PayloadField(
    "where",
    "Filter document",
    Kind.DOCUMENT,
    'Filter as in POST /api/v1/traces/search, for example {"field": "duration_ms", "operator": "gt", "value": 1000}.',
)
SEARCH: Final = PayloadField(
    "search", "Search", Kind.TEXT, "Words in prompts and answers, in the syntax of a web search."
)
SEARCH_NEW: Final = PayloadField(
    "search_new", "Search what is new", Kind.TEXT, "The same, but not in the history that a call repeats."
)
SEARCHES: Final = {SEARCH.name: "search", SEARCH_NEW.name: "search_new"}
"""The operator of each field that looks for words."""
MEANING: Final = PayloadField(
    "meaning", "Meaning", Kind.TEXT, "Text in any language; empty: the newest spans instead of the nearest."
)
LIKE: Final = PayloadField(
    "like", "Like", Kind.TEXT, "TRACE_ID or TRACE_ID/SPAN_ID: spans near to what was said there, instead of to a text."
)
VARIABLES: Final = PayloadField(
    "vars",
    "All variables",
    Kind.TEXT,
    "${__all_variables}: every dashboard variable whose name is a key here narrows the rows as if written out.",
)

ROWS: Final = (PROJECT, *FILTER_FIELDS, SEARCH, SEARCH_NEW, WHERE, VARIABLES)
MEASURED: Final = (PROJECT, *FILTER_FIELDS, WHERE, VARIABLES)

METRICS_FIELD: Final = PayloadField(
    "metric", "Metric", Kind.CHOICES, "What to measure; several give one line or column each.",
    source="metrics", default="calls", reload=True,
)  # fmt: skip
ONE_METRIC: Final = PayloadField(
    "metric", "Metric", Kind.CHOICE, "What to measure.", source="metrics", default="duration", reload=True
)
AGGREGATION: Final = PayloadField(
    "aggregation", "Aggregation", Kind.CHOICES, "How to summarise: sum, avg, p95 … Empty: the metric's own.",
    source="aggregations",
)  # fmt: skip
GROUP_BY: Final = PayloadField(
    "group_by", "Group by", Kind.CHOICES, "Dimensions to split by, at most three.", source="dimensions"
)
FILL: Final = PayloadField(
    "fill", "Empty buckets", Kind.CHOICE, "Value of empty buckets. Default: 0 for counts, else a gap.",
    options=(("null", "gap"), ("zero", "0"), ("previous", "the value before")),
)  # fmt: skip
INTERVAL: Final = PayloadField(
    "interval", "Interval", Kind.TEXT, "Width of a bucket, such as 5m, 1h or 1d; empty or auto: chosen by the panel."
)
COMPARE: Final = PayloadField(
    "compare", "Compare with", Kind.CHOICE, "The range to compare with.",
    options=(("previous_period", "previous period"), ("year_ago", "a year ago"), ("none", "nothing")),
    default="previous_period",
)  # fmt: skip
MISSING: Final = PayloadField(
    "missing", "Without a value", Kind.CHOICE,
    "Whether the calls that have no value of the dimension are a group of their own, or are left out and counted.",
    options=(("show", "show"), ("hide", "leave out")), default="show",
)  # fmt: skip
COLORS: Final = PayloadField(
    "colors", "Colours", Kind.BOOLEAN,
    "Give each group the colour that it has in every panel; the answer then comes as frames instead of series.",
    options=(("true", "yes"), ("false", "no")), default=False,
)  # fmt: skip
INCOMPLETE: Final = PayloadField(
    "incomplete", "Incomplete intervals", Kind.CHOICE,
    "Whether the first and last interval are shown when the range covers only a part of them.",
    options=(("show", "show"), ("hide", "leave out")), default="show",
)  # fmt: skip
PERIOD: Final = PayloadField(
    "period", "Period", Kind.CHOICE,
    "The day, week or month until now in the viewer's time zone, whatever the dashboard's range is; empty: that range.",
    options=(("day", "today"), ("week", "this week, from Monday"), ("month", "this month")),
)  # fmt: skip
ORDER: Final = PayloadField(
    "order", "Order", Kind.CHOICE, "Largest or smallest first.", options=(("desc", "descending"), ("asc", "ascending")),
    default="desc",
)  # fmt: skip
TRACE_ID: Final = PayloadField("trace_id", "Trace id", Kind.TEXT, "The trace to show.")

ONE_TRACE: Final = PayloadField(
    "one_trace", "One trace only", Kind.BOOLEAN, "Show nothing, rather than all traces, while no trace is chosen.",
    options=(("true", "yes"), ("false", "no")), default=False,
)  # fmt: skip


def limit_field(default: int, most: int, sentence: str) -> PayloadField:
    return PayloadField("limit", "Limit", Kind.INTEGER, sentence, default=default, least=1, most=most)


_SPAN_ORDER: Final = (
    ("ts", "time"), ("duration_ms", "duration"), ("ttft_ms", "time to first token"), ("total_cost_usd", "cost"),
    ("total_tokens", "tokens"), ("prompt_tokens", "prompt tokens"), ("completion_tokens", "completion tokens"),
)  # fmt: skip
SPAN_SORT: Final = PayloadField(
    "sort_by", "Sort by", Kind.CHOICE, "Order of the rows.", options=_SPAN_ORDER, default="ts"
)
NUMERIC_COLUMNS: Final = (
    ("duration_ms", "duration (ms)"), ("ttft_ms", "time to first token (ms)"), ("total_cost_usd", "cost (USD)"),
    ("prompt_tokens", "prompt tokens"), ("completion_tokens", "completion tokens"), ("total_tokens", "tokens"),
)  # fmt: skip
