"""The audit log over HTTP: for admins, newest first, limited to their projects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sanic import Blueprint, HTTPResponse, Request

from server.access.principal import Principal
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.lists.cursor import continuation
from server.storage.statements import statement
from server.text.instants import parse_instant

audit = Blueprint("audit")

OUTCOMES: Final = ("done", "refused")
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000


@audit.get("/api/v1/audit", name="list_audit")
@requires("audit:read", cost=5)
async def list_audit(request: Request) -> HTTPResponse:
    """List actions and refused requests, newest first.

    Parameters: ``from``, ``to``, ``action``, ``actor``, ``outcome`` (done or refused), ``limit``, ``cursor``. An admin
    of named projects sees the rows about any of these projects. An admin of every project also sees the rows about no
    project, such as those of unknown credentials.
    """
    services, principal = services_of(request), request.ctx.principal
    params = RequestParams.of(request)
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=MAX_LIMIT)
    names = {name: params.text(name) for name in ("action", "actor")}
    names["outcome"] = params.choice("outcome", OUTCOMES, "") or None
    question = {**names, "from": params.text("from"), "to": params.text("to")}
    now = datetime.now(UTC)
    position: tuple[Any, ...] = (None, None)
    sealed = params.text("cursor")
    if sealed is not None:
        opened = services.cursors.open(sealed, binding=_binding(principal))
        opened.check_question(question)
        position, now = opened.position, opened.now
    start = params.read("from", lambda text: parse_instant(text, now=now), None)
    end = params.read("to", lambda text: parse_instant(text, now=now, round_up=True), None)
    params.finish()
    projects = None if principal.sees_every_project else list((await row_scope(request)).projects)
    async with services.reads.plain() as connection:
        rows = await connection.fetch(
            statement("list_audit"), projects, start, end, *names.values(), *position, limit + 1
        )
    page = [{**row, "detail": _readable(orjson.loads(row["detail"]), projects)} for row in rows[:limit]]
    cursor = None
    if len(rows) > limit:
        last = continuation((page[-1]["ts"], page[-1]["audit_id"]), question=question, now=now)
        cursor = services.cursors.seal(last, binding=_binding(principal))
    return success(
        request,
        page,
        pagination={"cursor": cursor, "has_more": cursor is not None, "limit": limit},
        headers={"Cache-Control": "no-store"},
    )


def _readable(detail: dict[str, Any], projects: list[str] | None) -> dict[str, Any]:
    """Return ``detail`` without the projects that the reader may not see."""
    if projects is None or "projects" not in detail:
        return detail
    return {**detail, "projects": [name for name in detail["projects"] if name in projects]}


def _binding(principal: Principal) -> dict[str, Any]:
    return {"subject": principal.subject, "projects": sorted(principal.projects), "route": "audit"}
