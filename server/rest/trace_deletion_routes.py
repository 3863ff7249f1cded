"""Deletion of one trace over HTTP."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from server.errors import InvalidParameter, TraceNotFound
from server.http.envelope import success
from server.http.guard import audit_event, requires, row_scope
from server.http.request_head import path_value
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.ingest.writing.trace_deletion import delete_trace, projects_with_trace

trace_deletion = Blueprint("trace_deletion", url_prefix="/api/v1")


@trace_deletion.delete("/traces/<trace_id:str>", name="delete_trace")
@requires("traces:delete")
async def remove_trace(request: Request, trace_id: str) -> HTTPResponse:
    """Delete a trace with its scores; sums and metrics are without it at once."""
    services, trace_id = services_of(request), path_value(trace_id, "trace_id").lower()
    project_id = await _project_of_trace(request, trace_id)
    spans = await delete_trace(services.writes, services.freshness, project_id, trace_id)
    if not spans:
        raise TraceNotFound()
    await services.access.audit.record(
        audit_event(request, "trace.delete", target_type="trace", target_id=trace_id, project_id=project_id)
    )
    return success(request, {"trace_id": trace_id, "project_id": project_id, "deleted_spans": spans})


async def _project_of_trace(request: Request, trace_id: str) -> str:
    """Return the caller's one project that holds the trace. Raises TraceNotFound, or InvalidParameter for several."""
    params = RequestParams.of(request)
    projects = params.texts("project_id")
    params.finish()
    found = await projects_with_trace(services_of(request).reads, await row_scope(request, projects), trace_id)
    if not found:
        raise TraceNotFound()
    if len(found) > 1:
        raise InvalidParameter.named("project_id", "several projects have a trace of that id: name one")
    return found[0]
