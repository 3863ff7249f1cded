"""Values of a field with counts, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.cache.result_cache import Answer, CacheQuestion
from server.http.conditional import cached_success
from server.http.guard import requires, row_scope
from server.http.path_value import path_value
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.filters.filter_params import filter_from_params
from server.queries.filters.filter_tree import canonical, looks_beyond_row
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import DEFAULT_LIMIT
from server.queries.metrics.facet_reader import LARGEST_LIMIT, FacetQuestion, facet_source, read_facet
from server.rest.trace_detail_routes import explain_wanted
from server.text.instants import format_instant

facets = Blueprint("facets")

DEFAULT_WINDOW: Final = timedelta(days=1)


@facets.get("/api/v1/facets/<field:str>", name="list_facet_values")
@requires("traces:read", with_lookup=True)
async def list_facet_values(request: Request, field: str) -> HTTPResponse:
    """List the values of a field, each with its number of spans, among the spans that match the filters of a list."""
    field = path_value(field, "field")
    params = RequestParams.of(request)
    now = datetime.now(UTC)
    projects = params.texts("project_id")
    window = params.window(now=now)
    prefix, contains = params.text("prefix") or "", params.text("contains") or ""
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=LARGEST_LIMIT)
    tree = filter_from_params(params.filters(), now=now)
    raw_window = (params.text("from"), params.text("to"))
    plans: list[dict[str, Any]] | None = [] if explain_wanted(request, params) else None
    params.finish()
    source = facet_source(field)
    scope = await row_scope(request, projects)
    start, end = _bounds(window, now)
    question = FacetQuestion(
        field=field, start=start, end=end, filter=tree, prefix=prefix, contains=contains, limit=limit
    )

    async def compute() -> Answer:
        found = await read_facet(services_of(request).reads, scope, question, plans=plans)
        meta = {
            "field": source.name,
            "from": format_instant(start),
            "to": format_instant(end),
            "exact": found.is_exact,
            "source": found.source,
            "rows_read": found.rows_read,
            "distinct": found.distinct,
        }
        if plans is not None:
            meta["explain"] = plans
        return Answer(found.values, None, meta)

    cache = services_of(request).cache
    if plans is not None:
        return cached_success(request, cache.fresh(await compute()))
    document = {
        "field": source.name,
        "window": raw_window,
        "filter": tree and canonical(tree),
        "prefix": prefix,
        "contains": contains,
        "limit": limit,
    }
    is_settled = tree is None or not looks_beyond_row(tree)
    cached = CacheQuestion("facet", scope, document, window_end=window.end if is_settled else None)
    answer = await cache.answer(cached, compute, reader=request.ctx.trip)
    return cached_success(request, answer)


def _bounds(window: TimeRange, now: datetime) -> tuple[datetime, datetime]:
    """Return the requested window; the day before its end if it has no start."""
    # Spans may begin slightly ahead of our clock, so an open end is not "now".
    end = window.end or now + timedelta(hours=1)
    return window.start or min(end, now) - DEFAULT_WINDOW, end
