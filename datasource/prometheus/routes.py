"""``/prometheus/api/v1``: what Grafana's built-in Prometheus data source and other clients of Prometheus call.

Principals, project isolation, scopes and limits are those of REST. Parameters come in the query string or, with POST,
as a form.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import promql_parser
from sanic import Blueprint, HTTPResponse, Request

from datasource.prometheus import series_lists
from datasource.prometheus.answers import body_of, failure, refusal, render_result, success
from datasource.prometheus.exemplars import read_exemplars
from datasource.prometheus.gauges import GAUGES, Gauge
from datasource.prometheus.notices import notices_of
from datasource.prometheus.promql.engine import (
    Question,
    answer,
    instant_question,
    parsed,
    range_question,
    reads_of,
)
from datasource.prometheus.promql.errors import ParseError, PromqlError, TooMuch
from datasource.prometheus.promql.parse import parse_selector
from datasource.prometheus.promql.plan import Read
from datasource.prometheus.promql.syntax import Matcher
from datasource.prometheus.promql.tree_json import tree_json
from datasource.prometheus.promql.values import size_of
from datasource.prometheus.request_values import PrometheusParams, invalid, moment_at
from datasource.prometheus.series_catalog import FAMILIES, SeriesFamily
from datasource.prometheus.store_series import LOOKBACK_MS, StoreSeries
from server.access.principal import Principal
from server.cache.result_cache import Answer, CacheQuestion
from server.errors import QueryTimeout
from server.fairness.off_loop import in_thread, off_loop
from server.http.guard import requires, row_scope
from server.http.path_value import path_value
from server.http.services import services_of

promql = Blueprint("prometheus", url_prefix="/prometheus/api/v1")

DIALECT: Final = "3.0.0"
"""The version of Prometheus whose API and PromQL are followed here."""
MOST_POINTS: Final = 11_000
LONGEST_TIMEOUT_MS: Final = 30_000
DEFAULT_LOOKBACK_MS: Final = 90 * 86_400_000
MOST_SHOWN: Final = 300_000
"""Most samples in an answer; so many are about 10 MB."""
_FEWER: Final = "sum by fewer labels, or choose a shorter range or a wider step"
_CUT: Final = "results truncated due to limit"


@promql.get("/query", name="query")
@promql.post("/query", name="query_form")
@requires("metrics:read", cost=2, for_panels=True)
async def query(request: Request) -> HTTPResponse:
    """Evaluate an expression at one moment."""
    params = PrometheusParams.of(request)
    moment = params.time("time", _now())
    try:
        question = instant_question(params.text("query"), moment)
    except ParseError as error:
        return _unreadable(error, params.text("query"))
    return await _evaluated(request, params, question, is_range=False)


@promql.get("/query_range", name="query_range")
@promql.post("/query_range", name="query_range_form")
@requires("metrics:read", cost=2, for_panels=True)
async def query_range(request: Request) -> HTTPResponse:
    """Evaluate an expression at every step of a range."""
    params = PrometheusParams.of(request)
    start, end, step = params.time("start"), params.time("end"), params.duration("step")
    if end < start:
        raise invalid("end", "end timestamp must not be before start time")
    if step <= 0:
        raise invalid("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
    if (end - start) // step > MOST_POINTS:
        return failure(
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution"
            " (?step=XX)",
            400,
        )
    try:
        question = range_question(params.text("query"), start, end, step)
    except ParseError as error:
        return _unreadable(error, params.text("query"))
    return await _evaluated(request, params, question, is_range=True)


@promql.get("/series", name="series")
@promql.post("/series", name="series_form")
@requires("metrics:read", cost=2, for_panels=True)
async def list_series(request: Request) -> HTTPResponse:
    """Return the label sets of series."""
    params = PrometheusParams.of(request)
    selectors = _selectors(params)
    if not selectors:
        return failure("bad_data", "no match[] parameter provided", 400)
    source, start, end = await _window(request, params)
    found = await series_lists.label_sets(source, selectors, start, end) if start <= end else []
    return await _limited(params, found, lambda kept: [dict(labels) for labels in kept])


@promql.get("/labels", name="labels")
@promql.post("/labels", name="labels_form")
@requires("metrics:read", cost=2, for_panels=True)
async def list_labels(request: Request) -> HTTPResponse:
    """Return the names of labels."""
    params = PrometheusParams.of(request)
    selectors = _selectors(params)
    source, start, end = await _window(request, params)
    return await _limited(params, await series_lists.label_names(source, selectors, start, end) if start <= end else [])


@promql.get("/label/<name:str>/values", name="label_values")
@promql.post("/label/<name:str>/values", name="label_values_form")
@requires("metrics:read", cost=2, for_panels=True)
async def list_label_values(request: Request, name: str) -> HTTPResponse:
    """Return the values of one label. Grafana 13 asks by POST for suggestions of filters, unlike Prometheus."""
    params = PrometheusParams.of(request)
    selectors = _selectors(params)
    source, start, end = await _window(request, params)
    name = path_value(name, "name")
    return await _limited(
        params, await series_lists.label_values(source, name, selectors, start, end) if start <= end else []
    )


@promql.get("/metadata", name="metadata")
@requires("metrics:read")
async def show_metadata(request: Request) -> HTTPResponse:
    """Return type, help and unit of each metric."""
    params = PrometheusParams.of(request)
    principal: Principal = request.ctx.principal
    wanted, limit = params.text("metric"), params.limit()
    params.limit("limit_per_metric")  # each has one entry
    known: dict[str, SeriesFamily | Gauge] = {**FAMILIES, **GAUGES}
    found = {
        name: [{"type": getattr(family, "type", "gauge"), "help": family.help, "unit": family.unit}]
        for name, family in known.items()
        if family.permission in principal.scopes and wanted in ("", name)
    }
    return success(dict(list(found.items())[:limit]) if limit else found)


@promql.get("/status/buildinfo", name="buildinfo")
@requires("metrics:read")
async def show_build(_: Request) -> HTTPResponse:
    """Return the version of Prometheus whose API this one follows, where clients look for it."""
    return success(
        {
            "version": DIALECT,
            "revision": "llm-observatory",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        }
    )


@promql.get("/rules", name="rules")
@requires("metrics:read")
async def list_rules(request: Request) -> HTTPResponse:
    """Return no rules: alerts are Grafana's."""
    kind = PrometheusParams.of(request).text("type")
    if kind not in ("", "alert", "record"):
        raise invalid("type", f'not supported value "{kind[:60]}"')
    return success({"groups": []})


