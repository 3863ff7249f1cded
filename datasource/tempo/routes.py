"""Tempo's HTTP API, as far as Grafana's built-in Tempo data source uses it.

Trace by id (protobuf, both versions of the path), TraceQL search over the subset of :mod:`datasource.tempo.traceql`,
names and values of attributes for the search builder. Bodies are strict protobuf-JSON: no unknown key may appear.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from datasource.tempo.format import search_hit, trace_by_id, traces_data
from datasource.tempo.request_values import whole
from datasource.tempo.span_filter import field_name, spanset_filter
from datasource.tempo.spanset_search import search_traces
from datasource.tempo.traceql import Spanset, parse_query
from datasource.traces.attribute_names import INTRINSICS, RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, STATUS_WORDS
from datasource.traces.trace_search import read_whole_trace, refuse_narrowing
from server.errors import ApiError, InvalidParameter
from server.http import error_responses
from server.http.envelope import json_response
from server.http.guard import requires, row_scope
from server.http.path_value import path_value
from server.http.services import services_of
from server.queries.filters.filter_tree import Filter
from server.queries.filters.span_fields import FIELDS, FieldType
from server.queries.filters.time_range import BoundedRange
from server.queries.metrics.facet_reader import FacetQuestion, read_facet

tempo = Blueprint("tempo", url_prefix="/tempo")

SPOKEN_VERSION: Final = "2.7.0"
"""The last version without what is not supported here: ``topk`` and comparisons of metrics."""
PROTOBUF: Final = "application/protobuf"
DEFAULT_TRACES: Final = 20
MOST_TRACES: Final = 200
DEFAULT_SPANS_PER_SET: Final = 3
MOST_VALUES: Final = 500
DEFAULT_LOOKBACK: Final = timedelta(hours=1)
VALUES_LOOKBACK: Final = timedelta(days=1)
OLDER_FILTERS: Final = dict.fromkeys(("tags", "minDuration", "maxDuration"), "write it as TraceQL in q")
_UNLISTED: Final = frozenset(set(FieldType) - {FieldType.KEYWORD, FieldType.BOOLEAN, FieldType.TAGS})
KINDS: Final = ("internal", "server", "client", "producer", "consumer", "unspecified")


@tempo.get("/api/echo", name="echo")
@requires("traces:read", for_panels=True)
async def echo(_: Request) -> HTTPResponse:
    """Answer "Save & test" with the word it expects. It needs the key, or a wrong one would pass the test."""
    return HTTPResponse("echo", content_type="text/plain; charset=utf-8")


@tempo.get("/api/status/buildinfo", name="buildinfo")
@requires("traces:read", for_panels=True)
async def show_build(_: Request) -> HTTPResponse:
    """Return the version of Tempo whose API this is: Grafana chooses by it what its editor offers."""
    return json_response({"version": SPOKEN_VERSION, "revision": "llm-observatory", "branch": "", "buildDate": ""})


@tempo.get("/api/traces/<trace_id:str>", name="trace_v1")
@requires("traces:read", for_panels=True)
async def show_trace_v1(request: Request, trace_id: str) -> HTTPResponse:
    """Return one trace as OTLP ``TracesData``."""
    trace_id = path_value(trace_id, "trace_id")
    found = await read_whole_trace(services_of(request).reads, await row_scope(request), trace_id)
    return HTTPResponse(traces_data(found.rows), content_type=PROTOBUF)


@tempo.get("/api/v2/traces/<trace_id:str>", name="trace_v2")
@requires("traces:read", for_panels=True)
async def show_trace_v2(request: Request, trace_id: str) -> HTTPResponse:
    """Return one trace as ``TraceByIDResponse``."""
    trace_id = path_value(trace_id, "trace_id")
    found = await read_whole_trace(services_of(request).reads, await row_scope(request), trace_id)
    return HTTPResponse(trace_by_id(found.rows), content_type=PROTOBUF)


@tempo.get("/api/search", name="search")
@requires("traces:read", cost=5, for_panels=True)
async def search(request: Request) -> HTTPResponse:
    """Return traces that have a span like the TraceQL in ``q``, newest first."""
    refuse_narrowing(request.args, OLDER_FILTERS)
    query = parse_query(request.args.get("q", ""))
    if query.metric is not None:
        raise InvalidParameter.named("q", f"{query.metric.function}() is a metrics query: ask /api/metrics/query_range")
    limit = max(1, min(whole(request, "limit", DEFAULT_TRACES), MOST_TRACES))
    per_set = max(1, min(whole(request, "spss", DEFAULT_SPANS_PER_SET), 100))
    window = _window(request, DEFAULT_LOOKBACK)
    found = await search_traces(services_of(request).reads, await row_scope(request), query, window, limit)
    hits = [search_hit(item.summary, item.matched, per_set, query.selected) for item in found]
    return json_response({"traces": hits, "metrics": {}})


@tempo.get("/api/v2/search/tags", name="tags_v2")
@requires("traces:read", for_panels=True)
async def show_tags(request: Request) -> HTTPResponse:
    """List names of attributes by scope. From tables, not from spans: the builder asks a dozen times on opening."""
    scopes = {
        "resource": sorted(RESOURCE_ATTRIBUTES),
        "span": sorted(SPAN_ATTRIBUTES),
        "intrinsic": sorted(INTRINSICS),
    }
    wanted = request.args.get("scope", "")
    names = [{"name": name, "tags": tags} for name, tags in scopes.items() if wanted in ("", "none", name)]
    return json_response({"scopes": names})


@tempo.get("/api/search/tags", name="tags_v1")
@requires("traces:read", for_panels=True)
async def show_tag_names(request: Request) -> HTTPResponse:
    """List the same names in the older form."""
    return json_response({"tagNames": sorted({*RESOURCE_ATTRIBUTES, *SPAN_ATTRIBUTES, *INTRINSICS})})


@tempo.get("/api/v2/search/tag/<name:str>/values", name="tag_values_v2")
@requires("traces:read", for_panels=True)
async def show_tag_values(request: Request, name: str) -> HTTPResponse:
    """List values of one attribute (``resource.service.name``, ``status`` …) under the TraceQL in ``q``."""
    name = path_value(name, "name")
    values = await _values(request, name)
    kind = "keyword" if name in ("status", "kind") else "string"
    return json_response({"tagValues": [{"type": kind, "value": value} for value in values]})


@tempo.get("/api/search/tag/<name:str>/values", name="tag_values_v1")
@requires("traces:read", for_panels=True)
async def show_tag_values_v1(request: Request, name: str) -> HTTPResponse:
    """List the same values in the older form."""
    return json_response({"tagValues": await _values(request, path_value(name, "name"))})


async def _values(request: Request, name: str) -> list[str]:
    scope = await row_scope(request)
    if name in ("status", "span:status"):
        return list(STATUS_WORDS)
    if name in ("kind", "span:kind"):
        return list(KINDS)
    window = _window(request, VALUES_LOOKBACK)
    limit = min(whole(request, "limit", MOST_VALUES) or MOST_VALUES, MOST_VALUES)
    tree = _filter(request.args.get("q", ""))
    field = _field(name)
    if field_type(field) in _UNLISTED:
        return []  # a menu of durations or ids helps nobody
    if is_content(field) and not scope.may_read_content:
        return []
    question = FacetQuestion(field=field, start=window.start, end=window.end, filter=tree, limit=limit)
    answer = await read_facet(services_of(request).reads, scope, question)
    return sorted(str(item["value"]) for item in answer.values if item["value"] is not None)


def field_type(name: str) -> FieldType:
    """Return the type of a field; attributes are keywords."""
    known = FIELDS.get(name)
    return FieldType.KEYWORD if known is None else known.type


def is_content(name: str) -> bool:
    """Return whether the values of a field reveal prompts and answers."""
    known = FIELDS.get(name)
    return known.is_content if known is not None else name.startswith("attribute.")


def _field(name: str) -> str:
    scope, _, attribute = name.partition(".")
    is_known = name in INTRINSICS or (attribute and scope in ("resource", "span", ""))
    return field_name(name if is_known else f".{name}")


def _filter(query: str) -> Filter | None:
    """Return the filter of the values' own query, of which Grafana sends the part that is written so far."""
    spans = parse_query(query).spans
    return spanset_filter(spans) if isinstance(spans, Spanset) else None


def _window(request: Request, lookback: timedelta) -> BoundedRange:
    now = int(datetime.now(UTC).timestamp()) + 1
    end = whole(request, "end", 0) or now
    start = whole(request, "start", 0) or end - int(lookback.total_seconds())
    if end <= start:
        raise InvalidParameter.named("end", "must be later than start")
    try:
        return BoundedRange(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidParameter.named("start", "no such time") from error


def tempo_error(request: Request, error: ApiError) -> HTTPResponse:
    """Return errors in Tempo's form: a line of text, which Grafana shows."""
    headers: dict[str, Any] = dict(error.headers)
    return HTTPResponse(error.detail, status=error.status, headers=headers, content_type="text/plain; charset=utf-8")


error_responses.RENDERERS["/tempo"] = tempo_error
