"""GET /api/v1/traces, POST /api/v1/traces/search and QUERY /api/v1/traces: lists of spans and traces.

One question has two spellings: query parameters, or a JSON document (with the method QUERY of RFC 10008, safe and
cacheable, or with POST for clients that do not know it). The same question returns the same rows.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.access.principal import Principal
from server.cache.result_cache import Answer, CacheQuestion
from server.cache.stored_answer import CachedAnswer
from server.errors import PayloadTooLarge
from server.http.conditional import Rendered, rendered, send
from server.http.guard import requires
from server.http.json_body import TYPED_JSON_TYPES, read_object
from server.http.page_cursor import caller_binding, sealed
from server.http.request_params import RequestParams
from server.http.services import Services, services_of
from server.queries.filters.filter_tree import looks_beyond_row
from server.queries.lists.cursor import continuation
from server.queries.lists.list_question import ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.lists.ranking import ranking_of
from server.queries.lists.shown_rows import render_rows
from server.rest.list_memory import KnownList, ListMemory
from server.rest.list_request import SEARCH_MEMBERS, ListRequest, request_from_document, request_from_params
from server.storage.row_scope import RowScope

traces = Blueprint("traces", url_prefix="/api/v1/traces")

LARGEST_SEARCH_BODY: Final = 1 << 20

# Shared by all applications of this process: an entry belongs to one principal object.
_memory: Final = ListMemory()


@traces.get("", name="list")
@requires("traces:read", with_lookup=True)
async def list_traces(request: Request) -> HTTPResponse:
    """List spans (or whole traces) that match all given parameters, newest first by default."""
    known = _memory.find(request.raw_url, request.ctx.principal)
    if known is None or known.existing is not await services_of(request).projects.ids():
        asked = request_from_params(RequestParams.of(request))
        known = await read_list(request, asked, address=request.raw_url)
        _memory.keep(known)
    return await answer(request, known)


@traces.post("/search", name="search")
@requires("traces:read")
async def search_traces(request: Request) -> HTTPResponse:
    """Search with a filter tree; the body is a search document."""
    return await answer(request, await read_list(request, read_search(request)))


@requires("traces:read")
async def query_traces(request: Request) -> HTTPResponse:
    """Search like POST, with the HTTP method made for it (RFC 10008)."""
    return await answer(request, await read_list(request, read_search(request)))


traces.add_route(query_traces, "", methods=["QUERY"], name="query")


def read_search(request: Request) -> ListRequest:
    """Return the search document in the body of ``request``; query parameters are not accepted beside it."""
    if len(request.body) > LARGEST_SEARCH_BODY:
        raise PayloadTooLarge(f"A search document has at most {LARGEST_SEARCH_BODY} bytes.")
    RequestParams.of(request).finish()
    fields = dict.fromkeys(SEARCH_MEMBERS, _anything)
    return request_from_document(read_object(request, fields, media_types=TYPED_JSON_TYPES))


async def read_list(request: Request, asked: ListRequest, *, address: bytes | None = None) -> KnownList:
    """Check everything that can be checked without the rows: cursor, times, projects.

    With ``address`` the answers link to the next page.
    """
    services = services_of(request)
    principal: Principal = request.ctx.principal
    if asked.explain:
        principal.require_explain()
    binding = caller_binding(request, asked.projects)
    opened = None if asked.cursor is None else services.cursors.open(asked.cursor, binding=binding)
    now = datetime.now(UTC) if opened is None else opened.now
    question = asked.question(now)
    if opened is not None:
        opened.check_question(question.identity())
        question = replace(question, position=opened.position)
    existing = await services.projects.ids(principal.expected(asked.projects))
    scope = principal.scope(asked.projects, existing)
    cached = cache_question(asked, scope, question)
    return KnownList(asked, principal, existing, scope, question, now, cached, address)


async def answer(request: Request, known: KnownList) -> HTTPResponse:
    """Answer a list request: rows (cached ones if they are fresh), this caller's cursor, envelope."""
    services = services_of(request)

    def compute() -> Awaitable[Answer]:
        question, now = known.question, known.now
        if known.asked.is_relative and question.position is None:
            now = datetime.now(UTC)
            question = known.asked.question(now)
        return list_answer(services, known.scope, question, now, explain=known.asked.explain)

    # Vectors come in the background, without a word to the cache.
    if known.asked.explain or ranking_of(known.question.filter) is not None:
        found = services.cache.fresh(await compute())
    else:
        found = await services.cache.answer(known.cached, compute, reader=request.ctx.trip)
    return send(request, found, known.rendered(found, lambda: rendered_list(request, known, found)))


def rendered_list(request: Request, known: KnownList, found: CachedAnswer) -> Rendered:
    """Return the parts that are sent with the rows of ``found``: above all, this caller's cursor."""
    shown = sealed(request, found, known.asked.projects)
    headers = {"Accept-Query": "application/json"}
    cursor = (shown.pagination or {})["cursor"]
    if known.address is not None and cursor is not None:
        headers["Link"] = next_link(request, cursor)
    return rendered(shown, headers=headers)


async def list_answer(
    services: Services, scope: RowScope, question: ListQuestion, now: datetime, *, explain: bool = False
) -> Answer:
    """Return the rows for ``question``, in a form that all callers with that scope may share from the cache.

    ``pagination.continuation`` is the place where the list goes on; server/http/page_cursor.py makes it one caller's
    cursor.
    """
    if ranking_of(question.filter) is None:
        page = await list_spans(services.reads, scope, question, explain=explain)
    else:
        page = await services.meaning.page(scope, question, explain=explain)
    pagination: dict[str, Any] = {"continuation": None, "has_more": page.next_position is not None}
    if page.next_position is not None:
        pagination["continuation"] = continuation(page.next_position, question=question.identity(), now=now)
    pagination["limit"] = question.limit
    if page.total is not None:
        pagination |= {"total": page.total.value, "total_relation": page.total.relation}
    meta: dict[str, Any] = {"view": question.view}
    if page.hidden_fields:
        meta["hidden_fields"] = page.hidden_fields
    if page.clipped_fields:
        meta["clipped_fields"] = page.clipped_fields
    if page.meaning is not None:
        meta["meaning"] = page.meaning
    if page.plan is not None:
        meta["explain"] = page.plan
    rows = page.rows if page.meaning is not None else render_rows(page.rows)
    return Answer(rows, pagination, meta, values=sum(map(len, page.rows)))


def cache_question(asked: ListRequest, scope: RowScope, question: ListQuestion) -> CacheQuestion:
    """Return the cache's form of the question: a moving window is the same question a second later."""
    document = question.document()
    is_moving = asked.is_relative and question.position is None
    if is_moving:
        document["from"], document["to"] = asked.raw_window
    # Whole traces continue, scores are added and other spans arrive after a window has ended: such lists are never
    # closed.
    is_settled = question.view == "spans" and not question.include
    if question.filter is not None and looks_beyond_row(question.filter):
        is_settled = False
    return CacheQuestion("list", scope, document, question.window.end if is_settled and not is_moving else None)


def next_link(request: Request, cursor: str) -> str:
    """Return the Link header (RFC 8288) to the next page: this address with the new cursor."""
    pairs = request.raw_url.partition(b"?")[2].decode("ascii", "replace").split("&")
    kept = [pair for pair in pairs if pair and not pair.startswith("cursor=")]
    return f'<{request.path}?{"&".join([*kept, f"cursor={cursor}"])}>; rel="next"'


def _anything(_: Any) -> bool:
    return True
