"""The way from a request's body to rows: decode, map, redact, and wait for the commit.

Decoding a large body takes long enough to delay other requests, so it runs in one of a few threads; their number bounds
the memory that large bodies need. Mapping runs on the event loop, some spans at a time: a thread would have to share
the interpreter with the loop, which then waits for it at each answer of the database. The result is a list of prepared
spans, which :class:`GroupCommit` stores together with those of other requests.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from server.cache.freshness import Freshness
from server.ingest.explain import explain_payload
from server.ingest.limits import BodyBudget, ProjectRates
from server.ingest.mapping.agent_metrics import read_counter
from server.ingest.mapping.log_mapping import map_logs
from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch, ScoreRecord
from server.ingest.mapping.span_mapping import mapping_steps
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import DecodeLimits, decode_logs, decode_traces, payload_encoding
from server.ingest.otlp.metrics_format import decode_metrics
from server.ingest.otlp.payload import DecodedTraces
from server.ingest.pricing.price_book import PriceBook
from server.ingest.pricing.price_books import PriceBooks
from server.ingest.pricing.price_catalog import price_catalog
from server.ingest.project_settings import IngestSettings, ProjectSettings
from server.ingest.span_updates import SpanUpdates
from server.ingest.writing.agent_figures import store_agent_counts
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.group_commit import GroupCommit
from server.ingest.writing.prepared_span import PreparedSpan, UnstorableSpan, prepare_span
from server.ingest.writing.score_writer import ScoreWriter
from server.ingest.writing.span_writer import SpanWriter
from server.ingest.writing.text_index import TextIndexUpkeep
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings
from server.storage.database import Database
from server.telemetry.observations import ModelUnpriced, SpansRejected, observe

T = TypeVar("T")

_INLINE_BYTES: Final = {"protobuf": 512 * 1024, "json": 64 * 1024}
"""Bodies up to this size are decoded at once, which takes at most some 15 ms; larger ones in a thread."""
_INLINE_COMPRESSED_BYTES: Final = 2 * 1024
_INLINE_EXPLAIN_BYTES: Final = 16 * 1024
_SPANS_A_STEP: Final = 32
"""Spans mapped before other requests, and the commits, have their turn: about 1.5 ms."""
_STEP_SECONDS: Final = 0.002
"""The same for preparing, which takes longer the more text there is."""
_NAMED_SPANS: Final = 5
"""So many rejected spans are named in the answer, for each reason."""
_PENDING_BYTES: Final = 128 * 1024 * 1024
_request_numbers = itertools.count(1)


@dataclass(slots=True)
class Receipt:
    """The outcome for one request's spans. ``rejected`` counts by reason; everything else is durable."""

    accepted: int
    rejected: Counter[str] = field(default_factory=Counter)
    span_ids: dict[str, list[str]] = field(default_factory=dict)
    """The first few spans that were rejected, by reason."""


