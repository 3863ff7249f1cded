"""The part of Jaeger's query API that Grafana's built-in Jaeger data source and the Jaeger UI use.

No plugin is needed: Explore, the Traces panel, "trace to …" links and the dependency graph work with it.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from datasource.jaeger.format import envelope, jaeger_trace
from datasource.jaeger.tags import tag_filter
from datasource.traces.trace_search import find_traces, read_whole_trace, refuse_narrowing, spans_of
from server.errors import ApiError, InvalidParameter
from server.http import error_responses
from server.http.envelope import json_response
from server.http.guard import requires, row_scope
from server.http.path_value import path_value
from server.http.services import services_of
from server.queries.filters.filter_tree import Filter, parse_filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.dependency_reader import read_dependencies
from server.queries.lists.service_reader import list_operations, list_services

jaeger = Blueprint("jaeger", url_prefix="/jaeger")

DEFAULT_TRACES: Final = 20
MOST_TRACES: Final = 200
MOST_SPANS: Final = 5000
LONGEST_LOOKBACK: Final = timedelta(days=7)
DEFAULT_LOOKBACK: Final = timedelta(hours=1)
OPERATIONS_SINCE: Final = timedelta(days=7)
ANY_OPERATION: Final = frozenset({"", "all", "All", "undefined"})
OTHER_FILTERS: Final = {"tag": "write tags, a JSON object", "traceID": "ask /api/traces/{id} for one trace"}
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|µs|ms|s|m|h)")
_MILLISECONDS: Final = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


@jaeger.get("/api/services", name="services")
@requires("traces:read", for_panels=True)
async def show_services(request: Request) -> HTTPResponse:
    """List the names of all services; Grafana's "Save & test" uses it too."""
    names = await list_services(services_of(request).reads, await row_scope(request))
    return json_response(envelope(names, total=len(names)))


@jaeger.get("/api/services/<service:str>/operations", name="operations")
@requires("traces:read", for_panels=True)
async def show_operations(request: Request, service: str) -> HTTPResponse:
    """List the names of the latest spans of a service."""
    since = datetime.now(UTC) - OPERATIONS_SINCE
    name = path_value(service, "service")
    names = await list_operations(services_of(request).reads, await row_scope(request), name, since)
    return json_response(envelope(names, total=len(names)))


@jaeger.get("/api/operations", name="operation_list")
@requires("traces:read", for_panels=True)
async def show_operations_with_kind(request: Request) -> HTTPResponse:
    """List the names of the latest spans of ``?service=``, in Jaeger's newer form."""
    service = request.args.get("service", "")
    since = datetime.now(UTC) - OPERATIONS_SINCE
    names = await list_operations(services_of(request).reads, await row_scope(request), service, since)
    return json_response(envelope([{"name": name, "spanKind": ""} for name in names], total=len(names)))


@jaeger.get("/api/traces/<trace_id:str>", name="trace")
@requires("traces:read", for_panels=True)
async def show_trace(request: Request, trace_id: str) -> HTTPResponse:
    """Return one trace with all its spans."""
    trace_id = path_value(trace_id, "trace_id")
    found = await read_whole_trace(services_of(request).reads, await row_scope(request), trace_id)
    warnings = [f"{found.omitted} more spans are not shown"] if found.omitted else []
    return json_response(envelope([jaeger_trace(found.trace_id, found.rows, warnings)], total=1))


@jaeger.get("/api/traces", name="search")
@requires("traces:read", cost=5, for_panels=True)
async def search_traces(request: Request) -> HTTPResponse:
    """Return the newest traces that have a span with the requested service, operation, duration and tags."""
    refuse_narrowing(request.args, OTHER_FILTERS)
    limit = _limit(request)
    window = _window(request)
    wanted = _span_filter(request)
    database, scope = services_of(request).reads, await row_scope(request)
    found = await find_traces(database, scope, wanted, window, limit)
    rows = await spans_of(database, scope, [item.summary["trace_id"] for item in found], None, MOST_SPANS)
    by_trace: dict[str, list[Any]] = {}
    for row in rows:
        by_trace.setdefault(row["trace_id"], []).append(row)
    traces = [jaeger_trace(trace_id, spans) for trace_id, spans in by_trace.items()]
    order = {item.summary["trace_id"]: place for place, item in enumerate(found)}
    traces.sort(key=lambda trace: order[trace["traceID"]])
    return json_response(envelope(traces, total=len(traces), limit=limit))


