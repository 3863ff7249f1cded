"""Everything between a request's body and rows: decode, map, redact, and wait for the commit.

Decoding a large body takes long enough to be felt by other requests, so it runs in one of a few
threads; their number bounds the memory that decoding needs. What they give is a list of prepared
spans, which :class:`GroupCommit` stores together with those of other requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from server.database import Database
from server.ingest.dimensions import Dimensions
from server.ingest.explain import explain_payload
from server.ingest.first_sightings import FirstSightings
from server.ingest.group_commit import GroupCommit
from server.ingest.limits import BodyBudget, ProjectRates
from server.ingest.log_mapping import map_logs
from server.ingest.mapping_result import IngestWindow, MappedBatch
from server.ingest.otlp_decode import DecodeLimits, decode_logs, decode_traces
from server.ingest.otlp_payload import DecodedTraces
from server.ingest.prepared_span import PreparedSpan, UnstorableSpan, prepare_span
from server.ingest.price_books import PriceBooks
from server.ingest.pricing import PriceBook
from server.ingest.project_settings import IngestSettings, ProjectSettings
from server.ingest.score_writer import ScoreWriter
from server.ingest.span_mapping import map_spans
from server.ingest.span_record import SpanRecord
from server.ingest.span_updates import SpanUpdates
from server.ingest.span_writer import SpanWriter
from server.observations import ModelUnpriced, SpansRejected, observe
from server.queries.freshness import Freshness
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings

T = TypeVar("T")

_INLINE_BYTES: Final = 16 * 1024
"""Bodies up to this size are decoded at once: handing them to a thread would take longer."""
_INLINE_COMPRESSED_BYTES: Final = 2 * 1024
_PENDING_BYTES: Final = 128 * 1024 * 1024


@dataclass(slots=True)
class Receipt:
    """What became of one request's spans. ``rejected`` counts by reason; everything else is durable."""

    accepted: int
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def rejected_count(self) -> int:
        """How many spans were not stored."""
        return self.rejected.total()


@dataclass(slots=True)
class _Read:
    """A body after decoding and mapping."""

    size: int
    span_count: int
    batch: MappedBatch
    prepared: list[PreparedSpan]
    unstorable: Counter[str]


