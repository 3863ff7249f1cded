"""A span as the writer stores it: encoded for COPY."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import orjson

from server.ingest.span_record import SpanRecord
from server.ingest.text_vector import text_vector
from server.queries.search_text import search_document

CHANGE_COLUMNS: Final = (
    "project_id", "ts", "trace_id", "span_id", "parent_span_id", "span_name", "is_generation", "status_code",
    "service_name", "environment", "session_id", "user_id", "prompt_tokens", "completion_tokens", "total_tokens",
    "cached_tokens", "cache_write_tokens", "reasoning_tokens", "prompt_cost_usd", "completion_cost_usd",
    "total_cost_usd", "cache_savings_usd", "duration_ms", "ttft_ms", "dim_id",
)  # fmt: skip
"""Columns of span_changes but for pass and sign: what summaries and rollups are made from."""

OTHER_COLUMNS: Final = (
    "span_kind", "service_version", "provider", "model", "request_model", "operation_type", "agent_name", "tool_name",
    "prompt_name", "prompt_version", "input_type", "input_text", "output_text", "finish_reason", "cost_source",
    "price_version", "error_type", "error_message", "tags", "dialect", "usage_rule",
)  # fmt: skip
JSON_COLUMNS: Final = (
    "input_messages", "output_messages", "attributes", "resource_attributes", "events", "links", "dropped",
)  # fmt: skip
PARTITION_COLUMNS: Final = ("search_vector", "version", *JSON_COLUMNS, *OTHER_COLUMNS, *CHANGE_COLUMNS)
"""Columns of llm_traces that are written, all but those with a default."""

STAGED_COLUMNS: Final = ("search_text", *PARTITION_COLUMNS)
"""Columns of span_staging in the order of :attr:`PreparedSpan.values`: each table takes the end of it that it has.

Of search_vector and search_text one is None: the text is only staged where PostgreSQL has to make the vector."""

DIMENSIONS: Final = (
    "provider", "model", "operation_type", "service_name", "environment", "status_code", "error_type",
    "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version", "is_generation",
)  # fmt: skip

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

LONGEST_MS: Final = 1e12
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)

_changes: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*CHANGE_COLUMNS[1:-1])
_others: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*OTHER_COLUMNS)
_json: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*JSON_COLUMNS)
_dimension: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*DIMENSIONS)
_OF_PARTITION: Final = slice(len(STAGED_COLUMNS) - len(PARTITION_COLUMNS), None)
_OF_CHANGES: Final = slice(len(STAGED_COLUMNS) - len(CHANGE_COLUMNS), None)


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
    """Values of :data:`DIMENSIONS`, None where the span has none."""
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
        return self.values[0] is None

    def partition_values(self) -> list[Any]:
        """Values of :data:`PARTITION_COLUMNS`."""
        return self.values[_OF_PARTITION]

    def change_values(self) -> list[Any]:
        """Values of :data:`CHANGE_COLUMNS`."""
        return self.values[_OF_CHANGES]

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
    unindexed = searchable if vector is None else None
    values = [unindexed, vector, version, *documents, *_others(record), project_id, *_changes(record)]
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
