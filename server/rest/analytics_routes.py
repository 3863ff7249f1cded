"""``/api/v1/analytics``: costs, performance, quality, models and recommendations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidParameter
from server.http.envelope import success
from server.http.guard import requires
from server.reports.analytics_report import (
    FEWEST_COMPARED,
    MOST_COMPARED,
    Width,
    compare_models,
    report_costs,
    report_models,
    report_performance,
    report_quality,
)
from server.reports.optimization_report import recommend
from server.reports.report_window import ReportSource, ReportWindow
from server.rest.report_request import ANALYTICS_RANGE, ReportRequest

analytics = Blueprint("analytics", url_prefix="/api/v1/analytics")

OverTime = Callable[[ReportSource, ReportWindow, Width], Awaitable[dict[str, Any]]]


async def _over_time(request: Request, report: OverTime) -> HTTPResponse:
    asked = ReportRequest(request, default_range=ANALYTICS_RANGE)
    width = asked.interval()
    window = asked.window()
    source = await asked.source()
    data = await report(source, window, width)
    return success(request, data, meta_fields=report_meta(window, source))


def report_meta(window: ReportWindow, source: ReportSource) -> Mapping[str, Any]:
    """Return the facts about an answer: its range and its sources."""
    return {"from": window.start, "to": window.end, "time_zone": window.time_zone, **source.told()}


@analytics.get("/costs", name="costs")
@requires("costs:read", cost=2)
async def show_costs(request: Request) -> HTTPResponse:
    """Return costs over time, by provider, model and user."""
    return await _over_time(request, report_costs)


@analytics.get("/performance", name="performance")
@requires("metrics:read", cost=2)
async def show_performance(request: Request) -> HTTPResponse:
    """Return latency percentiles, throughput and time to the first token."""
    return await _over_time(request, report_performance)


@analytics.get("/quality", name="quality")
@requires("metrics:read", cost=2)
async def show_quality(request: Request) -> HTTPResponse:
    """Return errors, finish reasons and scores."""
    return await _over_time(request, report_quality)


@analytics.get("/models", name="models")
@requires("costs:read", cost=2)
async def show_models(request: Request) -> HTTPResponse:
    """Return all models with their calls, errors, latency, tokens and cost."""
    asked = ReportRequest(request, default_range=ANALYTICS_RANGE)
    limit = asked.params.integer("limit", default=50, low=1, high=200)
    window = asked.window()
    source = await asked.source()
    rows = await report_models(source, window, limit=limit)
    return success(request, rows, meta_fields=report_meta(window, source))


@analytics.get("/models/compare", name="models_compare")
@requires("costs:read", cost=2)
async def show_comparison(request: Request) -> HTTPResponse:
    """Compare two to ten models side by side: ``models=a,b``."""
    asked = ReportRequest(request, default_range=ANALYTICS_RANGE)
    models = list(asked.params.texts("models", most=MOST_COMPARED))
    if len(models) < FEWEST_COMPARED:
        raise InvalidParameter.named("models", f"name {FEWEST_COMPARED} to {MOST_COMPARED} models: models=a,b")
    window = asked.window()
    source = await asked.source()
    data = await compare_models(source, window, models)
    return success(request, data, meta_fields=report_meta(window, source))


@analytics.get("/optimization", name="optimization")
@requires("costs:read", cost=5)
async def show_recommendations(request: Request) -> HTTPResponse:
    """Return recommendations computed from the data, each with its evidence."""
    asked = ReportRequest(request, default_range=ANALYTICS_RANGE)
    window = asked.window()
    source = await asked.source()
    data = await recommend(source, window)
    return success(request, data, meta_fields=report_meta(window, source))