class Ingestion:
    """The ingest service of one process."""

    def __init__(
        self, settings: Settings, writes: Database, worker: Database, freshness: Freshness, buckets: TokenBuckets
    ) -> None:
        self.decode_limits = DecodeLimits(
            max_decoded_bytes=settings.ingest_max_bytes, max_spans=settings.ingest_max_spans
        )
        self.window = IngestWindow(
            # What retention would drop again is not taken.
            max_age=timedelta(days=min(settings.ingest_max_age_days, settings.retention_days)),
            max_future=timedelta(seconds=settings.ingest_max_future),
        )
        self._full_text = settings.full_text
        self.bodies = BodyBudget(settings.ingest_buffer_bytes)
        self.prices = PriceBooks(writes)
        self.projects = ProjectSettings(writes, redaction_key=settings.jwt_secret.encode())
        self.writer = SpanWriter(writes, Dimensions(writes, most_combinations=settings.max_dimensions), freshness)
        self.commits = GroupCommit(
            self.writer,
            writers=settings.ingest_pool_size,
            most_pending_rows=settings.ingest_pending_spans,
            most_pending_bytes=_PENDING_BYTES,
        )
        self.scores = ScoreWriter(writes, freshness)
        self.updates = SpanUpdates(writes, worker, self.writer, self.projects)
        self._rates = ProjectRates(buckets, settings)
        self._sightings = FirstSightings(writes)
        self._decoding = asyncio.Semaphore(settings.ingest_decoders)
        self._threads = ThreadPoolExecutor(settings.ingest_decoders, thread_name_prefix="otlp-decode")

    def start(self) -> None:
        """Start the background work."""
        self.updates.start()

    async def close(self) -> None:
        """Store what waits for a commit, and stop."""
        await self.updates.close()
        await self.commits.close()
        self._threads.shutdown(wait=False)

    async def take_traces(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> Receipt:
        """Store the spans of an OTLP request durably.

        Raises DecodeError for a body that cannot be read, RateLimited, Overloaded, DatabaseUnavailable.
        """
        project = await self.projects.of(project_id)
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        def read() -> _Read:
            decoded = decode_traces(body, content_type, content_encoding, self.decode_limits)
            return self._map(project_id, project, prices, decoded, now)

        read_body = await self.run_decoding(read, len(body), content_encoding)
        await self._rates.take(project_id, project, spans=read_body.span_count, size=read_body.size)
        return await self._store(read_body)

    async def take_logs(self, project_id: str, body: bytes, content_type: str, content_encoding: str | None) -> Receipt:
        """Store what the log records of an OTLP request say about spans and traces; others are not kept.

        Raises what :meth:`take_traces` raises.
        """
        project = await self.projects.of(project_id)
        now = datetime.now(UTC)
        decoded = await self.run_decoding(
            lambda: decode_logs(body, content_type, content_encoding, self.decode_limits), len(body), content_encoding
        )
        await self._rates.take(project_id, project, spans=decoded.record_count, size=decoded.size)
        mapped = map_logs(decoded, now=now, window=self.window)
        if project.redactor is not None:
            for score in mapped.scores:
                project.redactor.redact_score(score)
        await self.scores.store(project_id, mapped.scores, created_by=None)
        await self.updates.take(project_id, mapped.updates)
        rejected = Counter(item.reason for item in mapped.rejected)
        return Receipt(decoded.record_count - rejected.total(), rejected)

    async def explain(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> list[dict[str, Any]]:
        """How the spans of an OTLP request would be stored; nothing is. Raises DecodeError."""
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        def read() -> list[dict[str, Any]]:
            decoded = decode_traces(body, content_type, content_encoding, self.decode_limits)
            return explain_payload(decoded, now=now, window=self.window, pricing=prices)

        return await self.run_decoding(read, len(body), content_encoding)

    async def store_records(self, project_id: str, records: Sequence[SpanRecord]) -> Receipt:
        """Store mapped spans durably, redacted as the project asks: for spans that do not come over OTLP."""
        project = await self.projects.of(project_id)
        prepared, unstorable = self._prepare(project_id, project, records)
        return await self._store(_Read(0, len(records), MappedBatch(), prepared, unstorable))

    async def run_decoding(self, read: Callable[[], T], size: int, content_encoding: str | None) -> T:
        """The result of ``read``, which decodes a body of ``size`` bytes: in a thread unless it is small."""
        is_plain = content_encoding in (None, "", "identity")
        if size <= (_INLINE_BYTES if is_plain else _INLINE_COMPRESSED_BYTES):
            return read()
        async with self._decoding:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    def _map(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> _Read:
        batch = map_spans(decoded, now=now, window=self.window, pricing=prices)
        prepared, unstorable = self._prepare(project_id, project, batch.records)
        return _Read(decoded.size, decoded.span_count, batch, prepared, unstorable)

    async def _store(self, read: _Read) -> Receipt:
        refusals = await self.commits.submit(read.prepared)
        rejected = Counter(item.reason for item in read.batch.rejected)
        rejected.update(read.unstorable)
        rejected.update(refusal.reason for refusal in refusals)
        for reason, count in rejected.items():
            observe(SpansRejected(reason=reason, count=count))
        for (provider, model), count in read.batch.unpriced.items():
            observe(ModelUnpriced(provider=provider, model=model, count=count))
        await self._sightings.note(read.prepared)
        return Receipt(len(read.prepared) - len(refusals), rejected)

    def _prepare(
        self, project_id: str, project: IngestSettings, records: Sequence[SpanRecord]
    ) -> tuple[list[PreparedSpan], Counter[str]]:
        prepared: list[PreparedSpan] = []
        unstorable: Counter[str] = Counter()
        for record in records:
            try:
                if project.redactor is not None:
                    project.redactor.redact(record)
                prepared.append(prepare_span(project_id, record, full_text=self._full_text))
            except UnstorableSpan as error:
                unstorable[str(error)] += 1
        return prepared, unstorable
