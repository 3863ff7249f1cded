"""``/grafana``: the routes of the JSON data source (simpod-json-datasource) and its predecessors.

Errors are rendered by :mod:`server.http.error_responses` in the form that Grafana shows. Everything is read-only:
whoever may query the data source can call any path under its address with its credential.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sanic import Blueprint, HTTPResponse, Request

from datasource.json.builder_options import as_options, describe_targets, fixed_options, tag_keys
from datasource.json.panel_engine import panels_of
from datasource.json.variables import ValuesQuestion, read_variable, values_question
from datasource.panel_catalog import VALUES_TARGET
from datasource.panels.panel_request import parse_filters, parse_panel_request, parse_range, require_object
from datasource.panels.payload_values import parse_text
from datasource.panels.target_question import find_target, question_of
from server.errors import InvalidBody, InvalidParameter, PayloadTooLarge
from server.http.envelope import json_response
from server.http.guard import requires
from server.http.json_body import parse_object
from server.queries.filters.time_range import BoundedRange
from server.text.json_text import API_VERSION

grafana = Blueprint("grafana", url_prefix="/grafana")

MAX_BODY_BYTES: Final = 1024 * 1024
DEFAULT_RANGE: Final = timedelta(days=7)
"""The time range of menus that Grafana opens without sending one."""


@grafana.get("/", name="health", strict_slashes=False)
@requires("metrics:read")
async def health(request: Request) -> HTTPResponse:
    """Answer "Save & test": 200 if the credential is good and the database answers."""
    await panels_of(request).check()
    return json_response({"status": "ok", "version": API_VERSION})


@grafana.post("/metrics", name="targets")
@requires("metrics:read")
async def list_targets(request: Request) -> HTTPResponse:
    """Return the targets with their payload fields, for the query builder."""
    body = _read_body(request)
    payload = body.get("payload")
    chosen = body.get("metric")
    return json_response(describe_targets(str(chosen or ""), payload if isinstance(payload, dict) else {}))


@grafana.post("/search", name="search")
@requires("metrics:read")
async def search(request: Request) -> HTTPResponse:
    """Return the targets in the form of SimpleJSON front ends: ``{text, value}``."""
    wanted = str(_read_body(request).get("target") or "").lower()
    entries = [{"text": item["label"], "value": item["value"]} for item in describe_targets("", {})]
    return json_response([item for item in entries if wanted in item["value"] or wanted in item["text"].lower()])


@grafana.post("/metric-payload-options", name="payload_options")
@requires("metrics:read")
async def list_payload_options(request: Request) -> HTTPResponse:
    """List options of one payload field, narrowed by the rest of the payload."""
    body = _read_body(request)
    definition = find_target(str(body.get("metric") or ""))
    item = definition.field_named(str(body.get("name") or ""))
    if item is None:
        raise InvalidParameter.named("name", f"{definition.name} has no such payload field")
    payload = body.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    fixed = fixed_options(item, payload)
    if fixed is not None:
        return json_response(fixed)
    if not item.source:
        return json_response([])
    # The builder also sends settings of the target itself, and variables that are not replaced yet.
    narrowing = {key: value for key, value in payload.items() if _is_usable(key, value)}
    field = item.source.removeprefix("values:")
    asked = values_question(field, narrowing, _range_of(body), escaped=True)
    return json_response(as_options(await _values(request, asked)))


@grafana.post("/query", name="query")
@requires("metrics:read")
async def query(request: Request) -> HTTPResponse:
    """Answer the targets of one panel, or the one of an annotation."""
    asked = parse_panel_request(_read_body(request))
    answer = await panels_of(request).answer(asked, request.ctx.principal)
    return HTTPResponse(answer, content_type="application/json")


@grafana.post("/annotations", name="annotations")
@requires("metrics:read")
async def legacy_annotations(request: Request) -> HTTPResponse:
    """Answer SimpleJSON's annotation call; ``annotation.query`` holds the name of a target or ``{"target",
    "payload"}``.
    """
    body = _read_body(request)
    annotation = require_object(body.get("annotation"), "/annotation")
    name, payload = _legacy_query(annotation.get("query"))
    definition = find_target(name or "annotations.releases")
    if definition.family != "annotations":
        raise InvalidBody.at("/annotation/query", "must name a target that starts with annotations.")
    question = question_of(definition, payload, time_range=_range_of(body))
    frames = orjson.loads(await panels_of(request).answer_question(question, request.ctx.principal))
    keys = ("time", "timeEnd", "title", "text", "tags", "id")
    rows = zip(*frames[0]["data"]["values"], strict=True)
    return json_response([{"annotation": annotation, **dict(zip(keys, row, strict=True))} for row in rows])


@grafana.post("/variable", name="variable")
@requires("metrics:read")
async def variable(request: Request) -> HTTPResponse:
    """List options of a dashboard variable: always texts, since numbers break the plugin's All."""
    body = _read_body(request)
    payload = body.get("payload")
    payload = {"target": payload} if isinstance(payload, str) else require_object(payload, "/payload")
    asked = read_variable(payload, _range_of(body))
    return json_response([{"__text": value, "__value": value} for value, _ in await _values(request, asked)])


@grafana.post("/tag-keys", name="tag_keys")
@requires("metrics:read")
async def list_tag_keys(request: Request) -> HTTPResponse:
    """Return the fields of ad hoc filters."""
    _read_body(request)
    return json_response(tag_keys(request.ctx.principal.may_read_content))


@grafana.post("/tag-values", name="tag_values")
@requires("metrics:read")
async def list_tag_values(request: Request) -> HTTPResponse:
    """Return the values of one field under the other ad hoc filters."""
    body = _read_body(request)
    key = parse_text("key", body.get("key"))
    if key is None:
        raise InvalidParameter.named("key", "must name the field whose values to return")
    asked = values_question(key, {}, _range_of(body), filters=parse_filters(body))
    return json_response([{"text": value, "value": value} for value, _ in await _values(request, asked)])


async def _values(request: Request, asked: ValuesQuestion) -> list[tuple[str, int | None]]:
    return await panels_of(request).values(asked, request.ctx.principal)


def _read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of the body, whatever its content type; an empty body is an empty object."""
    if len(request.body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The body of a data source request is limited to {MAX_BODY_BYTES} bytes.")
    return parse_object(request.body) if request.body.strip() else {}


def _range_of(body: dict[str, Any]) -> BoundedRange:
    """Return ``range`` (variables) or ``timeRange`` (filters); the last seven days if neither is sent."""
    for key in ("range", "timeRange"):
        if body.get(key) is not None:
            return parse_range(body[key], f"/{key}")
    now = datetime.now(UTC).replace(microsecond=0)
    return BoundedRange(now - DEFAULT_RANGE, now)


def _is_usable(key: str, value: Any) -> bool:
    if VALUES_TARGET.field_named(key) is None:
        return False
    return not (isinstance(value, str) and value.startswith(("$", "[[")))


def _legacy_query(raw: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        try:
            raw = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise InvalidBody.at("/annotation/query", "is not valid JSON") from None
    if isinstance(raw, dict):
        payload = raw.get("payload") or {}
        return str(raw.get("target") or ""), require_object(payload, "/annotation/query/payload")
    return str(raw or ""), {}
