"""One trace, and one span of it, over HTTP."""

from __future__ import annotations

from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from server.cache.result_cache import Answer, CacheQuestion
from server.errors import InvalidParameter
from server.http.conditional import cached_success
from server.http.guard import requires, row_scope
from server.http.page_cursor import open_position, sealed, unsealed
from server.http.path_value import path_value
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.lists.list_question import VIEWS, select_fields
from server.queries.lists.shown_rows import Row, render_row
from server.queries.lists.trace_tree import SpanPosition, TraceQuestion, read_span, read_trace
from server.storage.row_scope import RowScope

trace_detail = Blueprint("trace_detail")

LARGEST_PAGE = 1000


@trace_detail.get("/api/v1/traces/<trace_id:str>", name="get_trace")
@requires("traces:read", with_lookup=True)
async def get_trace(request: Request, trace_id: str) -> HTTPResponse:
    """Return one trace: totals, root, scores, and its spans in tree order with depth and placement."""
    trace_id = path_value(trace_id, "trace_id")
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    fields = _fields(params)
    limit = params.integer("limit", default=LARGEST_PAGE, low=1, high=LARGEST_PAGE)
    cursor = params.text("cursor")
    wants_plan = explain_wanted(request, params)
    params.finish()
    scope = await row_scope(request, projects)
    asked = {"trace_id": trace_id, "fields": list(fields)}
    position = open_position(request, cursor, projects, asked, 2)
    after = None if position is None else SpanPosition(*position)
    question = TraceQuestion(trace_id=trace_id, fields=fields, limit=limit, after=after)
    plans: list[dict[str, Any]] | None = [] if wants_plan else None

    async def compute() -> Answer:
        found = await read_trace(services_of(request).reads, scope, question, plans=plans)
        last = None if found.last is None else (found.last.span_id, found.last.ts)
        meta = content_meta(scope, fields) if plans is None else {"explain": plans}
        return Answer(render_trace(found.trace), unsealed(last, asked, limit), meta)

    cached = CacheQuestion("trace", scope, {**asked, "limit": limit, "cursor": cursor}, trace_id=trace_id)
    cache = services_of(request).cache
    if plans is None:
        answer = await cache.answer(cached, compute, reader=request.ctx.trip)
    else:
        answer = cache.fresh(await compute())
    return cached_success(request, sealed(request, answer, projects))


@trace_detail.get("/api/v1/traces/<trace_id:str>/spans/<span_id:str>", name="get_span")
@requires("traces:read", with_lookup=True)
async def get_span(request: Request, trace_id: str, span_id: str) -> HTTPResponse:
    """Return one span with all of its fields and its scores."""
    trace_id, span_id = path_value(trace_id, "trace_id"), path_value(span_id, "span_id")
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    fields = _fields(params)
    params.finish()
    scope = await row_scope(request, projects)

    async def compute() -> Answer:
        span = await read_span(services_of(request).reads, scope, trace_id, span_id, fields)
        return Answer(render_span(span), meta=content_meta(scope, fields))

    cached = CacheQuestion("span", scope, {"span_id": span_id, "fields": list(fields)}, trace_id=trace_id)
    return cached_success(request, await services_of(request).cache.answer(cached, compute, reader=request.ctx.trip))


def render_trace(trace: Row) -> Row:
    """Return a trace in REST's form: times as in lists, in the trace, its spans and its scores."""
    spans = [render_row(span) for span in trace["spans"]]
    return {**render_row(trace), "spans": spans, "scores": [render_row(score) for score in trace["scores"]]}


def render_span(span: Row) -> Row:
    """Return a span with its scores in REST's form."""
    return {**render_row(span), "scores": [render_row(score) for score in span["scores"]]}


def explain_wanted(request: Request, params: RequestParams) -> bool:
    """Return whether the request has ``explain=1``. Raises :class:`InsufficientScope` without the grant ``*``."""
    wanted = params.flag("explain")
    if wanted:
        request.ctx.principal.require_explain()
    return wanted


def content_meta(scope: RowScope, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return ``hidden_fields`` for the meta block, if some were requested that ``scope`` may not read."""
    hidden = [name for name in fields if VIEWS["spans"].fields[name].is_content and not scope.may_read_content]
    return {"hidden_fields": hidden} if hidden else {}


def _fields(params: RequestParams) -> tuple[str, ...]:
    """Return the fields that ``fields`` names; all of them without it."""
    try:
        return select_fields(VIEWS["spans"], params.texts("fields") or ("all",))
    except ValueError as error:
        raise InvalidParameter.named("fields", str(error)) from error
