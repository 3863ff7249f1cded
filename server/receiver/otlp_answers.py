"""Answers of the OTLP surface, in the encoding of the request.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: a partial success has a count and the reasons, a failure is
a google.rpc.Status. A client repeats a request only after 429, 502, 503 and 504, so these carry Retry-After.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from sanic import HTTPResponse, Request

from server.errors import ApiError

_Answer = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse
METRICS_DROPPED: Final = (
    "only counters of coding agents are kept; set OTEL_METRICS_EXPORTER=none, or send other metrics elsewhere"
)
_NO_NAMES: Final[Mapping[str, Sequence[str]]] = {}

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
LONGEST_MESSAGE: Final = 1024

# google.rpc.Code by HTTP status: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
RPC_CODES: Final = {
    400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 406: 3, 409: 10, 413: 3, 415: 3, 422: 3, 429: 8, 500: 13, 503: 14, 504: 4,
}  # fmt: skip
_RETRYABLE: Final = (429, 502, 503, 504)


def answers_json(request: Request) -> bool:
    """Return whether ``request`` is to be answered in JSON: any request that is not protobuf."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type not in (PROTOBUF, "application/protobuf")


def status_answer(request: Request, error: ApiError) -> HTTPResponse:
    """Return ``error`` as a google.rpc.Status."""
    code = RPC_CODES.get(error.status, 2)
    message = _shortened(error.detail)
    headers = dict(error.headers)
    if error.status in _RETRYABLE:
        headers.setdefault("Retry-After", "2")
    if answers_json(request):
        return HTTPResponse(
            orjson.dumps({"code": code, "message": message}), status=error.status, headers=headers, content_type=JSON
        )
    body = Status(code=code, message=message).SerializeToString()
    return HTTPResponse(body, status=error.status, headers=headers, content_type=PROTOBUF)


def traces_answer(
    request: Request, rejected: Counter[str], span_ids: Mapping[str, Sequence[str]] = _NO_NAMES
) -> HTTPResponse:
    """Answer a request to ``/v1/traces`` with 200; ``rejected`` counts spans by reason, ``span_ids`` names some."""
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected.total()
        answer.partial_success.error_message = rejection_message(rejected, span_ids)
    return _success(request, answer, "rejectedSpans")


def logs_answer(request: Request, rejected: Counter[str]) -> HTTPResponse:
    """Answer a request to ``/v1/logs`` with 200; ``rejected`` counts log records by reason."""
    answer = ExportLogsServiceResponse()
    if rejected:
        answer.partial_success.rejected_log_records = rejected.total()
        answer.partial_success.error_message = rejection_message(rejected)
    return _success(request, answer, "rejectedLogRecords")


def metrics_answer(request: Request, dropped: int) -> HTTPResponse:
    """Answer a request to ``/v1/metrics`` with 200; ``dropped`` is the number of points that no figure counts."""
    answer = ExportMetricsServiceResponse()
    if dropped:
        answer.partial_success.rejected_data_points = dropped
        answer.partial_success.error_message = METRICS_DROPPED
    return _success(request, answer, "rejectedDataPoints")


def rejection_message(rejected: Counter[str], span_ids: Mapping[str, Sequence[str]] = _NO_NAMES) -> str:
    """Return the reasons with counts and the ids of some spans, most frequent first, at most 1 kB; never contents."""
    parts = []
    for reason, count in rejected.most_common():
        names = ", ".join(span_ids.get(reason, ()))
        parts.append(f"{count} × {reason}" + (f" (span {names})" if names else ""))
    return _shortened("; ".join(parts))


def _success(request: Request, answer: _Answer, count_name: str) -> HTTPResponse:
    if not answers_json(request):
        return HTTPResponse(answer.SerializeToString(), content_type=PROTOBUF)
    body: dict[str, Any] = {}
    if answer.HasField("partial_success"):
        # 64-bit numbers are strings in the JSON form of protobuf.
        partial = answer.partial_success
        count = getattr(partial, _snake(count_name))
        body = {"partialSuccess": {count_name: str(count), "errorMessage": partial.error_message}}
    return HTTPResponse(orjson.dumps(body), content_type=JSON)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _shortened(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= LONGEST_MESSAGE:
        return text
    return encoded[: LONGEST_MESSAGE - 3].decode(errors="ignore") + "…"
