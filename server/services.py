"""The long-lived objects of one server process."""

from __future__ import annotations

from dataclasses import dataclass, field

from sanic import Request

from datasource.panel_engine import PanelEngine
from server.access.gate import AccessGate
from server.database import Database
from server.ingest.ingestion import Ingestion
from server.queries.cursor import CursorSeal
from server.queries.freshness import Freshness
from server.queries.project_list import ProjectList
from server.queries.result_cache import ResultCache
from server.queries.retention import RetentionTask
from server.queries.rollup import RollupFolder
from server.redis_store import RedisStore
from server.settings import Settings


@dataclass(kw_only=True)
class Services:
    """What request handlers work with; built once by :func:`server.app.build_services`."""

    settings: Settings
    reads: Database
    """Questions, as role observatory_api."""
    writes: Database
    """Ingest and other changes, as role observatory_api."""
    worker: Database
    """Background work, as role observatory_worker: sees every project."""
    redis: RedisStore
    projects: ProjectList
    cursors: CursorSeal
    """Makes and opens the cursors of paged answers."""
    cache: ResultCache
    """Remembered answers of readers."""
    freshness: Freshness
    """Told of every commit; makes remembered answers old."""
    access: AccessGate
    """Credentials, limits, audit."""
    ingestion: Ingestion
    """From the body of an OTLP request to committed spans."""
    panels: PanelEngine
    """Answers the panels, variables and menus of Grafana's JSON data source."""
    folder: RollupFolder
    """Folds rollup deltas in the background, once a server has started it."""
    retention: RetentionTask
    """Makes partitions ahead and drops old ones, once a server has started it."""
    draining: bool = field(default=False)
    """True once the process was told to stop: /ready says so."""


def services_of(request: Request) -> Services:
    """The services of the app that handles ``request``."""
    services: Services = request.app.ctx.services
    return services
