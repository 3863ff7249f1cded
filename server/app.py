"""The application factory: the only place that wires the parts together."""

from __future__ import annotations

import asyncio
from typing import Any

from sanic import Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.config import Config
from sanic.http.constants import HTTP
from sanic.log import LOGGING_CONFIG_DEFAULTS

from datasource.jaeger.routes import jaeger
from datasource.json.panel_engine import PanelEngine
from datasource.json.routes import grafana
from datasource.prometheus.routes import promql
from datasource.prometheus.scrape_routes import scrape
from datasource.tempo.metrics_routes import tempo_metrics
from datasource.tempo.routes import tempo
from server.access.access_services import build_access
from server.cache.freshness import Freshness
from server.cache.result_cache import ResultCache
from server.embedding.embedder import open_embedder
from server.errors import Overloaded
from server.export.daily_exports import DailyExports
from server.export.export_files import open_files
from server.export.export_jobs import ExportJobs
from server.export.export_store import ExportStore
from server.export.exports import Exports
from server.fairness.fair_queue import FairQueue
from server.http import cross_origin, error_responses
from server.http.http_app import HttpApp
from server.http.method_router import MethodRouter
from server.http.services import Services
from server.http.wire.connection import EdgeRequest
from server.http.wire.deadlines import HEAD_SECONDS
from server.ingest.ingestion import Ingestion
from server.live.live_tail import LiveTail
from server.live.wake_ups import WakeUps
from server.mcp.mcp_routes import mcp
from server.queries.lists.cursor import CursorSeal
from server.queries.records.project_list import ProjectList
from server.receiver.otlp_routes import otlp
from server.rest.analytics_routes import analytics
from server.rest.annotation_routes import annotation_log
from server.rest.audit_routes import audit
from server.rest.budget_routes import budgets
from server.rest.client_routes import clients
from server.rest.coding_agent_routes import coding_agents
from server.rest.cost_routes import costs
from server.rest.erasure_routes import erasure
from server.rest.export_job_routes import export_jobs
from server.rest.export_routes import exports
from server.rest.facet_routes import facets
from server.rest.health_routes import health
from server.rest.ingest_settings_routes import ingest_settings
from server.rest.key_routes import keys
from server.rest.live_routes import live
from server.rest.metric_routes import metric_api
from server.rest.oauth_routes import oauth
from server.rest.openapi.routes import description
from server.rest.price_routes import prices
from server.rest.project_routes import projects
from server.rest.score_routes import scores
from server.rest.session_routes import sessions
from server.rest.trace_detail_routes import trace_detail
from server.rest.trace_routes import traces
from server.rollups.fold import RollupFolder
from server.semantic.meaning_search import MeaningSearch
from server.semantic.question_vectors import QuestionVectors
from server.settings import Settings
from server.storage.database import Database
from server.storage.read_replicas import Primary, Replica, SpreadReads
from server.storage.redis_store import RedisStore
from server.telemetry import logs, observations, prometheus, tracing
from server.text.json_text import dumps
from server.upkeep.partition_statistics import PartitionStatistics
from server.upkeep.retention import Retention

