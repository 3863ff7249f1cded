"""The way from a request's body to rows: decode, map, redact, and wait for the commit.

Bodies are decoded and mapped where that delays nobody (:mod:`server.ingest.body_work`). The spans are then stored
together with those of other requests (:class:`GroupCommit`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from server.cache.freshness import Freshness
from server.distribution_settings import NONE
from server.ingest.body_work import BodyWork, run_to_the_end
from server.ingest.decoded_weight import is_heavy
from server.ingest.explain import explain_payload
from server.ingest.limits import ProjectRates
from server.ingest.mapping.agent_metrics import AgentCount, read_counter
from server.ingest.mapping.log_mapping import MappedLogs, map_logs
from server.ingest.mapping.mapping_result import IngestWindow, ScoreRecord
from server.ingest.messages.known_messages import KnownContents
from server.ingest.otlp.decode import DecodeLimits, decode_logs, decode_traces
from server.ingest.otlp.metrics_format import DecodedMetrics, decode_metrics
from server.ingest.otlp.payload import DecodedLogs, DecodedTraces
from server.ingest.pricing.price_book import PriceBook
from server.ingest.pricing.price_books import PriceBooks
from server.ingest.pricing.price_catalog import price_catalog
from server.ingest.project_settings import IngestSettings, ProjectSettings
from server.ingest.request_spans import RequestSpans, reading_steps
from server.ingest.span_updates import SpanUpdates
from server.ingest.writing.agent_figures import store_agent_counts
from server.ingest.writing.content_start import ContentStart
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.group_commit import GroupCommit
from server.ingest.writing.score_writer import ScoreWriter
from server.ingest.writing.span_writer import SpanWriter
from server.ingest.writing.text_index import MOST_SHARED_WORDS, MOST_WORDS, TextIndexUpkeep
from server.ingest.writing.unused_content import UnusedContent
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings
from server.storage.database import Database
from server.telemetry.observations import ModelUnpriced, SpansRejected, observe

_LIGHT_LOGS_BYTES: Final = 16 * 1024
_NAMED_SPANS: Final = 5
"""Most rejected spans that the answer names for each reason."""
_PENDING_BYTES: Final = 128 * 1024 * 1024


@dataclass(slots=True)
class Receipt:
    """The outcome for one request's spans. ``rejected`` counts by reason; everything else is durable."""

    accepted: int
    rejected: Counter[str] = field(default_factory=Counter)
    span_ids: dict[str, list[str]] = field(default_factory=dict)
    """The first few spans that were rejected, by reason."""


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
        self.content_start = ContentStart(settings.content_layout, writes)
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
            apart=writes.distribution != NONE,
        )
        self.scores = ScoreWriter(writes, freshness)
        self.updates = SpanUpdates(
            writes, worker, self.writer, self.projects, self.content_start, full_text=settings.full_text
        )
        self.text_index = TextIndexUpkeep(
            worker,
            written=lambda: self.writer.words_written,
            pending=lambda: self.commits.pending_rows,
            most=MOST_SHARED_WORDS if self.content_start.may_share else MOST_WORDS,
            processes=settings.workers,
        )
        self.unused_content = UnusedContent(worker)
        self._rates = ProjectRates(buckets, settings)
        self._known = KnownContents()
        self._work = BodyWork(self.decode_limits, settings.ingest_decoders)

    def start(self) -> None:
        """Start the background work, and load data that requests should not wait for."""
        price_catalog().load()
        self.updates.task.start()
        self.unused_content.task.start()
        if self._full_text:
            self.text_index.task.start()

    async def close(self) -> None:
        """Store the spans that wait for a commit, and stop."""
        await self.updates.task.stop()
        await self.unused_content.task.stop()
        await self.text_index.task.stop()
        await self.commits.close()
        self._work.close()

    async def take_traces(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> Receipt:
        """Store the spans of an OTLP request durably.

        Raises DecodeError for a body that cannot be read, RateLimited, ShareExhausted, Overloaded, DatabaseUnavailable.
        """
        project = await self.projects.of(project_id)
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        async def read(decoded: DecodedTraces) -> RequestSpans:
            await self._rates.take(project_id, project, spans=decoded.span_count, size=decoded.size)
            return await self._read(project_id, project, prices, decoded, now)

        found = await self._work.decoded(decode_traces, body, content_type, content_encoding, read)
        receipt = await self._store(found)
        await self._store_scores(project_id, project, found.batch.scores)
        return receipt

    async def take_logs(self, project_id: str, body: bytes, content_type: str, content_encoding: str | None) -> Receipt:
        """Store the parts of an OTLP request's log records that describe spans and traces; others are dropped.

        Raises the errors of :meth:`take_traces`.
        """
        project = await self.projects.of(project_id)
        now = datetime.now(UTC)

        async def read(decoded: DecodedLogs) -> tuple[DecodedLogs, MappedLogs]:
            await self._rates.take(project_id, project, spans=decoded.record_count, size=decoded.size)

            def mapped() -> MappedLogs:
                return map_logs(decoded, now=now, window=self.window)

            if decoded.size > _LIGHT_LOGS_BYTES:
                return decoded, await self._work.in_thread(mapped)
            async with self._work.turn():
                return decoded, mapped()

        decoded, found = await self._work.decoded(decode_logs, body, content_type, content_encoding, read)
        await self._store_scores(project_id, project, found.scores)
        rejected = Counter(item.reason for item in found.rejected)
        groups = found.events.groups
        if groups:
            events = DecodedTraces(groups, sum(len(group.spans) for group in groups), decoded.size, decoded.encoding)
            prices = await self.prices.of(project_id)
            stored = await self._store(await self._read(project_id, project, prices, events, now))
            rejected.update(stored.rejected)
        await self.updates.take(project_id, found.updates)
        return Receipt(decoded.record_count - rejected.total(), rejected)

    async def take_metrics(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> tuple[int, int]:
        """Add the counters of coding agents to the daily figures; other data points are dropped.

        Returns the number of data points, and how many of them are kept. Raises the errors of :meth:`take_traces`.
        """
        project = await self.projects.of(project_id)
        now = datetime.now(UTC)

        def decoded() -> DecodedMetrics:
            return decode_metrics(body, content_type, content_encoding, self.decode_limits)

        def counted() -> list[AgentCount]:
            found = (read_counter(point, now, self.window, project.redactor) for point in metrics.points)
            return [count for count in found if count is not None]

        async with self._work.decoder():
            metrics = await self._work.in_thread(decoded)
            await self._rates.take(project_id, project, spans=metrics.point_count, size=metrics.size)
            counts = await self._work.in_thread(counted)
        await store_agent_counts(self._writes, project_id, counts)
        return metrics.point_count, len(counts)

    async def explain(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> list[dict[str, Any]]:
        """Report how the spans of an OTLP request would be stored, without storing them. Raises DecodeError."""
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        def read() -> list[dict[str, Any]]:
            decoded = decode_traces(body, content_type, content_encoding, self.decode_limits)
            return explain_payload(decoded, now=now, window=self.window, pricing=prices)

        async with self._work.decoder():
            return await self._work.in_thread(read)

    async def _read(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> RequestSpans:
        """Map and prepare what has passed the limits of its request. Raises DatabaseUnavailable."""
        await self.content_start.learn()
        steps = reading_steps(
            decoded,
            project_id,
            project=project,
            prices=prices,
            known=self._known.of(project_id),
            now=now,
            window=self.window,
            full_text=self._full_text,
            shared_from=self.content_start.moment,
            resources_from=self.content_start.resources,
            results_from=self.content_start.results,
        )
        if is_heavy(decoded):
            return await self._work.in_thread(lambda: run_to_the_end(steps))
        return await self._work.in_turns(steps)

    async def _store(self, read: RequestSpans) -> Receipt:
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
