"""Stored spans converted back to OpenTelemetry attributes.

Columns get the names of OpenTelemetry's conventions, and attributes that were stored unchanged are added. Jaeger, Tempo
and the waterfall all read this, so they show the same names and values for one span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from server.text.instants import EPOCH
from server.text.json_text import dumps

Row = Mapping[str, Any]

# Column → attribute, in the order in which they are shown.
SPAN_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("operation_type", "gen_ai.operation.name"),
    ("provider", "gen_ai.provider.name"),
    ("request_model", "gen_ai.request.model"),
    ("model", "gen_ai.response.model"),
    ("agent_name", "gen_ai.agent.name"),
    ("tool_name", "gen_ai.tool.name"),
    ("prompt_name", "gen_ai.prompt.name"),
    ("prompt_version", "gen_ai.prompt.version"),
    ("finish_reason", "gen_ai.response.finish_reasons"),
    ("prompt_tokens", "gen_ai.usage.input_tokens"),
    ("completion_tokens", "gen_ai.usage.output_tokens"),
    ("total_tokens", "gen_ai.usage.total_tokens"),
    ("cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
    ("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens"),
    ("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
    ("total_cost_usd", "gen_ai.usage.cost"),
    ("ttft_ms", "observatory.time_to_first_token_ms"),
    ("session_id", "session.id"),
    ("user_id", "user.id"),
    ("error_type", "error.type"),
    ("input_text", "gen_ai.input.text"),
    ("output_text", "gen_ai.output.text"),
    ("tags", "tag.tags"),
)

RESOURCE_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("service_name", "service.name"),
    ("service_version", "service.version"),
    ("environment", "deployment.environment.name"),
)

UNNAMED_SERVICE: Final = "unknown_service"

_MICROSECOND: Final = timedelta(microseconds=1)


def span_attributes(row: Row) -> Iterator[tuple[str, Any]]:
    """Yield name and value of every attribute of the span; values are str, int, float or bool.

    A column takes precedence over a stored attribute of the same name; values that the caller may not see are not in
    ``row``.
    """
    yield from _named(row, SPAN_COLUMNS, "attributes")


def resource_attributes(row: Row) -> Iterator[tuple[str, Any]]:
    """Yield name and value of every resource attribute; there is always a ``service.name``."""
    if not row.get("service_name"):
        yield "service.name", UNNAMED_SERVICE
    yield from _named(row, RESOURCE_COLUMNS, "resource_attributes")


def service_name(row: Row) -> str:
    """Return the service of the span, with a substitute if the telemetry did not name one."""
    return str(row.get("service_name") or UNNAMED_SERVICE)


def _named(row: Row, columns: tuple[tuple[str, str], ...], rest: str) -> Iterator[tuple[str, Any]]:
    taken = set()
    for column, name in columns:
        value = row.get(column)
        if value is None or value == [] or value == "":
            continue
        taken.add(name)
        yield name, plain(value)
    for name, value in (row.get(rest) or {}).items():
        if name not in taken and value is not None:
            yield str(name), plain(value)


def plain(value: Any) -> str | int | float | bool:
    """Return ``value`` as a single attribute value: lists and objects as JSON text, money as text with all its
    digits.
    """
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return dumps(value).decode()


def event_time(event: dict[str, Any]) -> datetime:
    """Return the time of a stored event; the epoch if it has none."""
    value = event.get("ts") or event.get("time") or event.get("timestamp")
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value) if isinstance(value, str) else EPOCH


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since the epoch, exact."""
    return (moment - EPOCH) // _MICROSECOND