BLUEPRINTS = (
    health,
    oauth,
    keys,
    clients,
    projects,
    audit,
    otlp,
    traces,
    live,
    trace_detail,
    sessions,
    erasure,
    facets,
    description,
    exports,
    export_jobs,
    mcp,
    metric_api,
    analytics,
    coding_agents,
    costs,
    budgets,
    jaeger,
    tempo,
    tempo_metrics,
    promql,
    scrape,
    scores,
    prices,
    ingest_settings,
    annotation_log,
    grafana,
)

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_MESSAGE_BYTES = 4096
"""Longest WebSocket message from a client; clients have nothing to send."""
ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of large answers that may wait for their clients in one process."""
REPLICA_ACQUIRE_SECONDS = 0.25
"""Longest wait for a free connection to a replica."""
BODY_PATIENCE_SECONDS = 2.0
"""Seconds that a body, or an answer, waits for room."""


def build_services(settings: Settings) -> Services:
    """Build the long-lived objects. Nothing is connected yet: a store that is down must not prevent the start."""

    def pool(url: str, role: str, size: int, timeout: float, name: str) -> Database:
        return Database(
            url,
            role=role,
            size=size,
            acquire_timeout=settings.acquire_timeout,
            statement_timeout=timeout,
            application_name=f"llm-observatory {name}",
            distribution=settings.database_distribution,
        )

    reads = build_reads(settings)
    writes = pool(settings.database_url, "observatory_api", settings.ingest_pool_size + 2, 8.0, "writes")
    writes.on_commit = reads.primary.committed
    worker = pool(settings.worker_url, "observatory_worker", 3, 600.0, "worker")
    redis = RedisStore(settings.redis_url, timeout=settings.redis_timeout)
    freshness = Freshness(redis)
    access = build_access(settings, reads, worker, redis)
    project_list = ProjectList(reads)
    live_tail = LiveTail(
        reads.on_primary(),
        worker,
        lambda heard: WakeUps(settings.redis_url, redis, timeout=settings.redis_timeout, heard=heard),
        most_streams=settings.live_streams_total,
        most_of_one=settings.live_streams,
    )
    freshness.on_commit(live_tail.committed)
    cache = ResultCache(redis, dumps, enabled=settings.cache_enabled, max_bytes=settings.cache_max_bytes)
    freshness.on_edit(cache.begin_era)
    return Services(
        settings=settings,
        reads=reads,
        writes=writes,
        worker=worker,
        redis=redis,
        bodies=FairQueue(
            "body memory",
            settings.ingest_buffer_bytes,
            patience=BODY_PATIENCE_SECONDS,
            exhausted=lambda: Overloaded("too many bytes are being received"),
        ),
        answers=FairQueue(
            "answer memory",
            ANSWER_BYTES,
            patience=BODY_PATIENCE_SECONDS,
            exhausted=lambda: Overloaded("too many answers wait for slow clients"),
        ),
        projects=project_list,
        cursors=CursorSeal([settings.jwt_secret, settings.jwt_secret_previous]),
        cache=cache,
        freshness=freshness,
        access=access,
        ingestion=Ingestion(settings, writes, worker, freshness, access.buckets),
        folder=RollupFolder(worker),
        exports=build_exports(settings, reads.without_staleness(), writes, worker, project_list),
        retention=Retention(worker, settings),
        statistics=PartitionStatistics(worker),
        meaning=build_meaning(settings, reads),
        live=live_tail,
    )


def build_reads(settings: Settings) -> SpreadReads:
    """Make the pools for reading: the primary's, and one for each replica."""

    def pool(url: str) -> dict[str, Any]:
        return {
            "url": url,
            "role": "observatory_api",
            "size": settings.database_pool_size,
            "acquire_timeout": settings.acquire_timeout,
            "statement_timeout": settings.statement_timeout,
            "application_name": "llm-observatory reads",
            "distribution": settings.database_distribution,
        }

    primary = Primary(Database(**{**pool(settings.database_url), "size": 1, "statement_timeout": 1.0}))
    replicas = [
        # A busy replica leaves the read to the primary.
        Replica(url, Database(**{**pool(url), "acquire_timeout": REPLICA_ACQUIRE_SECONDS}), primary, number=number)
        for number, url in enumerate(settings.database_read_urls)
    ]
    return SpreadReads(primary, replicas, staleness=settings.database_read_staleness, **pool(settings.database_url))


def build_exports(
    settings: Settings, reads: Database, writes: Database, worker: Database, projects: ProjectList
) -> Exports:
    """Make what exports need."""
    store, files = ExportStore(writes, worker), open_files(settings)
    daily = DailyExports(
        store, reads, projects, format_name=settings.export_daily, keep_days=settings.export_daily_keep_days
    )
    return Exports(store, ExportJobs(store, reads, files), files, daily, reads, most_streams=settings.export_streams)


