"""The way from a request's body to rows: decode, map, redact, and wait for the commit.

Decoding a large body takes long enough to delay other requests, so it runs in one of a few threads. Mapping runs on the
event loop, some spans at a time: a thread would have to share the interpreter with the loop, which then waits for it at
each answer of the database; only a span that alone would take too long goes to a thread. Tenants share turns and
threads fairly (:mod:`server.fairness.fair_queue`). The result is a list of prepared spans, which
:class:`GroupCommit` stores together with those of other requests.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from server.cache.freshness import Freshness
from server.distribution_settings import NONE
from server.errors import Overloaded
from server.fairness.fair_queue import FairQueue
from server.fairness.tenants import Place
from server.ingest.decoded_weight import is_heavy
from server.ingest.explain import explain_payload
from server.ingest.limits import ProjectRates
from server.ingest.mapping.agent_metrics import AgentCount, read_counter
from server.ingest.mapping.log_mapping import MappedLogs, map_logs
from server.ingest.mapping.mapping_result import IngestWindow, MappedBatch, ScoreRecord
from server.ingest.mapping.span_mapping import mapping_steps
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.otlp.decode import DecodeLimits, decode_logs, decode_traces, payload_encoding
from server.ingest.otlp.metrics_format import DecodedMetrics, decode_metrics
from server.ingest.otlp.payload import DecodedLogs, DecodedTraces, DecodeError, TooLarge
from server.ingest.pricing.price_book import PriceBook
from server.ingest.pricing.price_books import PriceBooks
from server.ingest.pricing.price_catalog import price_catalog
from server.ingest.project_settings import IngestSettings, ProjectSettings
from server.ingest.span_updates import SpanUpdates
from server.ingest.writing.agent_figures import store_agent_counts
from server.ingest.writing.content_start import ContentStart
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.group_commit import GroupCommit
from server.ingest.writing.prepared_span import PreparedSpan, UnstorableSpan, prepare_span
from server.ingest.writing.score_writer import ScoreWriter
from server.ingest.writing.span_writer import SpanWriter
from server.ingest.writing.text_index import MOST_SHARED_WORDS, MOST_WORDS, TextIndexUpkeep
from server.ingest.writing.unused_content import UnusedContent
from server.rate_limit.token_bucket import TokenBuckets
from server.settings import Settings
from server.storage.database import Database
from server.telemetry.observations import ModelUnpriced, SpansRejected, observe

D = TypeVar("D")
T = TypeVar("T")

_INLINE_BYTES: Final = 512 * 1024
_INLINE_LIMITS: Final = {
    "protobuf": DecodeLimits(512 * 1024, max_spans=1000, max_values=10_000, max_fields_per_span=4_000),
    "json": DecodeLimits(64 * 1024, max_spans=1000, max_values=2_000),
}
"""What a body may hold that is decoded on the event loop."""
_REST: Final = 4
"""A decoder rests so many times as long as it worked on a body that was refused."""
_LONGEST_REST_SECONDS: Final = 1.0
_LIGHT_LOGS_BYTES: Final = 16 * 1024
_STEP_SECONDS: Final = 0.002
_REST_SECONDS: Final = 0.002
"""After each step, while other tenants are about: each step of theirs, in reads too, would wait for one of ours."""
_MOST_ROW_BYTES: Final = 64 * 1024 * 1024
"""Of the rows of one request."""
_NAMED_SPANS: Final = 5
"""So many rejected spans are named in the answer, for each reason."""
_PENDING_BYTES: Final = 128 * 1024 * 1024
_request_numbers = itertools.count(1)
_PATIENCE_SECONDS: Final = 10.0
"""A request waits for its turn to be decoded for so long."""
_QUICK_DECODING_SECONDS: Final = 0.25


def _too_many_waiting() -> Overloaded:
    return Overloaded("too many requests wait to be decoded")


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
        self._decoders = FairQueue(
            "decoders",
            settings.ingest_decoders,
            patience=_PATIENCE_SECONDS,
            exhausted=_too_many_waiting,
            quick_seconds=_QUICK_DECODING_SECONDS,
        )
        self._turns = FairQueue("ingest turns", 1, patience=_PATIENCE_SECONDS, exhausted=_too_many_waiting)
        self._threads = ThreadPoolExecutor(settings.ingest_decoders, thread_name_prefix="otlp-decode")

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
        self._threads.shutdown(wait=False)

    async def take_traces(
        self, project_id: str, body: bytes, content_type: str, content_encoding: str | None
    ) -> Receipt:
        """Store the spans of an OTLP request durably.

        Raises DecodeError for a body that cannot be read, RateLimited, ShareExhausted, Overloaded, DatabaseUnavailable.
        """
        project = await self.projects.of(project_id)
        prices = await self.prices.of(project_id)
        now = datetime.now(UTC)

        async def read(decoded: DecodedTraces) -> _Read:
            await self._rates.take(project_id, project, spans=decoded.span_count, size=decoded.size)
            return await self._read(project_id, project, prices, decoded, now)

        found = await self._decoded(decode_traces, body, content_type, content_encoding, read)
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
                return decoded, await self._in_thread(mapped)
            async with self._turns.hold():
                return decoded, mapped()

        decoded, found = await self._decoded(decode_logs, body, content_type, content_encoding, read)
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
            found = (read_counter(point, now, self.window) for point in metrics.points)
            return [count for count in found if count is not None]

        async with self._decoders.hold():
            metrics = await self._in_thread(decoded)
            await self._rates.take(project_id, project, spans=metrics.point_count, size=metrics.size)
            counts = await self._in_thread(counted)
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

        async with self._decoders.hold():
            return await self._in_thread(read)

    async def _decoded(
        self,
        decode: Callable[[bytes, str, str | None, DecodeLimits], D],
        body: bytes,
        content_type: str,
        content_encoding: str | None,
        read: Callable[[D], Awaitable[T]],
    ) -> T:
        """Return what ``read`` makes of the decoded body.

        A body that turns out to be small is decoded at once; any other in a thread, which is kept until it is read: the
        number of threads bounds the memory that large bodies need.

        How large a body is shows only when it is decoded: two kilobytes of gzip may be half a million empty objects. So
        decoding it at once has limits of its own, under which it takes some 15 ms at most.
        """
        if len(body) <= _INLINE_BYTES:
            async with self._turns.hold():
                limits = _INLINE_LIMITS[payload_encoding(content_type)]
                try:
                    decoded = decode(body, content_type, content_encoding, self.decode_limits.within(limits))
                except TooLarge:
                    decoded = None  # perhaps only for here
            if decoded is not None:
                return await read(decoded)
        async with self._decoders.hold():
            began = time.perf_counter()
            try:
                decoded = await self._in_thread(
                    lambda: decode(body, content_type, content_encoding, self.decode_limits)
                )
            except DecodeError:
                # Of no use to anybody, and no rate counts it: whoever sends such bodies has less of a decoder.
                await asyncio.sleep(min(_REST * (time.perf_counter() - began), _LONGEST_REST_SECONDS))
                raise
            return await read(decoded)

    async def _read(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> _Read:
        """Map and prepare what has passed the limits of its request. Raises DatabaseUnavailable."""
        await self.content_start.learn()
        steps = self._reading_steps(project_id, project, prices, decoded, now)
        if is_heavy(decoded):
            return await self._in_thread(lambda: run_to_the_end(steps))
        return await self._in_turns(steps)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``. A caller that goes away holds its decoder until the thread is free."""
        result = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            while not result.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([result])
            result.exception()  # nobody else retrieves it
            raise
        finally:
            # An error holds the frames that it passed, such as this one, and a future holds its error. As a circle they
            # would keep the body, and all that was decoded of it, until the collector looks at old objects.
            del result

    async def _in_turns(self, steps: Generator[None, None, T]) -> T:
        """Return the result of ``steps``, run some milliseconds at a time: others go on in between."""
        place: Place | None = await self._turns.take()
        try:
            turn_ends = time.perf_counter() + _STEP_SECONDS
            while True:
                next(steps)
                if place is not None and time.perf_counter() >= turn_ends:
                    held, place = place, None  # while it is passed on, it is not ours to give back
                    place = await self._turns.pass_on(held, _REST_SECONDS)
                    turn_ends = time.perf_counter() + _STEP_SECONDS
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            if place is not None:
                self._turns.give_back(place)

    def _reading_steps(
        self, project_id: str, project: IngestSettings, prices: PriceBook, decoded: DecodedTraces, now: datetime
    ) -> Generator[None, None, _Read]:
        """Map and prepare what was decoded, span by span."""
        batch = MappedBatch()
        yield from mapping_steps(decoded, batch, now=now, window=self.window, pricing=prices)
        prepared, unstorable = yield from self._preparing_steps(project_id, project, batch.records)
        return _Read(batch, prepared, unstorable)

    def _preparing_steps(
        self, project_id: str, project: IngestSettings, records: Sequence[SpanRecord]
    ) -> Generator[None, None, tuple[list[PreparedSpan], Counter[str]]]:
        prepared: list[PreparedSpan] = []
        unstorable: Counter[str] = Counter()
        request = next(_request_numbers)
        size = 0
        for record in records:
            try:
                if project.redactor is not None:
                    project.redactor.redact(record)
                prepared.append(
                    prepare_span(
                        project_id,
                        record,
                        full_text=self._full_text,
                        request=request,
                        shared_from=self.content_start.moment,
                    )
                )
                size += prepared[-1].size
            except UnstorableSpan as error:
                unstorable[str(error)] += 1
            if size > _MOST_ROW_BYTES:
                # The attributes of a resource are stored with each of its spans.
                raise TooLarge(f"the spans would be stored as more than {_MOST_ROW_BYTES} bytes: send fewer at a time")
            yield
        return prepared, unstorable

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


def run_to_the_end(steps: Generator[None, None, T]) -> T:
    """Return the result of ``steps``, all at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
