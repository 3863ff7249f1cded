"""``GET /api/v1/export/traces``: every row of a list question as one file, streamed at the client's pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from sanic import Blueprint, Request

from server.errors import ApiError
from server.export.export_answer import file_name, media_type
from server.export.export_jobs import HEARTBEAT_EVERY
from server.export.export_run import ExportRun, Piece
from server.export.export_store import Export, ExportStore, Part, new_export
from server.export.pages import database_now
from server.fairness.party import current_party
from server.http.audit_trail import audit_event
from server.http.file_stream import FileStream
from server.http.guard import requires, row_scope
from server.http.request_params import RequestParams
from server.http.services import Services, services_of
from server.http.standing import check_still_seen
from server.periodic_task import PeriodicTask
from server.rest.export_request import (
    ExportRequest,
    Resumption,
    export_from_params,
    open_resumption,
    options_of,
    owner_of,
)
from server.storage.row_scope import RowScope
from server.telemetry.observations import ExportFinished, observe

exports = Blueprint("exports", url_prefix="/api/v1/export")

STREAM_COST: Final = 10
"""Tokens of the rate limit that an export takes, however large it is."""
PATIENCE_SECONDS: Final = 60.0
"""Seconds that a stream waits for its project's share of the database and the threads."""
NEEDED: Final = ("exports:create", "traces:read")
STREAM_KEPT: Final = timedelta(hours=24)
"""The record of a stream is kept as long as a cursor is valid."""


@exports.get("/traces", name="stream")
@requires("exports:create", cost=STREAM_COST, long_lived=True)
async def export_traces(request: Request) -> None:
    """Stream every span (or whole trace) that matches, sorted by time.

    The connection is cut when the export cannot be finished; `GET /api/v1/exports/{export_id}` reports how far it got
    and the `after` to continue with. The id is in the header `X-Export-Id`.
    """
    services, principal = services_of(request), request.ctx.principal
    principal.require("traces:read")
    asked = export_from_params(RequestParams.of(request))
    party = current_party.get()
    current_party.set(replace(party, patience=PATIENCE_SECONDS))  # other work of the project does not cut an export
    with services.exports.hold(principal):
        resumption = open_resumption(request, asked)
        scope = await row_scope(request, asked.list_request.projects)
        export, run = await _start(request, asked, resumption, scope)
        pieces = run.pieces()
        # The first page is read before the answer starts, so that a fault of the question is still an error like any
        # other.
        first = await anext(pieces)
        await services.exports.store.add(export)
        await services.access.audit.record(
            audit_event(
                request,
                "export.create",
                projects=scope.projects,
                target_type="export",
                target_id=export.export_id,
                detail={"kind": "stream", "format": export.format, "projects": list(scope.projects)},
            )
        )
        await _send(request, services, export, run, first, pieces)


async def _start(
    request: Request, asked: ExportRequest, resumption: Resumption | None, scope: RowScope
) -> tuple[Export, ExportRun]:
    services = services_of(request)
    cut = await database_now(services.reads) if resumption is None else resumption.cut
    question = asked.question(cut)
    options = options_of(asked, resumption)
    export = new_export(
        question,
        cut,
        STREAM_KEPT,
        kind="stream",
        state="running",
        owner=owner_of(request),
        created_by=request.ctx.principal.subject,
        projects=scope.projects,
        may_read_content=scope.may_read_content,
        format=asked.format,
        compression=options.compression,
        options={
            "guard": options.guard,
            "trailer": options.trailer,
            "requested_projects": list(asked.list_request.projects),
        },
        rows_before=options.rows_before,
    )
    if resumption is not None:
        question = replace(question, position=resumption.position)
    return export, ExportRun(services.exports.reads, scope, question, cut, asked.format, options)


async def _send(
    request: Request, services: Services, export: Export, run: ExportRun, first: Piece, rest: AsyncIterator[Piece]
) -> None:
    stream = FileStream(request, check=partial(check_still_seen, request, NEEDED, export.scope))
    store = services.exports.store
    await stream.begin(
        media_type(export),
        {
            "Content-Disposition": f'attachment; filename="{file_name(export)}"',
            "X-Export-Id": export.export_id,
            "Link": f'</api/v1/exports/{export.export_id}>; rel="describedby"',
        },
    )
    if request.method == "HEAD":
        await _finish(store, export, run, "cancelled", None)
        return
    problem: str | None = None
    # A slow client may take minutes for one page. Without a heartbeat its export would count as lost.
    heartbeat = PeriodicTask("export heartbeat", lambda: store.beat(export.export_id), pause=HEARTBEAT_EVERY)
    heartbeat.start()
    try:
        number = 0
        async for piece in _chained(first, rest):
            await stream.send(piece.data)
            number += 1
            if not await _note(store, export, run, piece, number):
                problem = "cancelled"
                break
    except ApiError as error:
        problem = error.code
    except TimeoutError:
        problem = "client_stalled"
    except asyncio.CancelledError:
        stream.abort()
        services.exports.later(_finish(store, export, run, "failed", "client_gone"))
        raise
    except BaseException:
        stream.abort()
        services.exports.later(_finish(store, export, run, "failed", "internal_error"))
        raise
    finally:
        await heartbeat.stop()
    # Before the connection is cut, which ends this task.
    await _finish(store, export, run, "complete" if problem is None else "failed", problem)
    if problem is not None:
        stream.abort()


async def _note(store: ExportStore, export: Export, run: ExportRun, piece: Piece, number: int) -> bool:
    """Store a place from which the export may continue; return False if it was cancelled. A failure costs only that
    place."""
    part = Part(number=number, row_count=piece.rows - export.rows_before, byte_count=run.size, position=piece.position)
    try:
        return await store.advance(export.export_id, part, run.hidden_fields)
    except ApiError:
        return True


async def _finish(store: ExportStore, export: Export, run: ExportRun, state: str, problem: str | None) -> None:
    observe(
        ExportFinished(
            export_id=export.export_id,
            kind=export.kind,
            format=export.format,
            state=state,
            rows=run.rows - export.rows_before,
            size=run.size,
            problem=problem or "",
        )
    )
    try:
        await store.finish(
            export.export_id,
            state,
            rows=run.rows - export.rows_before,
            size=run.size,
            sha256=run.sha256 if state == "complete" else None,
            problem=problem,
        )
    except ApiError:
        return  # its heartbeat ends, so upkeep marks it as failed


async def _chained(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    yield first
    async for piece in rest:
        yield piece
