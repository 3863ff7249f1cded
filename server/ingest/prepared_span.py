"""A span as the writer stores it: encoded for COPY."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter, itemgetter
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

PARTITION_COLUMNS: Final = tuple(name for name in STAGED_COLUMNS if name != "search_text")
"""Columns of llm_traces that are written, all but those with a default."""

CHANGE_COLUMNS: Final = (
    "project_id", "ts", "trace_id", "span_id", "parent_span_id", "span_name", "dim_id", "is_generation", "status_code",
    "service_name", "environment", "session_id", "user_id", "prompt_tokens", "completion_tokens", "total_tokens",
    "cached_tokens", "cache_write_tokens", "reasoning_tokens", "prompt_cost_usd", "completion_cost_usd",
    "total_cost_usd", "cache_savings_usd", "duration_ms", "ttft_ms",
)  # fmt: skip
"""Columns of span_changes but for pass and sign: what summaries and rollups are made from."""

DIMENSIONS: Final = (
    "provider", "model", "operation_type", "service_name", "environment", "status_code", "error_type",
    "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version", "is_generation",
)  # fmt: skip

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

LONGEST_MS: Final = 1e12
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)

_plain: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*PLAIN_COLUMNS)
_json: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*JSON_COLUMNS)
_dimension: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*DIMENSIONS)
_SEARCH_TEXT: Final = STAGED_COLUMNS.index("search_text")
_partition_values: Callable[[list[Any]], tuple[Any, ...]] = itemgetter(*map(STAGED_COLUMNS.index, PARTITION_COLUMNS))
_change_values: Callable[[list[Any]], tuple[Any, ...]] = itemgetter(*map(STAGED_COLUMNS.index, CHANGE_COLUMNS))


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
    """Values of :data:`DIMENSIONS`."""
    values: list[Any]
    size: int
    """About how many bytes the row takes on its way."""
    words: int
    """About how many entries the row adds to the text index."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two of them the same span."""
        return (self.project_id, self.trace_id, self.span_id)

    @property
    def has_vector(self) -> bool:
        """False when PostgreSQL has to make the search vector."""
        return self.values[_SEARCH_TEXT] is None

    def partition_values(self) -> tuple[Any, ...]:
        """Values of :data:`PARTITION_COLUMNS`."""
        return _partition_values(self.values)

    def change_values(self) -> tuple[Any, ...]:
        """Values of :data:`CHANGE_COLUMNS`."""
        return _change_values(self.values)

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
    texts = (record.input_text, record.output_text, *documents)
    size = 500 + (2 * len(searchable) if vector is None else len(vector)) + sum(map(len, filter(None, texts)))
    values = [project_id, *_plain(record), *documents, vector, searchable if vector is None else None, version]
    return PreparedSpan(
        project_id,
        record.trace_id,
        record.span_id,
        record.ts,
        version,
        dimension=_dimension(record),
        values=values,
        size=size,
        words=searchable.count(" ") if vector is None else int.from_bytes(vector[:4], "big"),
    )


def _check(record: SpanRecord) -> None:
    """What the row's version and partition are worked out from; other values are looked at where PostgreSQL refuses
    a batch (:mod:`server.ingest.span_defects`)."""
    if not _EARLIEST <= record.ts < _LATEST:
        raise UnstorableSpan("start time is not between the years 2000 and 2100")
    # The comparison is false for NaN too.
    if not 0 <= record.duration_ms < LONGEST_MS:
        raise UnstorableSpan("duration is negative or longer than 31 years")
