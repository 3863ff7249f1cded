"""The spans of one decoded request, mapped, redacted and prepared for the tables."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch
from server.ingest.mapping.span_mapping import mapping_steps
from server.ingest.messages.known_messages import KnownMessages
from server.ingest.otlp.payload import DecodedTraces, TooLarge
from server.ingest.pricing.price_book import PriceBook
from server.ingest.project_settings import IngestSettings
from server.ingest.writing.prepared_span import PreparedSpan, UnstorableSpan, prepare_span

_MOST_ROW_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of the rows of one request."""
_request_numbers = itertools.count(1)


@dataclass(slots=True)
class RequestSpans:
    """A body after decoding and mapping."""

    batch: MappedBatch
    prepared: list[PreparedSpan] = field(default_factory=list)
    unstorable: Counter[str] = field(default_factory=Counter)
    """Spans that no table can hold, by reason."""


def reading_steps(
    decoded: DecodedTraces,
    project_id: str,
    *,
    project: IngestSettings,
    prices: PriceBook,
    known: KnownMessages,
    now: datetime,
    window: IngestWindow,
    full_text: bool,
    shared_from: datetime,
    resources_from: datetime,
    results_from: datetime,
) -> Generator[None, None, RequestSpans]:
    """Map and prepare what was decoded, span by span. Raises TooLarge for more bytes of rows than a request may have.

    ``known``: the messages of the project that were met before.
    ``full_text``: whether words are indexed. ``shared_from``: the start of the first spans whose content is shared;
    ``resources_from``: the same of their resource attributes; ``results_from``: of the results of tools.
    """
    batch = MappedBatch()
    yield from mapping_steps(decoded, batch, now=now, window=window, pricing=prices, known=known)
    found = RequestSpans(batch)
    request = next(_request_numbers)
    size = 0
    for record in batch.records:
        try:
            if project.redactor is not None:
                project.redactor.redact(record)
            span = prepare_span(
                project_id,
                record,
                full_text=full_text,
                request=request,
                shared_from=shared_from,
                resources_from=resources_from,
                results_from=results_from,
            )
        except UnstorableSpan as error:
            found.unstorable[str(error)] += 1
        else:
            found.prepared.append(span)
            size += span.size
        if size > _MOST_ROW_BYTES:
            # The attributes of a resource may be stored with each of its spans.
            raise TooLarge(f"the spans would be stored as more than {_MOST_ROW_BYTES} bytes: send fewer at a time")
        yield
    return found
