"""The long-lived objects of one server process."""

from __future__ import annotations

from dataclasses import dataclass, field

from sanic import Request

from server.access.access_services import AccessGate
from server.cache.freshness import Freshness
from server.cache.result_cache import ResultCache
from server.export.exports import Exports
from server.fairness.fair_queue import FairQueue
from server.ingest.ingestion import Ingestion
from server.live.live_tail import LiveTail
from server.queries.lists.cursor import CursorSeal
from server.queries.records.project_list import ProjectList
from server.rollups.fold import RollupFolder
from server.semantic.meaning_search import MeaningSearch
from server.settings import Settings
from server.storage.database import Database
from server.storage.redis_store import RedisStore
from server.upkeep.partition_statistics import PartitionStatistics
from server.upkeep.retention import Retention


@dataclass(kw_only=True)
class Services:
    """The objects that request handlers work with; built once by :func:`server.app.build_services`."""

    settings: Settings
    reads: Database
    """For questions, as the role observatory_api."""
    writes: Database
    """For ingest and other changes, as the role observatory_api."""
    worker: Database
    """For background work, as the role observatory_worker, which sees every project."""
    redis: RedisStore
    bodies: FairQueue
    """Bytes of request bodies that are held in memory."""
    answers: FairQueue
    """Bytes of large answers that wait for slow clients."""
    projects: ProjectList
    cursors: CursorSeal
    """Makes and opens the cursors of paged answers."""
    cache: ResultCache
    """Cached answers of readers."""
    freshness: Freshness
    """Receives every commit, and makes cached answers stale."""
    access: AccessGate
    """Credentials, limits, audit."""
    ingestion: Ingestion
    """From the body of an OTLP request to committed spans."""
    folder: RollupFolder
    """Folds rollup deltas in the background, once a server has started it."""
    retention: Retention
    """Makes partitions ahead and drops old ones, once a server has started it."""
    statistics: PartitionStatistics
    """Analyzes young partitions for the planner, once a server has started it."""
    exports: Exports
    """Exports: streams and jobs that write lists into files."""
    meaning: MeaningSearch
    """Search by meaning."""
    live: LiveTail
    """Live streams of spans as they are stored."""
    draining: bool = field(default=False)
    """True once the process was told to stop; /ready reports it."""


def services_of(request: Request) -> Services:
    """Return the services of the app that handles ``request``."""
    services: Services = request.app.ctx.services
    return services
