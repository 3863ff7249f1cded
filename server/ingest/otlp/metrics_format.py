"""Data points of counters in a request to ``/v1/metrics``, in either encoding.

Only sums are read; points of other kinds (gauges, histograms, summaries) are counted. Ids of exemplars are not read, so
the JSON parser of the protobuf library serves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from server.ingest.otlp import protobuf_format
from server.ingest.otlp.compression import decompress
from server.ingest.otlp.decode import payload_encoding
from server.ingest.otlp.json_pieces import Path, load
from server.ingest.otlp.payload import Attributes, DecodeLimits, TooLarge, Unreadable

_METRICS = Path("resourceMetrics", "scopeMetrics", "metrics")
_COSTS_OF_JSON = 4
"""The protobuf library's parser takes so many times as long for a value as ours for spans."""


@dataclass(slots=True)
class CounterPoint:
    """A data point of a sum. Times in nanoseconds since the epoch."""

    name: str
    value: float
    start_ns: int
    time_ns: int
    is_delta: bool
    attributes: Attributes
    """Those of the point before those of its resource."""


@dataclass(slots=True)
class DecodedMetrics:
    """One request to ``/v1/metrics``."""

    points: list[CounterPoint] = field(default_factory=list)
    point_count: int = 0
    """Points of every kind."""
    size: int = 0


def decode_metrics(
    body: bytes, content_type: str, content_encoding: str | None, limits: DecodeLimits
) -> DecodedMetrics:
    """Return the counters of a request. An empty body has none. Raises DecodeError."""
    encoding = payload_encoding(content_type)
    data = decompress(body, content_encoding, limits.max_decoded_bytes)
    found = _from_json(data, limits) if encoding == "json" and data else protobuf_format.metrics(data, limits)
    result = DecodedMetrics(size=len(data))
    for resource, metric in found:
        result.point_count += _point_count(metric)
        if result.point_count > limits.max_spans:
            raise TooLarge(f"the request has more than {limits.max_spans} data points")
        result.points.extend(_points(metric, _attributes(resource.attributes)))
    return result


def _from_json(data: bytes, limits: DecodeLimits) -> Iterator[tuple[Resource, Metric]]:
    document = load(data, _METRICS, replace(limits, max_values=limits.max_values // _COSTS_OF_JSON))
    try:
        if not isinstance(document, dict):
            raise ParseError("not an object")
        request = ParseDict(document, ExportMetricsServiceRequest(), ignore_unknown_fields=True, max_recursion_depth=50)
    except (ParseError, AttributeError, TypeError, ValueError) as error:
        raise Unreadable("the body is not metrics in OTLP's JSON encoding") from error
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield group.resource, metric


def _point_count(metric: Metric) -> int:
    kind = metric.WhichOneof("data")
    return 0 if kind is None else len(getattr(metric, kind).data_points)


def _points(metric: Metric, resource: Attributes) -> Iterator[CounterPoint]:
    temporality = metric.sum.aggregation_temporality
    if metric.WhichOneof("data") != "sum" or not temporality:
        return
    is_delta = temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    for point in metric.sum.data_points:
        value = float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double
        if not math.isfinite(value):
            continue
        attributes = {**resource, **_attributes(point.attributes)}
        yield CounterPoint(metric.name, value, point.start_time_unix_nano, point.time_unix_nano, is_delta, attributes)


def _attributes(pairs: Any) -> Attributes:
    """Return the scalar attributes; lists and maps split no counter."""
    result: Attributes = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in ("string_value", "bool_value", "int_value", "double_value"):
            result[pair.key] = getattr(pair.value, kind)
    return result
