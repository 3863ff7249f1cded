"""The fields of a whole trace, from trace_summaries: the rows of lists with ``view=traces``.

Sums count model calls only. A filter on any other field matches traces that have a span with such a value.
"""

from __future__ import annotations

from typing import Any, Final

from server.queries.filters.span_fields import FieldType, TraceField


def _sum(name: str, sentence: str, **rest: Any) -> TraceField:
    return TraceField(name=name, type=FieldType.INTEGER, group="usage", sentence=sentence, **rest)


def _identity(name: str, sentence: str, *, nullable: bool = True, **rest: Any) -> TraceField:
    return TraceField(name=name, type=FieldType.KEYWORD, group="identity", sentence=sentence, nullable=nullable, **rest)


_TABLE: Final[tuple[TraceField, ...]] = (
    TraceField(
        name="ts", type=FieldType.TIME, group="core", sentence="Start of the first span, UTC.", sql="{t}.start_ts"
    ),
    TraceField(name="end_ts", type=FieldType.TIME, group="core", sentence="End of the last span, UTC."),
    TraceField(
        name="duration_ms",
        type=FieldType.NUMBER,
        group="core",
        sentence="From the start of the first to the end of the last span, in milliseconds.",
        sql="(extract(epoch FROM {t}.end_ts - {t}.start_ts) * 1000)::double precision",
        range_parameter="duration",
    ),
    _identity("trace_id", "The trace.", nullable=False, parameter="trace_id"),
    _identity("project_id", "The project (tenant).", nullable=False, filterable=False),
    _identity("root_span_id", "The root span of the trace."),
    _identity("root_span_name", "Name of the root span."),
    _identity("service_name", "Service of the root span.", parameter="service"),
    _identity("environment", "Deployment environment.", parameter="environment"),
    _identity("session_id", "The session (conversation).", parameter="session_id"),
    _identity("user_id", "The end user.", parameter="user_id"),
    _sum("span_count", "Number of spans."),
    _sum("generation_count", "Number of model calls."),
    _sum("error_count", "Number of spans with an error."),
    TraceField(
        name="has_error",
        type=FieldType.BOOLEAN,
        group="core",
        sentence="Whether any span has an error.",
        parameter="has_error",
        sql="({t}.error_count > 0)",
    ),
    _sum("prompt_tokens", "Input tokens of all model calls."),
    _sum("completion_tokens", "Output tokens of all model calls."),
    _sum("total_tokens", "Tokens of all model calls.", range_parameter="tokens"),
    TraceField(
        name="total_cost_usd",
        type=FieldType.MONEY,
        group="cost",
        sentence="Cost of all model calls in US dollars.",
        range_parameter="cost",
    ),
)

SUMMARY_FIELDS: Final[dict[str, TraceField]] = {field.name: field for field in _TABLE}
_ALIASES: Final[dict[str, str]] = {
    alias: field.name for field in _TABLE for alias in (field.parameter, field.range_parameter) if alias
}


def summary_field_named(name: str) -> TraceField | None:
    """Return the field of a whole trace called ``name``, by its own name or that of its parameter."""
    return SUMMARY_FIELDS.get(name) or SUMMARY_FIELDS.get(_ALIASES.get(name, ""))