@promql.get("/alerts", name="alerts")
@requires("metrics:read")
async def list_alerts(_: Request) -> HTTPResponse:
    """Return no alerts: they are Grafana's."""
    return success({"alerts": []})


@promql.get("/format_query", name="format_query")
@promql.post("/format_query", name="format_query_form")
@requires("metrics:read")
async def format_query(request: Request) -> HTTPResponse:
    """Return an expression in the standard layout, over several lines if it is long."""
    text = PrometheusParams.of(request).text("query")
    try:
        parsed(text)
    except ParseError as error:
        return _unreadable(error, text)
    return success(promql_parser.parse(text).prettify())


@promql.get("/parse_query", name="parse_query")
@promql.post("/parse_query", name="parse_query_form")
@requires("metrics:read")
async def parse_query(request: Request) -> HTTPResponse:
    """Return the tree of an expression."""
    text = PrometheusParams.of(request).text("query")
    try:
        return success(tree_json(parsed(text)))
    except ParseError as error:
        return _unreadable(error, text)


@promql.get("/query_exemplars", name="query_exemplars")
@promql.post("/query_exemplars", name="query_exemplars_form")
@requires("traces:read", cost=2, for_panels=True)
async def query_exemplars(request: Request) -> HTTPResponse:
    """Return the longest calls behind the histograms of an expression, each with its trace."""
    params = PrometheusParams.of(request)
    text = params.text("query")
    end = params.time("end", _now())
    start = params.time("start", end - DEFAULT_LOOKBACK_MS)
    if end < start:
        raise invalid("end", "end timestamp must not be before start time")
    try:
        expr = parsed(text)
    except ParseError as error:
        return _unreadable(error, text)
    scope = await row_scope(request)
    return success(await read_exemplars(services_of(request).reads, scope, expr, start, max(end, start + 1)))


