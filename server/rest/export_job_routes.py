"""``/api/v1/exports``: large exports as jobs that write files, and the record of every export of the caller."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.errors import ApiError, ExportExpired, NotFound, TooManyConcurrent
from server.export.export_answer import file_entries, media_type, summary
from server.export.export_run import ExportRun
from server.export.export_store import ExpiredExport, Export, Part, new_export
from server.export.pages import database_now
from server.http.audit_trail import audit_event
from server.http.envelope import success
from server.http.file_stream import FileStream
from server.http.guard import requires, row_scope
from server.http.json_body import read_object
from server.http.path_value import path_value
from server.http.repeatable import repeatable
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.http.standing import check_still_seen
from server.rest.export_request import NOT_TAKEN, export_from_document, owner_of, readable_owners, sealed_resumption
from server.rest.list_request import SEARCH_MEMBERS
from server.storage.row_scope import RowScope
from server.text.instants import format_instant

export_jobs = Blueprint("export_jobs", url_prefix="/api/v1/exports")

JOB_COST: Final = 20
MOST_BYTES: Final = 1 << 62
_NO_SUCH: Final = "You have no such export: it was deleted, was never made, or expired more than 30 days ago."
_FILE_NAME: Final = re.compile(r"part-[0-9]{5}\.[a-z.]{2,20}|manifest\.json", re.ASCII)
JOB_MEMBERS: Final = (
    *(name for name in SEARCH_MEMBERS if name not in NOT_TAKEN),
    "format",
    "compression",
    "guard",
)


@export_jobs.post("", name="create")
@requires("exports:create", cost=JOB_COST)
@repeatable
async def create(request: Request) -> HTTPResponse:
    """Create an export job; the body is a search document with `format`, `compression` and `guard`.

    A server process writes the files in parts; poll the state of the job until it is `complete`.
    """
    services, principal = services_of(request), request.ctx.principal
    principal.require("traces:read")
    RequestParams.of(request).finish()
    asked = export_from_document(read_object(request, dict.fromkeys(JOB_MEMBERS, _anything)))
    scope = await row_scope(request, asked.list_request.projects)
    owner, store = owner_of(request), services.exports.store
    most = services.settings.export_jobs
    cut = await database_now(services.reads)
    question = asked.question(cut)
    ExportRun(services.reads, scope, question, cut, asked.format, asked.options)  # refuses what cannot be written
    export = new_export(
        question,
        cut,
        timedelta(hours=services.settings.export_keep_hours),
        kind="job",
        state="queued",
        owner=owner,
        created_by=principal.subject,
        projects=scope.projects,
        may_read_content=scope.may_read_content,
        format=asked.format,
        compression=asked.options.compression,
        options={
            "guard": asked.options.guard,
            "trailer": False,
            "requested_projects": list(asked.list_request.projects),
        },
    )
    if not await store.add(export, most_open=most):
        raise TooManyConcurrent(
            f"You have {most} export jobs that wait or run, which is the limit.", headers={"Retry-After": "30"}
        )
    await services.access.audit.record(
        audit_event(
            request,
            "export.create",
            projects=scope.projects,
            target_type="export",
            target_id=export.export_id,
            detail={"kind": "job", "format": export.format, "projects": list(scope.projects)},
        )
    )
    location = f"/api/v1/exports/{export.export_id}"
    return success(request, _shown(request, export, ()), status=202, headers={"Location": location})


@export_jobs.get("", name="list")
@requires("exports:create")
async def list_exports(request: Request) -> HTTPResponse:
    """List the caller's exports, streams and jobs, newest first, at most 200. Exports of projects that the caller has
    lost since are left out.
    """
    RequestParams.of(request).finish()
    granted = await row_scope(request)
    newest = await services_of(request).exports.store.newest(readable_owners(request))
    found = [export for export in newest if _may_see(export, granted)]
    return success(request, [summary(export) for export in found], headers={"Cache-Control": "no-store"})


@export_jobs.get("/<export_id:str>", name="read")
@requires("exports:create")
async def read(request: Request, export_id: str) -> HTTPResponse:
    """Return one export: its state, rows, bytes, checksum and files.

    To continue a stream that was cut off, cut your file to `resume_bytes` and append the answer to the same request
    with the `after` of this answer. Give the size of your file as the parameter `bytes` to get the last such place
    within it.
    """
    params = RequestParams.of(request)
    size = params.integer("bytes", default=MOST_BYTES, low=0, high=MOST_BYTES)
    params.finish()
    export, store = await _find(request, export_id), services_of(request).exports.store
    if export.kind == "job":
        return success(request, _shown(request, export, await store.parts(export.export_id)), headers=_UNSTORED)
    return success(
        request, _shown(request, export, (), await store.last_part(export.export_id, size)), headers=_UNSTORED
    )


@export_jobs.delete("/<export_id:str>", name="cancel")
@requires("exports:create")
async def cancel(request: Request, export_id: str) -> HTTPResponse:
    """Cancel an export that waits or runs, and remove the files of a job."""
    services = services_of(request)
    export = await _find(request, export_id)
    cancelled = await services.exports.store.cancel(export.export_id, export.owner)
    if export.kind == "job":
        await services.exports.files.delete(export.export_id)
    event = audit_event(
        request, "export.cancel", projects=export.projects, target_type="export", target_id=export.export_id
    )
    await services.access.audit.record(event)
    return success(request, {"export_id": export.export_id, "cancelled": cancelled}, headers=_UNSTORED)


@export_jobs.get("/<export_id:str>/files/<name:str>", name="file")
@requires("exports:create", cost=5, long_lived=True)
async def download(request: Request, export_id: str, name: str) -> HTTPResponse | None:
    """Download one file of a job, or its `manifest.json`."""
    RequestParams.of(request).finish()
    services = services_of(request)
    export = await _find(request, export_id)
    name = path_value(name, "name")
    if export.kind != "job" or not _FILE_NAME.fullmatch(name):
        raise NotFound("The export has no such file.")
    with services.exports.hold(request.ctx.principal):
        chunks = services.exports.files.read(export.export_id, name)
        first = await anext(chunks, b"")
        stream = FileStream(request, check=partial(check_still_seen, request, ("exports:create",), export.scope))
        content_type = "application/json" if name.endswith(".json") else media_type(export)
        await stream.begin(content_type, {"Content-Disposition": f'attachment; filename="{name}"'})
        if request.method == "HEAD":
            return None
        try:
            await stream.send(first)
            async for chunk in chunks:
                await stream.send(chunk)
        except (OSError, TimeoutError, ApiError):
            stream.abort()
    return None


_UNSTORED: Final = {"Cache-Control": "no-store"}


async def _find(request: Request, export_id: str) -> Export:
    """Return the caller's export. An export of a project that the caller has lost since is hidden.

    Raises NotFound, or ExportExpired to its owner.
    """
    store, owners = services_of(request).exports.store, readable_owners(request)
    export_id = path_value(export_id, "export_id")
    found = await store.read(export_id, owners) or await store.read_expired(export_id, owners)
    if found is None or not _may_see(found, await row_scope(request)):
        raise NotFound(_NO_SUCH)
    if isinstance(found, ExpiredExport):
        raise _expired(found.expired_at)
    if found.has_ended and found.expires_at < datetime.now(UTC):
        raise _expired(found.expires_at)  # its files are removed within a minute
    return found


def _expired(since: datetime) -> ExportExpired:
    return ExportExpired(f"The export expired at {format_instant(since)}, and what was kept of it is removed.")


def _may_see(export: Export | ExpiredExport, granted: RowScope) -> bool:
    """Return whether the caller, with its present rights, may see an export of its own."""
    return set(export.projects) <= set(granted.projects) and granted.may_read_content >= export.may_read_content


def _shown(request: Request, export: Export, parts: Any, last: Part | None = None) -> dict[str, Any]:
    after = None if last is None else sealed_resumption(request, export, last)
    return {
        **summary(export),
        "files": file_entries(parts),
        "after": after,
        "resume_bytes": None if last is None or after is None else last.byte_count,
    }


def _anything(_: Any) -> bool:
    return True
