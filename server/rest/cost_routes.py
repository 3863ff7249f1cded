"""``/api/v1/costs``: summary, attribution, forecast."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidParameter
from server.http.envelope import success
from server.http.guard import requires
from server.reports.cost_report import (
    ATTRIBUTION_DIMENSIONS,
    FORECAST_PERIODS,
    attribute_costs,
    forecast_costs,
    summarize_costs,
)
from server.rest.analytics_routes import report_meta
from server.rest.report_request import COSTS_RANGE, ReportRequest

costs = Blueprint("costs", url_prefix="/api/v1/costs")

MOST_FORECAST_DAYS = 365
DEFAULT_CONFIDENCE = 0.95


@costs.get("/summary", name="summary")
@requires("costs:read", cost=2)
async def show_summary(request: Request) -> HTTPResponse:
    """Return total costs with their change, splits, and daily and weekly trends."""
    asked = ReportRequest(request, default_range=COSTS_RANGE)
    top = asked.params.integer("top", default=10, low=1, high=100)
    window = asked.window()
    source = await asked.source()
    data = await summarize_costs(source, window, top=top)
    return success(request, data, meta_fields=report_meta(window, source))


@costs.get("/attribution", name="attribution")
@requires("costs:read", cost=2)
async def show_attribution(request: Request) -> HTTPResponse:
    """Return the cost of each value of one dimension, and its share of the whole."""
    asked = ReportRequest(request, default_range=COSTS_RANGE)
    dimension = asked.params.text("dimension")
    if dimension is None or dimension not in ATTRIBUTION_DIMENSIONS:
        raise InvalidParameter.named("dimension", f"expected one of {', '.join(ATTRIBUTION_DIMENSIONS)}")
    limit = asked.params.integer("limit", default=100, low=1, high=1000)
    least = asked.number("min_total_cost", low=0, high=1e9)
    window = asked.window()
    source = await asked.source()
    data = await attribute_costs(source, window, dimension, limit=limit, min_cost=least)
    return success(request, data, meta_fields=report_meta(window, source))


@costs.get("/forecast", name="forecast")
@requires("costs:read", cost=5)
async def show_forecast(request: Request) -> HTTPResponse:
    """Forecast the daily cost, with intervals and a measured error."""
    asked = ReportRequest(request, default_range=COSTS_RANGE)
    period = asked.params.choice("period", tuple(FORECAST_PERIODS), "next_month")
    days = asked.params.integer("days", default=FORECAST_PERIODS[period], low=1, high=MOST_FORECAST_DAYS)
    confidence = asked.number("confidence", low=0.5, high=0.999)
    window = asked.window()
    source = await asked.source()
    data = await forecast_costs(source, window, days=days, confidence=confidence or DEFAULT_CONFIDENCE, now=asked.now)
    return success(request, data, meta_fields=report_meta(window, source))
