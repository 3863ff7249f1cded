"""Sessions and users over HTTP: lists with sums, and one of them with its traces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from server.cache.result_cache import Answer, CacheQuestion
from server.http.conditional import cached_success
from server.http.guard import requires, row_scope
from server.http.page_cursor import open_position, sealed, unsealed
from server.http.path_value import path_value
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.lists.list_question import DEFAULT_LIMIT, LARGEST_LIMIT
from server.queries.lists.session_reader import (
    SESSIONS,
    USERS,
    SummaryKind,
    SummaryQuestion,
    list_summaries,
    list_traces_of,
    read_summary,
)
from server.queries.lists.shown_rows import render_row
from server.rest.trace_detail_routes import explain_wanted

sessions = Blueprint("sessions")

ORDERS = ("asc", "desc")


@sessions.get("/api/v1/sessions", name="list_sessions")
@requires("traces:read", with_lookup=True)
async def list_sessions(request: Request) -> HTTPResponse:
    """List sessions with their totals, latest first or by any sum."""
    return await _list(request, SESSIONS)


@sessions.get("/api/v1/sessions/<session_id:str>", name="get_session")
@requires("traces:read", with_lookup=True)
async def get_session(request: Request, session_id: str) -> HTTPResponse:
    """Return one session with its traces, oldest first."""
    return await _detail(request, SESSIONS, path_value(session_id, "session_id"))


@sessions.get("/api/v1/users", name="list_users")
@requires("traces:read", with_lookup=True)
async def list_users(request: Request) -> HTTPResponse:
    """List users with their totals, latest first or by any sum."""
    return await _list(request, USERS)


@sessions.get("/api/v1/users/<user_id:str>", name="get_user")
@requires("traces:read", with_lookup=True)
async def get_user(request: Request, user_id: str) -> HTTPResponse:
    """Return one user with its traces, oldest first."""
    return await _detail(request, USERS, path_value(user_id, "user_id"))


async def _list(request: Request, kind: SummaryKind) -> HTTPResponse:
    params = RequestParams.of(request)
    now = datetime.now(UTC)
    projects = params.texts("project_id")
    window = params.window(now=now)
    names = params.texts(kind.id)
    user_ids = params.texts("user_id") if kind is SESSIONS else ()
    sort_by = params.choice("sort_by", kind.sort_keys, kind.sort_keys[0])
    order = params.choice("sort_order", ORDERS, "desc")
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=LARGEST_LIMIT)
    cursor = params.text("cursor")
    plans: list[dict[str, Any]] | None = [] if explain_wanted(request, params) else None
    asked = {
        "kind": kind.table,
        "from": params.text("from"),
        "to": params.text("to"),
        "names": sorted(names),
        "user_ids": sorted(user_ids),
        "sort": [sort_by, order],
    }
    params.finish()
    scope = await row_scope(request, projects)
    position = open_position(request, cursor, projects, asked, 3)
    question = SummaryQuestion(
        kind=kind,
        window=window,
        names=names,
        user_ids=user_ids,
        sort_by=sort_by,
        descending=order == "desc",
        limit=limit,
        position=position,
    )

    async def compute() -> Answer:
        page = await list_summaries(services_of(request).reads, scope, question, plans=plans)
        rows = [render_row(row) for row in page.rows]
        return Answer(rows, unsealed(page.next_position, asked, limit), _meta(plans))

    # The sums are over whole sessions and users, which may continue after the window: never a closed question.
    cached = CacheQuestion(kind.table, scope, {**asked, "limit": limit, "cursor": cursor})
    return await _send(request, cached, compute, projects, is_fresh=plans is not None)


async def _detail(request: Request, kind: SummaryKind, name: str) -> HTTPResponse:
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    order = params.choice("sort_order", ORDERS, "asc")
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=LARGEST_LIMIT)
    cursor = params.text("cursor")
    plans: list[dict[str, Any]] | None = [] if explain_wanted(request, params) else None
    params.finish()
    scope = await row_scope(request, projects)
    asked = {"kind": kind.table, "name": name, "order": order}
    position = open_position(request, cursor, projects, asked, 2)

    async def compute() -> Answer:
        database = services_of(request).reads
        summary = await read_summary(database, scope, kind, name, plans=plans)
        page = await list_traces_of(
            database, scope, kind, summary, descending=order == "desc", limit=limit, position=position, plans=plans
        )
        traces = [render_row(row) for row in page.rows]
        return Answer(
            {**render_row(summary), "traces": traces}, unsealed(page.next_position, asked, limit), _meta(plans)
        )

    document: dict[str, Any] = {**asked, "limit": limit, "cursor": cursor}
    cached = CacheQuestion(f"{kind.table}:one", scope, document)
    return await _send(request, cached, compute, projects, is_fresh=plans is not None)


async def _send(
    request: Request,
    cached: CacheQuestion,
    compute: Callable[[], Awaitable[Answer]],
    projects: Sequence[str],
    *,
    is_fresh: bool,
) -> HTTPResponse:
    """Return the answer, cached unless ``is_fresh``: plans are those of this very request."""
    cache = services_of(request).cache
    if is_fresh:
        answer = cache.fresh(await compute())
    else:
        answer = await cache.answer(cached, compute, reader=request.ctx.trip)
    return cached_success(request, sealed(request, answer, projects))


def _meta(plans: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {} if plans is None else {"explain": plans}