def _unreadable(error: ParseError, text: str) -> HTTPResponse:
    return refusal(error, f'invalid parameter "query": {error.described(text)}')


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _source(request: Request) -> StoreSeries:
    principal: Principal = request.ctx.principal
    return StoreSeries(services_of(request).reads, await row_scope(request), _now(), principal.scopes)


async def _evaluated(request: Request, params: PrometheusParams, question: Question, *, is_range: bool) -> HTTPResponse:
    timeout = min(params.duration("timeout", LONGEST_TIMEOUT_MS), LONGEST_TIMEOUT_MS)
    limit = params.limit()
    lookback = params.duration("lookback_delta", 0)
    source = replace(await _source(request), lookback=lookback if lookback > 0 else LOOKBACK_MS)
    began = prepared = time.perf_counter()
    try:
        reads = reads_of(question, source)
        source.check_readable(reads)
        source.begin_at(min((int(read.times.min()) - read.range for read in reads), default=source.now))

        prepared = time.perf_counter()

        async def compute() -> Answer:
            result = await answer(question, source, in_thread)
            size = size_of(result.value)
            if size > MOST_SHOWN:
                raise TooMuch(f"the answer would have {size} samples, more than {MOST_SHOWN}: {_FEWER}")
            data, is_cut = await off_loop(size, partial(render_result, result, is_range=is_range, limit=limit))
            warnings, infos = notices_of(question.expr) if data["result"] else ([], [])
            meta = {"warnings": [*warnings, *([_CUT] if is_cut else [])], "infos": [*infos, *source.infos]}
            return Answer(data, meta={**meta, "samples": result.samples, "peak": result.peak}, values=size)

        document = {
            "query": params.text("query"),
            "times": [int(question.times[0]), question.end, len(question.times)],
            "limit": limit,
            "lookback": lookback,
            "range": is_range,
        }
        window_end = moment_at(max(int(question.times[-1]), _last_read(reads)))
        cached = CacheQuestion("prometheus", source.scope, document, window_end=window_end)
        async with asyncio.timeout(max(timeout, 1) / 1000):
            found = await services_of(request).cache.answer(cached, compute)
    except TimeoutError:
        raise QueryTimeout("query timed out in expression evaluation") from None
    except PromqlError as error:
        return refusal(error)
    data = found.data
    if params.text("stats"):
        data = data[:-1] + b',"stats":' + orjson.dumps(_stats(began, prepared, found.meta)) + b"}"
    body = body_of(data, warnings=found.meta.get("warnings", ()), infos=found.meta.get("infos", ()))
    return HTTPResponse(body, content_type="application/json")


def _last_read(reads: Sequence[Read]) -> int:
    return max((int(read.times.max()) for read in reads), default=0)


def _stats(began: float, prepared: float, meta: Mapping[str, Any]) -> dict[str, Any]:
    now = time.perf_counter()
    seconds = now - began
    return {
        "timings": {
            "evalTotalTime": seconds,
            "resultSortTime": 0,
            "queryPreparationTime": prepared - began,
            "innerEvalTime": now - prepared,
            "execQueueTime": 0,
            "execTotalTime": seconds,
        },
        "samples": {"totalQueryableSamples": meta.get("samples", 0), "peakSamples": meta.get("peak", 0)},
    }


def _selectors(params: PrometheusParams) -> list[tuple[Matcher, ...]]:
    found = []
    for text in params.texts("match[]"):
        try:
            found.append(parse_selector(text))
        except ParseError as error:
            raise invalid("match[]", error.described(text)) from error
    return found


async def _window(request: Request, params: PrometheusParams) -> tuple[StoreSeries, int, int]:
    """Return the series, and the range of a list. As in Prometheus a range that ends before its start holds nothing."""
    source = await _source(request)
    end = params.time("end", source.now)
    return source, params.time("start", end - DEFAULT_LOOKBACK_MS), end


async def _limited(
    params: PrometheusParams, found: list[Any], shown: Callable[[list[Any]], list[Any]] = list
) -> HTTPResponse:
    limit = params.limit()
    is_cut = 0 < limit < len(found)
    kept = found[:limit] if is_cut else found
    warnings = [_CUT] if is_cut else ()
    return await off_loop(len(kept) * series_lists.LABELS_WEIGHT, lambda: success(shown(kept), warnings=warnings))