@jaeger.get("/api/dependencies", name="dependencies")
@requires("traces:read", cost=5, for_panels=True)
async def show_dependencies(request: Request) -> HTTPResponse:
    """Return calls between services: ``endTs`` and ``lookback`` in milliseconds, at most seven days."""
    end_ms = _whole(request, "endTs", int(datetime.now(UTC).timestamp() * 1000))
    lookback = min(_whole(request, "lookback", 86_400_000), int(LONGEST_LOOKBACK / timedelta(milliseconds=1)))
    end = _moment("endTs", end_ms / 1000)
    edges = await read_dependencies(
        services_of(request).reads, await row_scope(request), end - timedelta(milliseconds=lookback), end
    )
    data = [{"parent": edge.parent, "child": edge.child, "callCount": edge.calls} for edge in edges]
    return json_response(envelope(data, total=len(data)))


def _span_filter(request: Request) -> Filter | None:
    leaves: list[dict[str, Any]] = []
    service, operation = request.args.get("service", ""), request.args.get("operation", "")
    if service:
        leaves.append({"field": "service_name", "operator": "eq", "value": service})
    if operation not in ANY_OPERATION:
        leaves.append({"field": "span_name", "operator": "eq", "value": operation})
    for name, operator in (("minDuration", "gte"), ("maxDuration", "lte")):
        text = request.args.get(name, "")
        if text:
            leaves.append({"field": "duration_ms", "operator": operator, "value": _duration(name, text)})
    leaves.extend(_tag_filters(request.args.get("tags", "")))
    return parse_filter({"and": leaves}, pointer="") if leaves else None


def _tag_filters(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        tags = json.loads(text)
    except ValueError as error:
        raise InvalidParameter.named("tags", "expected a JSON object of strings") from error
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise InvalidParameter.named("tags", "expected a JSON object of strings")
    return [tag_filter(name, value) for name, value in tags.items()]


def _duration(name: str, text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter.named(name, "expected a duration such as 100ms or 1.5s")
    return sum(float(number) * _MILLISECONDS[unit] for number, unit in parts)


def _window(request: Request) -> TimeRange:
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    end_us = _whole(request, "end", now_us)
    start_us = _whole(request, "start", end_us - int(DEFAULT_LOOKBACK.total_seconds() * 1e6))
    start, end = _moment("start", start_us / 1e6), _moment("end", end_us / 1e6)
    if end <= start:
        raise InvalidParameter.named("end", "must be later than start")
    return TimeRange(start, end)


def _limit(request: Request) -> int:
    return max(1, min(_whole(request, "limit", DEFAULT_TRACES), MOST_TRACES))


def _whole(request: Request, name: str, default: int) -> int:
    text = request.args.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidParameter.named(name, "expected a whole number")
    return int(text)


def _moment(name: str, seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidParameter.named(name, "is not a time that exists") from error


def jaeger_error(request: Request, error: ApiError) -> HTTPResponse:
    """Return errors in Jaeger's form; Grafana shows the message.

    A refusal is plain text: Grafana reads a JSON body without checking the status, finds no data in it, and its "Save &
    test" would pass with a wrong key.
    """
    if error.status in (401, 403):
        headers = dict(error.headers)
        return HTTPResponse(
            error.detail, status=error.status, headers=headers, content_type="text/plain; charset=utf-8"
        )
    body = envelope(None, errors=[{"code": error.status, "msg": error.detail}])
    return json_response(body, status=error.status, headers=error.headers)


error_responses.RENDERERS["/jaeger"] = jaeger_error
