"""Erasure over HTTP: everything that is stored of one end user."""

from __future__ import annotations

import hashlib

from sanic import Blueprint, HTTPResponse, Request

from server.errors import UserNotFound
from server.http.audit_trail import audit_event
from server.http.envelope import success
from server.http.guard import requires
from server.http.path_value import path_value
from server.http.services import services_of
from server.http.target_project import target_project
from server.ingest.writing.user_erasure import erase_user

erasure = Blueprint("erasure")


@erasure.delete("/api/v1/users/<user_id:str>", name="erase_user")
@requires("traces:delete", cost=10)
async def remove_user(request: Request, user_id: str) -> HTTPResponse:
    """Erase a user: every trace that belongs to it or in which a span names it, its scores and its daily figures.

    Sums and metrics exclude them at once. Sums of days whose spans retention has dropped stay, without the user's name.
    A request works for up to 20 seconds. If ``is_complete`` is false, send it again to continue.
    """
    services, user_id = services_of(request), path_value(user_id, "user_id")
    project_id = await target_project(request, "project_id")
    # Recorded first: a request that breaks off half way has deleted traces all the same. The log outlives the user, so
    # it holds a digest of the id, which can be searched for only by somebody who knows the id.
    digest = hashlib.sha256(f"{project_id}\0{user_id}".encode()).hexdigest()[:32]
    event = audit_event(request, "user.erase", projects=[project_id], target_type="user", target_id=digest)
    await services.access.audit.record(event)
    erased = await erase_user(services.writes, services.freshness, project_id, user_id)
    if not erased.found_something and erased.is_complete:
        raise UserNotFound()
    return success(
        request,
        {
            "user_id": user_id,
            "project_id": project_id,
            "deleted_traces": erased.traces,
            "deleted_spans": erased.spans,
            "deleted_figures": erased.figures,
            "is_complete": erased.is_complete,
        },
    )