def build_meaning(settings: Settings, reads: Database) -> MeaningSearch:
    """Make what lists by meaning need."""
    questions = QuestionVectors(open_embedder(settings), settings.embedding_model)
    return MeaningSearch(reads, questions, most_rows=settings.semantic_most_rows, memory_bytes=settings.semantic_memory)


def build_panels(services: Services) -> PanelEngine:
    """Build the engine of Grafana's JSON data source over ``services``."""
    settings = services.settings
    return PanelEngine(
        services.reads,
        services.projects,
        services.cache,
        services.freshness,
        # Leaves some connections for everything else, however many dashboards are open.
        concurrency=max(1, settings.database_pool_size * 6 // 10),
        timeout=settings.grafana_timeout,
        meaning=services.meaning,
    )


async def open_services(services: Services) -> None:
    """Open pools and start background work."""
    for database in (services.reads, services.writes, services.worker):
        await database.open()
    await services.access.open()
    services.ingestion.start()


async def close_services(services: Services) -> None:
    """Stop background work and close pools."""
    await services.live.close()
    await services.folder.task.stop()
    await services.retention.task.stop()
    await services.statistics.task.stop()
    await services.exports.close()
    await services.meaning.close()
    await services.ingestion.close()
    await services.access.close()
    for database in (services.reads, services.writes, services.worker):
        await database.close()
    await services.freshness.close()
    await services.redis.close()


def create_app(settings: Settings, *, name: str = "llm_observatory") -> Sanic[Any, Any]:
    """Return the Sanic application for ``settings``; ``name`` must be unique within a process."""
    app: Sanic[Any, Any] = HttpApp(
        name,
        strict_slashes=True,
        router=MethodRouter(),
        request_class=EdgeRequest,
        config=Config(env_prefix=""),
        log_config={**LOGGING_CONFIG_DEFAULTS, "disable_existing_loggers": False},
        configure_logging=False,
    )
    app.config.update(
        REQUEST_MAX_SIZE=MAX_BODY_BYTES,
        REQUEST_TIMEOUT=HEAD_SECONDS,
        RESPONSE_TIMEOUT=60,
        KEEP_ALIVE_TIMEOUT=75,
        GRACEFUL_SHUTDOWN_TIMEOUT=15,
        WEBSOCKET_MAX_SIZE=MAX_MESSAGE_BYTES,
        FALLBACK_ERROR_FORMAT="json",
        MOTD=False,
        ACCESS_LOG=False,
        OAS=False,
        PROXIES_COUNT=settings.proxies_count or None,
    )
    # Otherwise Sanic does not know that this is only HTTP/1.1, and sends an empty Alt-Svc with every answer.
    app.state.server_info.append(ApplicationServerInfo(settings={"version": HTTP.VERSION_1}))
    prometheus.providers.are_shown = settings.admin_port != 0
    observations.subscribe(prometheus.record)
    observations.subscribe(logs.log)
    app.ctx.services = build_services(settings)
    app.ctx.panels = build_panels(app.ctx.services)
    error_responses.install(app)
    for blueprint in BLUEPRINTS:
        app.blueprint(blueprint)
    cross_origin.install(app, settings.cors_origins)

    @app.before_server_start
    async def start(app: Sanic[Any, Any]) -> None:
        app.ctx.own_spans = tracing.configure(settings.own_otlp_endpoint)
        await open_services(app.ctx.services)
        app.ctx.services.folder.task.start()
        app.ctx.services.retention.task.start()
        app.ctx.services.statistics.task.start()
        app.ctx.services.exports.jobs.task.start()
        app.ctx.services.exports.daily.task.start()
        app.ctx.services.live.trimming.start()

    @app.before_server_stop
    async def drain(app: Sanic[Any, Any]) -> None:
        app.ctx.services.draining = True
        await app.ctx.services.live.drain()

    @app.after_server_stop
    async def stop(app: Sanic[Any, Any]) -> None:
        await close_services(app.ctx.services)
        if app.ctx.own_spans is not None:
            await asyncio.to_thread(app.ctx.own_spans.shutdown)

    return app
