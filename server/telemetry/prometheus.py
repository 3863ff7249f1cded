"""Prometheus metrics, and the observations that each of them counts.

The table :data:`METRICS` is the list that docs/reference/server-metrics.md shows (a test compares them). Nothing here
names a version, a host or a tenant, and no label takes text of callers: the page is open to everybody who reaches the
server. Only a page on a port of its own names what tenants call their providers (:data:`providers`). With several
worker processes the figures of all of them are merged by prometheus_client's multi-process mode, which the supervisor
switches on (``PROMETHEUS_MULTIPROC_DIR``).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache, singledispatch
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    PLATFORM_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from server.telemetry.observations import (
    AuthenticationRefused,
    BackgroundWorkFailed,
    CacheAsked,
    EmbedderLost,
    EmbeddingBacklog,
    ExportFinished,
    LiveStreamEnded,
    LiveStreamsOpen,
    LogLinesLost,
    ModelUnpriced,
    Observation,
    PartitionsDropped,
    RateLimitHit,
    ReadOpened,
    RedisBack,
    RedisLost,
    ReplicaBack,
    ReplicaLost,
    RequestsFinished,
    RollupsFolded,
    SpansRejected,
    SpansStored,
    TextsEmbedded,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter(
    "http_requests",
    "Requests answered; with status 499, those whose caller went away before.",
    ["method", "route", "status"],
)
REQUEST_SECONDS = Histogram("http_request_duration_seconds", "Time to answer a request.", ["route"], buckets=_SECONDS)
SPANS_STORED = Counter("observatory_spans_stored", "Spans committed: new ones and newer versions.")
SPANS_UNCHANGED = Counter("observatory_spans_unchanged", "Spans that existed already: replays and older versions.")
SPANS_REJECTED = Counter("observatory_spans_rejected", "Spans refused out of accepted batches.", ["reason"])
COMMIT_SECONDS = Histogram("observatory_ingest_commit_seconds", "Time of one ingest transaction.", buckets=_SECONDS)
COMMIT_REQUESTS = Histogram(
    "observatory_ingest_commit_requests",
    "Requests that shared one ingest transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100),
)
SPANS_UNPRICED = Counter(
    "observatory_spans_unpriced",
    "Spans of models without a known price; the provider is named on the admin port only.",
    ["provider"],
)
CACHE_REQUESTS = Counter("observatory_cache_requests", "Questions to the result cache.", ["cache", "outcome"])
RATE_LIMITED = Counter("observatory_rate_limited", "Requests refused by a rate limit.", ["policy"])
AUTHENTICATION_REFUSED = Counter("observatory_authentication_refused", "Credentials refused.", ["reason"])
REDIS_UP = Gauge("observatory_redis_up", "Whether Redis is being used.", multiprocess_mode="livemin")
READS = Counter("observatory_reads", "Reads, where read replicas are configured.", ["source"])
READ_REPLICAS = Gauge("observatory_read_replicas", "Read replicas in use.", multiprocess_mode="livemin")
FOLD_SECONDS = Histogram("observatory_rollup_fold_seconds", "Time to fold pending rollup deltas.", buckets=_SECONDS)
FOLDED = Counter("observatory_rollup_deltas_folded", "Rollup deltas folded into their grains.")
PARTITIONS_DROPPED = Counter("observatory_partitions_dropped", "Partitions of raw spans dropped by retention.")
LOG_LINES_LOST = Counter("observatory_log_lines_lost", "Log lines dropped because nobody read standard error.")
BACKGROUND_FAILURES = Counter("observatory_background_failures", "Failed runs of background work.", ["task"])
EXPORTS = Counter("observatory_exports", "Exports that ended.", ["kind", "format", "state"])
EXPORT_ROWS = Counter("observatory_export_rows", "Rows exported.", ["format"])
EXPORT_BYTES = Counter("observatory_export_bytes", "Bytes of exports handed over.", ["format"])
LIVE_STREAMS = Gauge("observatory_live_streams", "Live streams that are open.", multiprocess_mode="livesum")
LIVE_STREAMS_ENDED = Counter("observatory_live_streams_ended", "Live streams that ended.", ["reason"])
LIVE_EVENTS = Counter("observatory_live_events", "Spans and updates handed to live streams that have ended.")
LIVE_EVENTS_LOST = Counter("observatory_live_events_lost", "Spans and updates lost to slow clients.")
EMBEDDED_TEXTS = Counter("observatory_embedded_texts", "Texts of spans that the embedder made vectors of.")
EMBEDDED_SPANS = Counter(
    "observatory_embedded_spans", "Spans whose vectors were stored, those without a text included."
)
EMBEDDING_TOKENS = Counter("observatory_embedding_tokens", "Tokens that the embedder counted for stored texts.")
EMBEDDING_COST = Counter("observatory_embedding_cost_usd", "Cost of those tokens, at EMBEDDINGS_USD_PER_MTOK.")
EMBEDDING_SECONDS = Histogram(
    "observatory_embedding_batch_seconds", "Time to embed and store a batch.", buckets=_SECONDS
)
EMBEDDING_BACKLOG = Gauge(
    "observatory_embedding_backlog", "Spans that wait for their vectors.", multiprocess_mode="livesum"
)
EMBEDDING_WALKING = Gauge(
    "observatory_embedding_walking",
    "Whether stored spans are still being looked through for those without a vector.",
    multiprocess_mode="livemax",
)
EMBEDDER_FAILURES = Counter("observatory_embedder_failures", "Batches for which the embedder made no vectors.")

METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    SPANS_STORED,
    SPANS_UNCHANGED,
    SPANS_REJECTED,
    COMMIT_SECONDS,
    COMMIT_REQUESTS,
    SPANS_UNPRICED,
    CACHE_REQUESTS,
    RATE_LIMITED,
    AUTHENTICATION_REFUSED,
    REDIS_UP,
    READS,
    READ_REPLICAS,
    FOLD_SECONDS,
    FOLDED,
    PARTITIONS_DROPPED,
    BACKGROUND_FAILURES,
    EXPORTS,
    EXPORT_ROWS,
    EXPORT_BYTES,
    LIVE_STREAMS,
    LIVE_STREAMS_ENDED,
    LIVE_EVENTS,
    LIVE_EVENTS_LOST,
    EMBEDDED_TEXTS,
    EMBEDDED_SPANS,
    EMBEDDING_TOKENS,
    EMBEDDING_COST,
    EMBEDDING_SECONDS,
    EMBEDDING_BACKLOG,
    EMBEDDING_WALKING,
    EMBEDDER_FAILURES,
    LOG_LINES_LOST,
)
REDIS_UP.set(1)
REGISTRY.unregister(PLATFORM_COLLECTOR)  # it would reveal the exact version of Python


class ProviderNames:
    """Label values for providers, which are free text of telemetry.

    A label is kept for as long as the process lives, so their number is bounded.
    """

    MOST: Final = 100
    ANY: Final = "any"
    OTHER: Final = "other"

    def __init__(self) -> None:
        self.are_shown = False
        self._known: set[str] = set()

    def label(self, provider: str) -> str:
        """Return ``provider`` itself, or the label that all others share."""
        if not self.are_shown:
            return self.ANY
        if provider not in self._known:
            if len(self._known) >= self.MOST or len(provider) > self.MOST:
                return self.OTHER
            self._known.add(provider)
        return provider


providers = ProviderNames()


@singledispatch
def record(observation: Observation) -> None:
    """Count ``observation``; kinds without a handler are only logged."""


_RequestMeters = tuple[Callable[[float], None], Callable[[float], None]]


@lru_cache(maxsize=4096)
def _request_meters(method: str, route: str, status: int) -> _RequestMeters:
    return REQUESTS.labels(method, route, str(status)).inc, REQUEST_SECONDS.labels(route).observe


_cache_requests = lru_cache(maxsize=64)(CACHE_REQUESTS.labels)


@record.register
def _(observation: RequestsFinished) -> None:
    seconds: defaultdict[_RequestMeters, list[float]] = defaultdict(list)
    for request in observation.requests:
        seconds[_request_meters(request.method, request.route, request.status)].append(request.seconds)
    for (count, measure), values in seconds.items():
        count(len(values))
        for value in values:
            measure(value)


@record.register
def _(observation: SpansStored) -> None:
    SPANS_STORED.inc(observation.stored)
    SPANS_UNCHANGED.inc(observation.unchanged)
    COMMIT_SECONDS.observe(observation.seconds)
    COMMIT_REQUESTS.observe(observation.requests)


@record.register
def _(observation: SpansRejected) -> None:
    SPANS_REJECTED.labels(observation.reason).inc(observation.count)


@record.register
def _(observation: ModelUnpriced) -> None:
    SPANS_UNPRICED.labels(providers.label(observation.provider)).inc(observation.count)


@record.register
def _(observation: CacheAsked) -> None:
    _cache_requests(observation.cache, observation.outcome).inc(observation.count)


@record.register
def _(observation: RateLimitHit) -> None:
    RATE_LIMITED.labels(observation.policy).inc()


@record.register
def _(observation: AuthenticationRefused) -> None:
    AUTHENTICATION_REFUSED.labels(observation.reason).inc()


@record.register
def _(observation: RedisLost) -> None:
    REDIS_UP.set(0)


@record.register
def _(observation: RedisBack) -> None:
    REDIS_UP.set(1)


@record.register
def _(observation: ReadOpened) -> None:
    READS.labels(observation.source).inc()


@record.register
def _(observation: ReplicaLost) -> None:
    READ_REPLICAS.dec()


@record.register
def _(observation: ReplicaBack) -> None:
    READ_REPLICAS.inc()


@record.register
def _(observation: RollupsFolded) -> None:
    FOLDED.inc(observation.deltas)
    FOLD_SECONDS.observe(observation.seconds)


@record.register
def _(observation: PartitionsDropped) -> None:
    PARTITIONS_DROPPED.inc(len(observation.names))


@record.register
def _(observation: BackgroundWorkFailed) -> None:
    BACKGROUND_FAILURES.labels(observation.task).inc()


@record.register
def _(observation: ExportFinished) -> None:
    EXPORTS.labels(observation.kind, observation.format, observation.state).inc()
    EXPORT_ROWS.labels(observation.format).inc(observation.rows)
    EXPORT_BYTES.labels(observation.format).inc(observation.size)


@record.register
def _(observation: TextsEmbedded) -> None:
    EMBEDDED_TEXTS.inc(observation.texts)
    EMBEDDED_SPANS.inc(observation.spans)
    EMBEDDING_TOKENS.inc(observation.tokens)
    EMBEDDING_COST.inc(observation.cost_usd)
    EMBEDDING_SECONDS.observe(observation.seconds)


@record.register
def _(observation: EmbeddingBacklog) -> None:
    EMBEDDING_BACKLOG.set(observation.waiting)
    EMBEDDING_WALKING.set(observation.is_walking)


@record.register
def _(observation: EmbedderLost) -> None:
    EMBEDDER_FAILURES.inc()


@record.register
def _(observation: LiveStreamsOpen) -> None:
    LIVE_STREAMS.inc(observation.change)


@record.register
def _(observation: LiveStreamEnded) -> None:
    LIVE_STREAMS_ENDED.labels(observation.reason).inc()
    LIVE_EVENTS.inc(observation.sent)
    LIVE_EVENTS_LOST.inc(observation.lost)


@record.register
def _(observation: LogLinesLost) -> None:
    LOG_LINES_LOST.inc(observation.count)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format, of every worker process."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return generate_latest(REGISTRY if folder is None else registry_of(folder))


def registry_of(folder: str) -> CollectorRegistry:
    """Return the merged metrics of the processes that write into ``folder``."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return registry
