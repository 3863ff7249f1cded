"""A span as the writer stages it: checked against what PostgreSQL would refuse, and encoded for COPY.

Checking first is what keeps a batch of many requests whole: PostgreSQL refuses a transaction, not a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import orjson

from server.ingest.span_record import SpanRecord
from server.ingest.text_vector import text_vector
from server.queries.search_text import search_document

PLAIN_COLUMNS: Final = (
    "ts", "trace_id", "span_id", "parent_span_id", "span_name", "span_kind", "service_name", "service_version",
    "environment", "provider", "model", "request_model", "operation_type", "is_generation", "agent_name", "tool_name",
    "prompt_name", "prompt_version", "input_type", "input_text", "output_text", "finish_reason", "prompt_tokens",
    "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "prompt_cost_usd",
    "completion_cost_usd", "total_cost_usd", "cache_savings_usd", "cost_source", "price_version", "duration_ms",
    "ttft_ms", "status_code", "error_type", "error_message", "user_id", "session_id", "tags", "dialect", "usage_rule",
)  # fmt: skip
JSON_COLUMNS: Final = (
    "input_messages", "output_messages", "attributes", "resource_attributes", "events", "links", "dropped",
)  # fmt: skip
STAGED_COLUMNS: Final = (
    "project_id", *PLAIN_COLUMNS, *JSON_COLUMNS, "search_vector", "search_text", "version", "dim_id",
)  # fmt: skip
"""Columns of span_staging in the order of :attr:`PreparedSpan.values`; dim_id comes last because it is found last.

Of search_vector and search_text one is None: the text is only staged where PostgreSQL has to make the vector."""

DIMENSIONS: Final = (
    "provider", "model", "operation_type", "service_name", "environment", "status_code", "error_type",
    "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version", "is_generation",
)  # fmt: skip

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# A btree key may not pass 2,704 bytes (SQLSTATE 54000); 512 characters of four bytes stay below.
INDEXED_TEXT_CHARACTERS: Final = 512
_INDEXED_TEXTS: Final = ("model", "session_id", "user_id")
_MOST_TOKENS: Final = 1_000_000_000_000
_TOKENS: Final = {
    "prompt_tokens": _MOST_TOKENS,
    "completion_tokens": _MOST_TOKENS,
    "total_tokens": 2 * _MOST_TOKENS,
    "cached_tokens": _MOST_TOKENS,
    "cache_write_tokens": _MOST_TOKENS,
    "reasoning_tokens": _MOST_TOKENS,
}
_MOST_USD: Final = Decimal(1_000_000_000)
_COSTS: Final = ("prompt_cost_usd", "completion_cost_usd", "total_cost_usd")
_LONGEST_MS: Final = 1e12
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)

_plain: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*PLAIN_COLUMNS)
_json: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*JSON_COLUMNS)
_dimension: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*DIMENSIONS)
_indexed_texts: Callable[[SpanRecord], tuple[str | None, ...]] = attrgetter(*_INDEXED_TEXTS)
_tokens: Callable[[SpanRecord], tuple[int | None, ...]] = attrgetter(*_TOKENS)
_costs: Callable[[SpanRecord], tuple[Decimal | None, ...]] = attrgetter(*_COSTS)
_texts: Callable[[SpanRecord], tuple[str | None, ...]] = attrgetter(
    *(name for name in PLAIN_COLUMNS if name in SpanRecord.__annotations__ and "str" in SpanRecord.__annotations__[name]
      and name != "tags")
)  # fmt: skip


class UnstorableSpan(Exception):
    """The span cannot be a row; the message says why and never quotes contents."""


@dataclass(slots=True)
class PreparedSpan:
    """One span of one project, ready for COPY once ``dim_id`` stands at the end of ``values``."""

    project_id: str
    trace_id: str
    span_id: str
    ts: datetime
    version: int
    """The end of the span in µs since the epoch: of two versions of one span the later wins."""
    dimension: tuple[Any, ...]
    """Values of :data:`DIMENSIONS`, '' where the span has none."""
    values: list[Any]
    size: int
    """About how many bytes the row takes on its way."""
    words: int
    """About how many entries the row adds to the text index."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two of them the same span."""
        return (self.project_id, self.trace_id, self.span_id)

    def set_version(self, version: int) -> None:
        """Let it win against an earlier version than its own end says."""
        self.version = version
        self.values[STAGED_COLUMNS.index("version")] = version


def prepare_span(project_id: str, record: SpanRecord, *, full_text: bool = True) -> PreparedSpan:
    """Check and encode ``record``; ``full_text`` false leaves its words out of the search index.

    Raises :class:`UnstorableSpan`.
    """
    _check(record)
    try:
        documents = [None if value is None else orjson.dumps(value).decode() for value in _json(record)]
    except TypeError as error:
        raise UnstorableSpan("an attribute value cannot be stored as JSON") from error
    searchable = search_document(record.input_text, record.output_text) if full_text else ""
    vector = text_vector(searchable)
    version = (record.ts - EPOCH) // _MICROSECOND + round(record.duration_ms * 1000)
    size = (
        500
        + (2 * len(searchable) if vector is None else len(vector))
        + sum(len(text) for text in documents if text is not None)
    )
    return PreparedSpan(
        project_id=project_id,
        trace_id=record.trace_id,
        span_id=record.span_id,
        ts=record.ts,
        version=version,
        dimension=tuple("" if value is None else value for value in _dimension(record)),
        values=[
            project_id,
            *_plain(record),
            *documents,
            vector,
            searchable if vector is None else None,
            version,
        ],
        size=size,
        words=searchable.count(" ") if vector is None else int.from_bytes(vector[:4], "big"),
    )


def _check(record: SpanRecord) -> None:
    if not _EARLIEST <= record.ts < _LATEST:
        raise UnstorableSpan("start time is not between the years 2000 and 2100")
    if not (1 <= len(record.trace_id) <= 64 and 1 <= len(record.span_id) <= 64):
        raise UnstorableSpan("trace_id or span_id has not 1 to 64 characters")
    for name, text in zip(_INDEXED_TEXTS, _indexed_texts(record), strict=True):
        if text is not None and len(text) > INDEXED_TEXT_CHARACTERS:
            raise UnstorableSpan(f"{name} is longer than {INDEXED_TEXT_CHARACTERS} characters")
    for (name, most), tokens in zip(_TOKENS.items(), _tokens(record), strict=True):
        if tokens is not None and not 0 <= tokens <= most:
            raise UnstorableSpan(f"{name} is not between 0 and {most}")
    for name, cost in zip(_COSTS, _costs(record), strict=True):
        if cost is not None and not (cost.is_finite() and 0 <= cost < _MOST_USD):
            raise UnstorableSpan(f"{name} is not between 0 and {_MOST_USD}")
    # The comparisons are false for NaN too.
    if not 0 <= record.duration_ms < _LONGEST_MS:
        raise UnstorableSpan("duration is negative or longer than 31 years")
    if record.ttft_ms is not None and not 0 <= record.ttft_ms < _LONGEST_MS:
        raise UnstorableSpan("time to first token is negative or longer than 31 years")
    for value in _texts(record):
        if value and "\0" in value:
            raise UnstorableSpan("a text holds a NUL character")
