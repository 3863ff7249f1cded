"""``/api/v1/annotations``: remarks about moments, drawn by dashboards (deployments, incidents, experiments)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.cache.freshness import Touched
from server.errors import InvalidBody, InvalidParameter, NotFound
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import is_text, is_texts, is_whole, read_object
from server.http.repeatable import repeatable
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.records.annotations import (
    MAX_ROWS,
    Annotation,
    add_annotation,
    delete_annotation,
    list_annotations,
)
from server.storage.database import Step
from server.text.instants import format_instant, parse_instant

annotation_log = Blueprint("annotations")

DEFAULT_RANGE: Final = timedelta(days=30)
DEFAULT_LIMIT: Final = 100
MAX_TAGS: Final = 20
LONGEST_TAG: Final = 100
LONGEST_TITLE: Final = 200
LONGEST_TEXT: Final = 10_000


def _is_instant(value: Any) -> bool:
    return is_text(value) or is_whole(value)


FIELDS: Final = {
    "project_id": is_text,
    "time": _is_instant,
    "time_end": _is_instant,
    "title": is_text,
    "text": is_text,
    "tags": is_texts,
}


@annotation_log.post("/api/v1/annotations", name="add_annotation")
@requires("annotations:write")
@repeatable
async def add(request: Request) -> HTTPResponse:
    """Add an annotation. ``time`` defaults to now; with ``time_end`` it covers a range of time.

    ``project_id`` is needed if the credential has several projects.
    """
    body = read_object(request, FIELDS, required=("title",))
    scope = await row_scope(request, [body["project_id"]] if "project_id" in body else [])
    if len(scope.projects) != 1:
        raise InvalidBody.at("/project_id", "is required, because the credential has several projects")
    ts = _instant(body, "time") or datetime.now(UTC)
    end_ts = _instant(body, "time_end")
    if end_ts is not None and end_ts < ts:
        raise InvalidBody.at("/time_end", "must not be before time")
    tags = body.get("tags", [])
    if len(tags) > MAX_TAGS or not all(1 <= len(tag) <= LONGEST_TAG for tag in tags):
        raise InvalidBody.at("/tags", f"must be at most {MAX_TAGS} texts of 1 to {LONGEST_TAG} characters each")
    title, text = _text(body, "title", least=1, most=LONGEST_TITLE), _text(body, "text", least=0, most=LONGEST_TEXT)
    redactor = (await services_of(request).ingestion.projects.of(scope.projects[0])).redactor
    if redactor is not None:
        title, text = redactor.redact_text(title) or "[redacted]", redactor.redact_text(text)
        tags = [redacted for redacted in map(redactor.redact_text, tags) if redacted]
    stored = await add_annotation(
        services_of(request).writes,
        scope.projects[0],
        ts=ts,
        end_ts=end_ts,
        title=title,
        text=text,
        tags=tags,
        created_by=request.ctx.principal.subject,
        note=partial(_noting, request, "annotation.create"),
    )
    await services_of(request).freshness.edited(stored.project_id, stored.ts, stored.end_ts or stored.ts)
    return success(request, render(stored), status=201)


@annotation_log.get("/api/v1/annotations", name="list_annotations")
@requires("metrics:read")
async def show(request: Request) -> HTTPResponse:
    """Return annotations that overlap ``from``–``to`` (default: the last 30 days), newest first; ``tags`` keeps those
    with any of these tags.
    """
    params = RequestParams.of(request)
    now = datetime.now(UTC)
    projects = params.texts("project_id")
    window = params.window(now=now)
    tags = params.texts("tags")
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=MAX_ROWS)
    params.finish()
    end = window.end or now
    start = window.start or end - DEFAULT_RANGE
    if start >= end:
        raise InvalidParameter.named("from", "must be before to")
    scope = await row_scope(request, projects)
    found = await list_annotations(services_of(request).reads, scope, start, end, tags=tags, limit=limit)
    return success(
        request,
        [render(item) for item in found],
        pagination={"cursor": None, "has_more": len(found) == limit, "limit": limit},
    )


@annotation_log.delete("/api/v1/annotations/<annotation_id:str>", name="delete_annotation")
@requires("annotations:write")
async def remove(request: Request, annotation_id: str) -> HTTPResponse:
    """Delete an annotation of one of the caller's projects."""
    scope = await row_scope(request)
    note = partial(_noting, request, "annotation.delete")
    deleted = await delete_annotation(services_of(request).writes, scope.projects, annotation_id, note)
    if deleted is None:
        raise NotFound("There is no such annotation.")
    gone = Touched(deleted.ts, deleted.end_ts or deleted.ts, frozenset())
    await services_of(request).freshness.deleted(deleted.project_id, gone)
    return success(request, {"annotation_id": annotation_id, "deleted": True})


def _noting(request: Request, action: str, item: Annotation) -> Step:
    return noting(request, action, projects=[item.project_id], target_type="annotation", target_id=item.annotation_id)


def render(item: Annotation) -> dict[str, Any]:
    """Return an annotation as a flat row that always has the same keys."""
    return {
        "annotation_id": item.annotation_id,
        "project_id": item.project_id,
        "time": format_instant(item.ts),
        "time_end": format_instant(item.end_ts) if item.end_ts is not None else None,
        "title": item.title,
        "text": item.text,
        "tags": list(item.tags),
        "created_at": format_instant(item.created_at),
        "created_by": item.created_by,
    }


def _instant(body: dict[str, Any], key: str) -> datetime | None:
    if key not in body:
        return None
    try:
        return parse_instant(body[key], now=datetime.now(UTC))
    except ValueError as error:
        raise InvalidBody.at(f"/{key}", str(error)) from None


def _text(body: dict[str, Any], key: str, *, least: int, most: int) -> str:
    value: str = body.get(key, "")
    if not least <= len(value) <= most:
        raise InvalidBody.at(f"/{key}", f"must be {least} to {most} characters long")
    return value
