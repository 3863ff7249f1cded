"""A span in the form in which the writer stores it: encoded for COPY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, Final
from uuid import UUID

import orjson

from server.ingest.mapping.call_links import moments_of, response_id_of, teller_of
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.writing.content_layout import SharedContent, split_content
from server.ingest.writing.text_vector import NO_WORDS, text_vector
from server.queries.filters.search_text import search_document
from server.text.instants import EARLIEST, EPOCH, LATEST

JSON_COLUMNS: Final = (
    "input_messages", "output_messages", "attributes", "resource_attributes", "events", "links", "dropped", "inherited",
    "usage_details",
)  # fmt: skip
PLAIN_COLUMNS: Final = (
    "ts", "trace_id", "span_id", "parent_span_id", "span_name", "span_kind", "service_name", "service_version",
    "environment", "provider", "model", "request_model", "operation_type", "is_generation", "agent_name", "tool_name",
    "prompt_name", "prompt_version", "input_type", "input_text", "output_text", "finish_reason", "prompt_tokens",
    "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "prompt_cost_usd",
    "completion_cost_usd", "total_cost_usd", "cache_savings_usd", "cost_source", "price_version", "duration_ms",
    "ttft_ms", "status_code", "error_type", "error_message", "user_id", "session_id", "tags", "dialect", "usage_rule",
    "count_rule", "counted_in",
)  # fmt: skip
"""Fields of a span that are stored as they are."""

SHARED_COLUMNS: Final = (
    "parts", "input_parts", "content_bytes", "states_finish", "more_parts", "history_parts", "result_alone",
)  # fmt: skip
"""The content of a span in the layout ``shared``."""

LEAST_RESOURCE: Final = 64
"""Characters of resource attributes from which on they are stored once: their id takes 16 bytes of each span."""

COLUMNS: Final = (
    "search_vector", *SHARED_COLUMNS, "resource_id", "version", *JSON_COLUMNS, *PLAIN_COLUMNS, "project_id", "dim_id",
)  # fmt: skip
"""Columns of llm_traces in the order of :attr:`PreparedSpan.values`, all but those with a default."""

CHANGE_COLUMNS: Final = (
    "project_id", "ts", "trace_id", "span_id", "parent_span_id", "span_name", "dim_id", "is_generation", "status_code",
    "service_name", "environment", "session_id", "user_id", "prompt_tokens", "completion_tokens", "total_tokens",
    "cached_tokens", "cache_write_tokens", "reasoning_tokens", "prompt_cost_usd", "completion_cost_usd",
    "total_cost_usd", "cache_savings_usd", "duration_ms", "ttft_ms",
)  # fmt: skip
"""Columns of the TEMP table span_changes beside pass and sign: what summaries and rollups are made of."""
change_values: Callable[[list[Any]], tuple[Any, ...]] = itemgetter(*map(COLUMNS.index, CHANGE_COLUMNS))
"""Return the values of :data:`CHANGE_COLUMNS` from :attr:`PreparedSpan.values`."""

DIMENSIONS: Final = (
    "provider", "model", "operation_type", "service_name", "environment", "status_code", "error_type",
    "finish_reason", "agent_name", "tool_name", "prompt_name", "prompt_version", "is_generation",
)  # fmt: skip

MONDAY: Final = datetime(1969, 12, 29, tzinfo=UTC)
WEEK: Final = timedelta(weeks=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MONDAY_US: Final = (MONDAY - EPOCH) // _MICROSECOND
_WEEK_US: Final = WEEK // _MICROSECOND

LONGEST_MS: Final = 1e12

_CONTENT_PLACES: Final = tuple(
    COLUMNS.index(name) for name in ("input_text", "input_messages", "output_text", "output_messages")
)
_WORDS_PLACE: Final = COLUMNS.index("search_vector")
_PARTS_PLACE: Final = COLUMNS.index(SHARED_COLUMNS[0])
_RESOURCE_PLACES: Final = COLUMNS.index("resource_id"), COLUMNS.index("resource_attributes")

_plain: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*PLAIN_COLUMNS)
_json: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*JSON_COLUMNS)
_other_json: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*JSON_COLUMNS[2:])
_dimension: Callable[[SpanRecord], tuple[Any, ...]] = attrgetter(*DIMENSIONS)


class UnstorableSpan(Exception):
    """The span cannot be a row; the message says why and never quotes contents."""


@dataclass(slots=True)
class PreparedSpan:
    """One span of one project, ready for COPY once ``dim_id`` is at the end of ``values``."""

    key: tuple[str, str, str]
    """Project, trace and span: the identity of a span."""
    ts: datetime
    week: int
    """Weeks since :data:`MONDAY`; each has a partition."""
    version: int
    """The end of the span in µs since the epoch: of two versions of one span the later one wins."""
    dimension: tuple[Any, ...]
    """Values of :data:`DIMENSIONS`, None for missing ones."""
    values: list[Any]
    """Values of :data:`COLUMNS`."""
    search_text: str | None
    """The words to index if PostgreSQL has to make the vector of them, else None."""
    size: int
    """About how many bytes the row takes on its way."""
    words: int
    """About how many entries the row adds to the text index."""
    request: int
    """Spans of one request have the same number: their calls are counted once already."""
    content: SharedContent | None = None
    """Its content, if several spans may share it: then it is not among ``values``."""
    resource: str | None = None
    """Its resource attributes as JSON, if several spans may share them: then they are among ``values`` until
    :meth:`set_resource`.
    """
    response_id: str | None = None
    moments: tuple[str, ...] = ()
    """The vendor's id of the answer, if the span reports a call or its usage."""
    teller: int | None = None
    """The number of the scope, if the span tells of an agent or a tool."""

    @property
    def project_id(self) -> str:
        """The project that the credential names."""
        return self.key[0]

    @property
    def trace_id(self) -> str:
        """Lowercase hex."""
        return self.key[1]

    def set_parts(self, ids: Sequence[UUID]) -> None:
        """Name the stored parts of its :attr:`content`, which have its words."""
        if self.content is None:
            raise AssertionError("the span has its content in itself")
        content = self.content
        self.values[_WORDS_PLACE] = None  # which the index of words leaves out, unlike a vector without words
        self.values[_PARTS_PLACE : _PARTS_PLACE + len(SHARED_COLUMNS)] = (
            list(ids), content.inputs, content.size, content.states_finish or None,
            len(content.attributes) or None, content.history or None, content.result_alone or None,
        )  # fmt: skip

    def part_ids(self) -> Sequence[UUID]:
        """Return the ids given by :meth:`set_parts`."""
        return self.values[_PARTS_PLACE] or ()

    def resource_id(self) -> UUID | None:
        """Return the id given by :meth:`set_resource`."""
        found: UUID | None = self.values[_RESOURCE_PLACES[0]]
        return found

    def set_resource(self, resource_id: UUID | None) -> None:
        """Name the stored form of its :attr:`resource`; None: the attributes stay in the row."""
        id_place, own_place = _RESOURCE_PLACES
        self.values[id_place] = resource_id
        self.values[own_place] = self.resource if resource_id is None else "{}"

    def set_version(self, version: int) -> None:
        """Let it win against an earlier version than its own end implies."""
        self.version = version
        self.values[COLUMNS.index("version")] = version


