"""Answers in the JSON of Prometheus' API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from sanic import HTTPResponse, Request

from datasource.prometheus.promql.engine import Result
from datasource.prometheus.promql.errors import PromqlError
from datasource.prometheus.promql.histograms import buckets_of
from datasource.prometheus.promql.number_format import format_number, format_sample
from datasource.prometheus.promql.values import Histograms, Ints, Labels, Scalar, Vector, Windows
from server.errors import ApiError
from server.http import error_responses
from server.text.json_text import dumps

Json = dict[str, Any]
_JSON: Final = "application/json"
STATUS_OF: Final[Mapping[str, int]] = {"bad_data": 400, "execution": 422, "timeout": 503, "not_found": 404}
_KIND_OF_STATUS: Final[Mapping[int, str]] = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "bad_data",
    413: "bad_data",
    422: "execution",
    429: "too_many_requests",
    503: "unavailable",
    504: "timeout",
}


def body_of(data: bytes, *, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> bytes:
    """Return the envelope around ``data``, which is JSON already."""
    parts = [b'{"status":"success","data":', data]
    if warnings:
        parts += [b',"warnings":', dumps(list(warnings))]
    if infos:
        parts += [b',"infos":', dumps(list(infos))]
    return b"".join((*parts, b"}"))


def success(data: Any, *, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> HTTPResponse:
    """Return an answer of ``data``."""
    return HTTPResponse(body_of(dumps(data), warnings=warnings, infos=infos), content_type=_JSON)


def failure(kind: str, message: str, status: int, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """Return an error of one of Prometheus' types."""
    body = dumps({"status": "error", "errorType": kind, "error": message})
    return HTTPResponse(body, status=status, headers=dict(headers or {}), content_type=_JSON)


def refusal(error: PromqlError, message: str | None = None) -> HTTPResponse:
    """Return a question that cannot be answered."""
    return failure(error.kind, message or str(error), STATUS_OF[error.kind])


def prometheus_error(_: Request, error: ApiError) -> HTTPResponse:
    """Return errors of the server in that form. A time-out is 503, as clients of Prometheus expect."""
    kind = _KIND_OF_STATUS.get(error.status, "internal" if error.status >= 500 else "bad_data")
    return failure(kind, error.detail, 503 if error.status == 504 else error.status, error.headers)


error_responses.RENDERERS["/prometheus"] = prometheus_error


def render_result(result: Result, *, is_range: bool, limit: int = 0) -> tuple[Json, bool]:
    """Return ``{"resultType", "result"}``, and whether ``limit`` (0: none) cut series off."""
    value, times = result.value, result.times
    if isinstance(value, str):
        return {"resultType": "string", "result": [_seconds(times[0]), value]}, False
    if isinstance(value, Scalar) and not is_range:
        return {"resultType": "scalar", "result": [_seconds(times[0]), format_number(value.values[0])]}, False
    if isinstance(value, Scalar):
        value = Vector([()], value.values[None, :], np.ones((1, len(times)), dtype=bool))
    if isinstance(value, Windows):
        kind, rows = "matrix", _window_rows(value)
    elif is_range:
        kind, rows = "matrix", _matrix_rows(value, times)
    else:
        kind, rows = "vector", _vector_rows(value, times)
    is_cut = 0 < limit < len(rows)
    return {"resultType": kind, "result": rows[:limit] if is_cut else rows}, is_cut


def _vector_rows(value: Vector | Histograms, times: Ints) -> list[Json]:
    time = _seconds(times[0])
    rows = [row for row in range(len(value.labels)) if value.present[row, 0]]
    if isinstance(value, Histograms):
        return [{"metric": dict(value.labels[row]), "histogram": [time, _native(value, row, 0)]} for row in rows]
    return [{"metric": dict(value.labels[row]), "value": [time, format_sample(value.values[row, 0])]} for row in rows]


def _matrix_rows(value: Vector | Histograms, times: Ints) -> list[Json]:
    seconds = [_seconds(time) for time in times.tolist()]
    rows = []
    for row in sorted(range(len(value.labels)), key=lambda place: value.labels[place]):
        steps = np.flatnonzero(value.present[row]).tolist()
        if not steps:
            continue
        found: Json = {"metric": dict(value.labels[row])}
        if isinstance(value, Histograms):
            found["histograms"] = [[seconds[step], _native(value, row, step)] for step in steps]
        else:
            numbers = value.values[row].tolist()
            found["values"] = [[seconds[step], format_sample(numbers[step])] for step in steps]
        rows.append(found)
    return rows


def _window_rows(value: Windows) -> list[Json]:
    rows = []
    for series in sorted(value.series, key=lambda item: item.labels):
        (first,), (last,) = value.bounds(series)
        if last > first:
            samples = zip(series.times[first:last].tolist(), series.values[first:last].tolist(), strict=True)
            rows.append(
                {
                    "metric": dict(series.labels),
                    "values": [[_seconds(time), format_sample(number)] for time, number in samples],
                }
            )
    return rows


def _native(value: Histograms, row: int, step: int) -> Json:
    lows, highs, counts = buckets_of(value, row, step)
    return {
        "count": format_sample(float(counts.sum())),
        "sum": format_sample(float(value.sums[row, step])),
        # 0: open on the left, closed on the right.
        "buckets": [
            [0, format_sample(low), format_sample(high), format_sample(count)]
            for low, high, count in zip(lows.tolist(), highs.tolist(), counts.tolist(), strict=True)
        ],
    }


def _seconds(milliseconds: int) -> float | int:
    whole, rest = divmod(int(milliseconds), 1000)
    return int(milliseconds) / 1000 if rest else whole


def render_labels(labels: Labels) -> dict[str, str]:
    """Return a set of labels, ordered by name."""
    return dict(labels)
