"""Tempo's metrics API: TraceQL with a function such as ``| rate() by (resource.service.name)``."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sanic import Blueprint, HTTPResponse, Request

from datasource.tempo.request_values import moment_ms, step_ms, whole
from datasource.tempo.span_metrics import Exemplar, SpanSeries, check_size, read_exemplars, read_metric
from datasource.tempo.traceql import parse_query
from server.errors import InvalidParameter
from server.fairness.off_loop import off_loop
from server.http.envelope import json_response
from server.http.guard import requires, row_scope
from server.http.services import services_of
from server.queries.filters.time_range import TimeRange

tempo_metrics = Blueprint("tempo_metrics", url_prefix="/tempo/api/metrics")

MOST_POINTS: Final = 11_000
_SERIES_WEIGHT: Final = 20
"""Cost of writing the labels of a series, in values."""
_HOUR_MS: Final = 3_600_000
_STEPS: Final = (1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 21_600_000, 86_400_000)
_FEW_POINTS: Final = 120


@tempo_metrics.get("/query_range", name="range")
@requires("metrics:read", cost=5, for_panels=True)
async def query_range(request: Request) -> HTTPResponse:
    """Return series over time."""
    start, end = _window(request)
    step = step_ms(request, "step") or _fitting_step(end - start)
    if (end - start) // step > MOST_POINTS:
        raise InvalidParameter.named("step", f"more than {MOST_POINTS} points: choose a wider step")
    query = parse_query(_query(request))
    scope, database = await row_scope(request), services_of(request).reads
    # As Tempo does: points at multiples of the step, each for the step before it.
    first = start // step * step + step
    times = np.arange(first, max(-(-end // step) * step, first) + 1, step, dtype=np.int64)
    wanted = whole(request, "exemplars", 0)
    series = await read_metric(database, scope, query, times, step)
    check_size(len(series), len(times))
    examples: list[Exemplar] = []
    if wanted:
        window = TimeRange(_moment(int(times[0]) - step), _moment(int(times[-1])))
        examples = await read_exemplars(database, scope, query, window, wanted)
    return await off_loop(
        len(series) * (_SERIES_WEIGHT + len(times) + len(examples)),
        lambda: json_response({"series": [_ranged(item, times, examples) for item in series], "metrics": {}}),
    )


@tempo_metrics.get("/query", name="instant")
@requires("metrics:read", cost=5, for_panels=True)
async def query_instant(request: Request) -> HTTPResponse:
    """Return one value a series over the whole range."""
    start, end = _window(request)
    query = parse_query(_query(request))
    times = np.array([end], dtype=np.int64)
    series = await read_metric(services_of(request).reads, await row_scope(request), query, times, end - start)
    check_size(len(series), _SERIES_WEIGHT)

    def rendered() -> HTTPResponse:
        found = [
            {"labels": _labels(item), "value": float(item.values[0])}
            for item in series
            if not math.isnan(item.values[0])
        ]
        return json_response({"series": found, "metrics": {}})

    return await off_loop(len(series) * _SERIES_WEIGHT, rendered)


def _query(request: Request) -> str:
    return request.args.get("q") or request.args.get("query") or ""


def _window(request: Request) -> tuple[int, int]:
    now = int(datetime.now(UTC).timestamp() * 1000)
    end = moment_ms(request, "end") or now
    since = step_ms(request, "since")
    start = moment_ms(request, "start") or end - (since or _HOUR_MS)
    if end <= start:
        raise InvalidParameter.named("end", "must be later than start")
    return start, end


def _fitting_step(length: int) -> int:
    return next((step for step in _STEPS if length // step <= _FEW_POINTS), _STEPS[-1])


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _ranged(series: SpanSeries, times: Any, exemplars: list[Exemplar]) -> dict[str, Any]:
    samples = [
        {"timestampMs": str(time), "value": value}
        for time, value in zip(times.tolist(), series.values.tolist(), strict=True)
        if not math.isnan(value)
    ]
    own = {name: value for name, value in series.labels.items() if isinstance(value, str)}
    return {
        "labels": _labels(series),
        "samples": samples,
        "exemplars": [
            {
                "labels": [{"key": "trace:id", "value": {"stringValue": item.trace_id}}],
                "value": item.seconds,
                "timestampMs": str(item.time),
            }
            for item in exemplars
            if dict(item.labels) == own
        ],
    }


def _labels(series: SpanSeries) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"stringValue": value} if isinstance(value, str) else {"doubleValue": value}}
        for name, value in series.labels.items()
    ]