@dataclass(slots=True)
class _Read:
    """A body after decoding and mapping."""

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
            # Spans that retention would drop again are not accepted.
            max_age=timedelta(days=min(settings.ingest_max_age_days, settings.retention_days)),
            max_future=timedelta(seconds=settings.ingest_max_future),
        )
        self._writes = writes
        self._full_text = settings.full_text
        self.bodies = BodyBudget(settings.ingest_buffer_bytes)
        self.prices = PriceBooks(writes)
        self.projects = ProjectSettings(writes, redaction_key=settings.jwt_secret.encode())
        self.writer = SpanWriter(
            writes,
            Dimensions(writes, most_combinations=settings.max_dimensions),
            freshness,
            full_text=settings.full_text,
        )
        self.commits = GroupCommit(
            self.writer,
            writers=settings.ingest_pool_size,
            most_pending_rows=settings.ingest_pending_spans,
            most_pending_bytes=_PENDING_BYTES,
        )
        self.scores = ScoreWriter(writes, freshness)
        self.updates = SpanUpdates(writes, worker, self.writer, self.projects)
        self.text_index = TextIndexUpkeep(
            worker,
            written=lambda: self.writer.words_written,
            pending=lambda: self.commits.pending_rows,
            processes=settings.workers,
        )
        self._rates = ProjectRates(buckets, settings)
        self._decoding = asyncio.Semaphore(settings.ingest_decoders)
        self._threads = ThreadPoolExecutor(settings.ingest_decoders, thread_name_prefix="otlp-decode")

    def start(self) -> None:
        """Start the background work, and load data that requests should not wait for."""
        price_catalog().load()
        self.updates.task.start()
        if self._full_text:
            self.text_index.task.start()

    async def close(self) -> None:
        """Store the spans that wait for a commit, and stop."""
        await self.updates.task.stop()
        await self.text_index.task.stop()
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

        def decode() -> DecodedTraces:
            return decode_traces(body, content_type, content_encoding, self.decode_limits)

        if is_decoded_inline(len(body), content_type, content_encoding):
            read_body = await self._map(project_id, project, prices, decode(), now)
        else:
            async with self._decoding:
                decoded = await asyncio.get_running_loop().run_in_executor(self._threads, decode)
                read_body = await self._map(project_id, project, prices, decoded, now)
        receipt = await self._store(read_body)
        await self._store_scores(project_id, project, read_body.batch.scores)
        return receipt

    async def take_logs(self, project_id: str, body: bytes, content_type: str, content_encoding: str | None) -> Receipt:
        """Store the parts of an OTLP request's log records that describe spans and traces; others are dropped.

        Raises the errors of :meth:`take_traces`.
        """
        project = await self.projects.of(project_id)
        now = datetime.now(UTC)
        is_inline = is_decoded_inline(len(body), content_type, content_encoding)
        decoded = await self._run(
            lambda: decode_logs(body, content_type, content_encoding, self.decode_limits), is_inline=is_inline
        )
        await self._rates.take(project_id, project, spans=decoded.record_count, size=decoded.size)
        mapped = map_logs(decoded, now=now, window=self.window)
        await self._store_scores(project_id, project, mapped.scores)
        rejected = Counter(item.reason for item in mapped.rejected)
        groups = mapped.events.groups
        if groups:
            events = DecodedTraces(groups, sum(len(group.spans) for group in groups), decoded.size, decoded.encoding)
            prices = await self.prices.of(project_id)
            stored = await self._store(await self._map_free(project_id, project, prices, events, now))
            rejected.update(stored.rejected)
        await self.updates.take(project_id, mapped.updates)
        return Receipt(decoded.record_count - rejected.total(), rejected)

    async def take_metrics(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> tuple[int, int]:
        """Add the counters of coding agents to the daily figures; other data points are dropped.

        Returns the number of data points, and how many of them are kept. Raises the errors of :meth:`take_traces`.
        """
        project = await self.projects.of(project_id)
        now = datetime.now(UTC)
        is_inline = is_decoded_inline(len(body), content_type, content_encoding)
        decoded = await self._run(
            lambda: decode_metrics(body, content_type, content_encoding, self.decode_limits), is_inline=is_inline
        )
        await self._rates.take(project_id, project, spans=decoded.point_count, size=decoded.size)
        counts = [count for point in decoded.points if (count := read_counter(point, now, self.window)) is not None]
        await store_agent_counts(self._writes, project_id, counts)
        return decoded.point_count, len(counts)

    async def explain(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> list[dict[str, Any]]:
        """Report how the spans of an OTLP request would be stored, without storing them. Raises DecodeError."""
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        def read() -> list[dict[str, Any]]:
            decoded = decode_traces(body, content_type, content_encoding, self.decode_limits)
            return explain_payload(decoded, now=now, window=self.window, pricing=prices)

        is_plain = content_encoding in (None, "", "identity")
        limit = _INLINE_EXPLAIN_BYTES if is_plain else _INLINE_COMPRESSED_BYTES
        return await self._run(read, is_inline=len(body) <= limit)

    async def _run(self, read: Callable[[], T], *, is_inline: bool) -> T:
        """Return the result of ``read``: at once, or from one of the threads."""
        if is_inline:
            return read()
        async with self._decoding:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _map(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> _Read:
        """Map and prepare decoded spans. Raises RateLimited before any of them is mapped."""
        await self._rates.take(project_id, project, spans=decoded.span_count, size=decoded.size)
        return await self._map_free(project_id, project, prices, decoded, now)

    async def _map_free(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> _Read:
        """Map and prepare what has passed the limits of its request."""
        batch = MappedBatch()
        for _ in mapping_steps(decoded, batch, now=now, window=self.window, pricing=prices, spans_a_step=_SPANS_A_STEP):
            await asyncio.sleep(0)
        prepared, unstorable = await self._prepare(project_id, project, batch.records)
        return _Read(batch, prepared, unstorable)

    async def _store(self, read: _Read) -> Receipt:
        refusals = await self.commits.submit(read.prepared)
        rejected = Counter(item.reason for item in read.batch.rejected)
        rejected.update(read.unstorable)
        rejected.update(refusal.reason for refusal in refusals)
        named: dict[str, list[str]] = {}
        for item in read.batch.rejected:
            if item.span_id and len(named.setdefault(item.reason, [])) < _NAMED_SPANS:
                named[item.reason].append(item.span_id)
        for reason, count in rejected.items():
            observe(SpansRejected(reason=reason, count=count))
        for (provider, model), count in read.batch.unpriced.items():
            observe(ModelUnpriced(provider=provider, model=model, count=count))
        return Receipt(len(read.prepared) - len(refusals), rejected, named)

    async def _store_scores(self, project_id: str, project: IngestSettings, scores: Sequence[ScoreRecord]) -> None:
        if project.redactor is not None:
            for score in scores:
                project.redactor.redact_score(score)
        await self.scores.store(project_id, scores, created_by=None)

    async def _prepare(
        self, project_id: str, project: IngestSettings, records: Sequence[SpanRecord]
    ) -> tuple[list[PreparedSpan], Counter[str]]:
        prepared: list[PreparedSpan] = []
        unstorable: Counter[str] = Counter()
        request = next(_request_numbers)
        turn_ends = time.perf_counter() + _STEP_SECONDS
        for record in records:
            try:
                if project.redactor is not None:
                    project.redactor.redact(record)
                prepared.append(prepare_span(project_id, record, full_text=self._full_text, request=request))
            except UnstorableSpan as error:
                unstorable[str(error)] += 1
            if time.perf_counter() >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.perf_counter() + _STEP_SECONDS
        return prepared, unstorable


def is_decoded_inline(size: int, content_type: str, content_encoding: str | None) -> bool:
    """Return whether a body is decoded about as quickly as it is handed to a thread. Raises UnsupportedType."""
    if content_encoding in (None, "", "identity"):
        return size <= _INLINE_BYTES[payload_encoding(content_type)]
    return size <= _INLINE_COMPRESSED_BYTES
