"""Liveness, readiness and health, for supervisors and load balancers."""

from __future__ import annotations

import asyncio

from sanic import Blueprint, HTTPResponse, Request

from server.errors import ApiError, NotFound
from server.http.envelope import json_response
from server.http.guard import public, public_document
from server.http.services import Services, services_of
from server.schema.migrate import pending_migrations
from server.storage.redis_store import RedisUnavailable
from server.telemetry import prometheus

health = Blueprint("health")
CHECK_SECONDS = 1.0


@health.get("/live", name="live")
@public
async def live(_: Request) -> HTTPResponse:
    """Report whether the event loop answers. This depends on no other service."""
    return json_response({"status": "ok"})


@health.get("/ready", name="ready")
@public
async def ready(request: Request) -> HTTPResponse:
    """Report whether this process should get requests: the database is reachable, the schema is current, and the
    process is not stopping."""
    report = await check(request)
    return json_response(report, status=200 if report["status"] != "unavailable" else 503)


@health.get("/health", name="health")
@public
async def report_health(request: Request) -> HTTPResponse:
    """Report the checks of ``/ready`` for people and monitors, with the state of each dependency."""
    report = await check(request)
    return json_response(report, status=200 if report["status"] != "unavailable" else 503)


@health.get("/metrics", name="metrics")
@public_document
async def show_metrics(request: Request) -> HTTPResponse:
    """Return the server's own metrics for Prometheus. If OBSERVATORY_ADMIN_PORT is set, they are on that port, and this
    address is a 404."""
    if services_of(request).settings.admin_port:
        raise NotFound()
    page: bytes = await request.app.ctx.spared["metrics"].get(_metrics_page)
    return HTTPResponse(page, content_type=prometheus.CONTENT_TYPE)


async def _metrics_page() -> bytes:
    return prometheus.exposition()


async def check(request: Request) -> dict[str, str]:
    """Return the state of each dependency of this process. Redis is optional: without it the state is ``degraded``."""
    services = services_of(request)

    async def states() -> tuple[str, str]:
        return await asyncio.gather(_check_database(services), _check_redis(services))

    database, redis = await request.app.ctx.spared["health"].get(states)
    if services.draining or database != "ok":
        status = "unavailable"
    else:
        status = "ok" if redis in ("ok", "off") else "degraded"
    return {
        "status": status,
        "database": database,
        "redis": redis,
        "draining": "yes" if services.draining else "no",
    }


async def _check_database(services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS), services.reads.plain() as connection:
            pending = await pending_migrations(connection)
    except (ApiError, TimeoutError):
        return "unreachable"
    return "ok" if not pending else "migrations pending"


async def _check_redis(services: Services) -> str:
    if services.redis.redis is None:
        return "off"
    try:
        await services.redis.ask(["PING"])
    except RedisUnavailable:
        return "unreachable"
    return "ok"