def prepare_span(
    project_id: str,
    record: SpanRecord,
    *,
    full_text: bool = True,
    request: int = 0,
    shared_from: datetime = LATEST,
    resources_from: datetime = LATEST,
    results_from: datetime = LATEST,
) -> PreparedSpan:
    """Check and encode ``record``; ``full_text`` false leaves its words out of the search index. ``request``: a
    number that the spans which were mapped together share. ``shared_from``: the content of spans that start at this
    moment or later goes apart where it can; ``resources_from``: the same of their resource attributes;
    ``results_from``: of the results of tools.

    Raises :class:`UnstorableSpan`.
    """
    _check(record)
    try:
        content = split_content(record, with_results=record.ts >= results_from) if record.ts >= shared_from else None
        documents = [
            None if value is None else "[]" if value == [] else orjson.dumps(value).decode()
            for value in (_json(record) if content is None else _json_but_parts(record, content))
        ]
    except TypeError as error:
        raise UnstorableSpan("an attribute value cannot be stored as JSON") from error
    has_words = full_text and content is None
    searchable = search_document(record.input_text, record.output_text) if has_words else ""
    vector = text_vector(searchable) if has_words else NO_WORDS
    start = (record.ts - MONDAY) // _MICROSECOND
    texts = (record.input_text, record.output_text, *documents)
    size = 500 + (2 * len(searchable) if vector is None else len(vector)) + sum(map(len, filter(None, texts)))
    version = start + _MONDAY_US + round(record.duration_ms * 1000)
    values = [vector, *[None] * len(SHARED_COLUMNS), None, version, *documents, *_plain(record), project_id]
    if content is not None:
        for place in _CONTENT_PLACES:
            values[place] = None
    resource = values[_RESOURCE_PLACES[1]] if record.ts >= resources_from else None
    return PreparedSpan(
        (project_id, record.trace_id, record.span_id),
        record.ts,
        start // _WEEK_US,
        version,
        _dimension(record),
        values,
        searchable if vector is None else None,
        size,
        words=searchable.count(" ") if vector is None else int.from_bytes(vector[:4], "big"),
        request=request,
        content=content,
        resource=resource if resource is not None and len(resource) >= LEAST_RESOURCE else None,
        response_id=None if record.count_rule is None else response_id_of(record),
        moments=() if record.parent_span_id is not None else moments_of(record),
        teller=teller_of(record),
    )


def _json_but_parts(record: SpanRecord, content: SharedContent) -> tuple[Any, ...]:
    """Return the values of :data:`JSON_COLUMNS`, null for messages and for those of the attributes that are parts."""
    attributes, *others = _other_json(record)
    return None, None, {**attributes, **dict.fromkeys(content.attributes)}, *others


def _check(record: SpanRecord) -> None:
    """Check the values that version and partition are derived from. Others are checked only if PostgreSQL refuses a
    batch (:mod:`server.ingest.writing.span_defects`).
    """
    if not EARLIEST <= record.ts < LATEST:
        raise UnstorableSpan("start time is not between the years 2000 and 2100")
    # The comparison is false for NaN too.
    if not 0 <= record.duration_ms < LONGEST_MS:
        raise UnstorableSpan("duration is negative or longer than 31 years")
