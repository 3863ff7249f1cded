"""``/api/v1/annotations``: remarks about moments, drawn by dashboards (deployments, incidents, experiments)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sanic import Blueprint, HTTPResponse, Request

from server.access.guard import requires, row_scope
from server.errors import InvalidBody, InvalidParameter, NotFound, UnknownParameter
from server.queries.annotation_store import MAX_ROWS, Annotation, add_annotation, delete_annotation, list_annotations
from server.queries.time_range import format_instant, parse_instant
from server.rest.envelope import success
from server.services import services_of

annotations = Blueprint("annotations", url_prefix="/api/v1/annotations")

_BODY_KEYS: Final = frozenset({"project_id", "time", "time_end", "title", "text", "tags"})
_QUERY_KEYS: Final = frozenset({"project_id", "from", "to", "tags", "limit"})
DEFAULT_RANGE: Final = timedelta(days=30)
MAX_TAGS: Final = 20


@annotations.post("/", name="add_annotation", strict_slashes=False)
@requires("annotations:write")
async def add(request: Request) -> HTTPResponse:
    """Add one: ``{"title", "text"?, "time"?, "time_end"?, "tags"?, "project_id"?}``; ``time`` is now when missing.

    ``project_id`` is needed when the credential has several projects.
    """
    body = _read_body(request.body)
    project_id = body.get("project_id")
    scope = await row_scope(request, [project_id] if project_id is not None else [])
    if len(scope.projects) != 1:
        raise InvalidBody.at("/project_id", "is needed: the credential has several projects")
    ts = _instant(body, "time") or datetime.now(UTC)
    end_ts = _instant(body, "time_end")
    if end_ts is not None and end_ts < ts:
        raise InvalidBody.at("/time_end", "must not be before time")
    stored = await add_annotation(
        services_of(request).writes,
        scope.projects[0],
        ts=ts,
        end_ts=end_ts,
        title=_text(body, "title", least=1, most=200),
        text=_text(body, "text", least=0, most=10_000),
        tags=_tags(body.get("tags")),
        created_by=request.ctx.principal.subject,
    )
    return success(request, render(stored), status=201)


@annotations.get("/", name="list_annotations", strict_slashes=False)
@requires("metrics:read")
async def show(request: Request) -> HTTPResponse:
    """Those that overlap ``from``–``to`` (default: 30 days), newest first; ``tags``: any of these."""
    for key in request.args:
        if key not in _QUERY_KEYS:
            raise UnknownParameter(f"There is no parameter {key[:60]!r}.", errors=[{"parameter": key[:60]}])
    now = datetime.now(UTC)
    end = _parameter_instant(request, "to", now) or now
    start = _parameter_instant(request, "from", now) or end - DEFAULT_RANGE
    if start >= end:
        raise InvalidParameter.named("from", "must be before to")
    limit = _limit(request.args.get("limit"))
    scope = await row_scope(request, _values(request, "project_id"))
    found = await list_annotations(
        services_of(request).reads, scope, start, end, tags=_values(request, "tags"), limit=limit
    )
    return success(
        request,
        [render(item) for item in found],
        pagination={"cursor": None, "has_more": len(found) == limit, "limit": limit},
    )


@annotations.delete("/<annotation_id:str>", name="delete_annotation")
@requires("annotations:write")
async def remove(request: Request, annotation_id: str) -> HTTPResponse:
    """Delete one of the caller's projects."""
    scope = await row_scope(request)
    if not await delete_annotation(services_of(request).writes, scope.projects, annotation_id):
        raise NotFound("There is no such annotation.")
    return success(request, {"annotation_id": annotation_id, "deleted": True})


def render(item: Annotation) -> dict[str, Any]:
    """An annotation as a flat row with the same keys always."""
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


def _read_body(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidBody.at("", "is not JSON") from None
    if not isinstance(body, dict):
        raise InvalidBody.at("", "must be a JSON object")
    for key in body:
        if key not in _BODY_KEYS:
            raise InvalidBody.at(f"/{key[:60]}", "is not known")
    project_id = body.get("project_id")
    if project_id is not None and not isinstance(project_id, str):
        raise InvalidBody.at("/project_id", "must be a text")
    return body


def _instant(body: dict[str, Any], key: str) -> datetime | None:
    raw = body.get(key)
    if raw is None:
        return None
    try:
        return parse_instant(raw, now=datetime.now(UTC))
    except ValueError as error:
        raise InvalidBody.at(f"/{key}", str(error)) from None


def _text(body: dict[str, Any], key: str, *, least: int, most: int) -> str:
    value = body.get(key, "")
    if not isinstance(value, str) or not least <= len(value) <= most or "\x00" in value:
        raise InvalidBody.at(f"/{key}", f"must be a text of {least} to {most} characters")
    return value


def _tags(raw: Any) -> list[str]:
    if raw is None:
        return []
    if (
        not isinstance(raw, list)
        or len(raw) > MAX_TAGS
        or not all(isinstance(tag, str) and 1 <= len(tag) <= 100 and "\x00" not in tag for tag in raw)
    ):
        raise InvalidBody.at("/tags", f"must be up to {MAX_TAGS} texts of 1 to 100 characters")
    return raw


def _values(request: Request, key: str) -> list[str]:
    return [part for value in request.args.getlist(key) or [] for part in value.split(",") if part]


def _limit(raw: str | None) -> int:
    if raw is None:
        return 100
    if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw) <= MAX_ROWS:
        raise InvalidParameter.named("limit", f"must be a whole number from 1 to {MAX_ROWS}")
    return int(raw)


def _parameter_instant(request: Request, key: str, now: datetime) -> datetime | None:
    raw = request.args.get(key)
    if raw is None:
        return None
    try:
        return parse_instant(raw, now=now, round_up=key == "to")
    except ValueError as error:
        raise InvalidParameter.named(key, str(error)) from None
