"""Conversion of a request to a question for the metric engine: query parameters and JSON documents, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from server.errors import ApiError, InvalidBody, InvalidParameter, UnknownMetric
from server.http.json_body import is_object, is_text, is_texts, is_whole
from server.http.request_params import RequestParams
from server.queries.filters.filter_params import filter_from_params
from server.queries.filters.filter_tree import Filter, parse_filter
from server.queries.filters.operators import NUMBER_OPERATORS
from server.queries.metrics.metric_interval import MAX_POINTS, parse_interval
from server.queries.metrics.metric_question import (
    COMPARISONS,
    DEFAULT_GROUPS,
    FILLS,
    MAX_GROUPS,
    MAX_MEASURES,
    Having,
    Measure,
    MetricQuestion,
    parse_measure,
)
from server.text.instants import parse_instant

Value = TypeVar("Value")

_LARGEST: Final = 1e18
_ORDERS: Final = ("desc", "asc")

# The parameters of GET /api/v1/metrics beside the filters: name and sentence, for OpenAPI and the reference page.
METRIC_PARAMETERS: Final[dict[str, str]] = {
    "metric": "What to measure: calls, cost, duration.p95 and so on; by repeats or commas. Required.",
    "from": "Start of the range, included: RFC 3339 with a zone, epoch seconds or ms, or relative (now-24h). Required.",
    "to": "End of the range, not included; default now.",
    "project_id": "Projects to read; default: all that the credential grants.",
    "group_by": "Up to five dimensions.",
    "interval": "Width of a bucket: 30s, 5m, 1h, 1d, 1w, 1M, or auto. Without it one value for the whole range.",
    "max_points": "Most buckets; an interval that would need more is widened, with a notice. Default 11,000.",
    "time_zone": "IANA name of the zone that days and longer buckets follow; default UTC.",
    "fill": "Values of empty buckets: null (default), zero, previous, or none to leave the buckets out.",
    "order_by": "The metric that groups are ranked by; default: the first.",
    "order": "desc (default) or asc.",
    "limit": "Most groups, 1 to 1,000; default 10.",
    "other": "true (default): sum the groups beyond the limit in one group named other.",
    "compare": "previous_period or year_ago: the values of an earlier range beside each value.",
    "explain": "true: include which table answered which part, and the plans of the database; needs the grant `*`.",
}


@dataclass(frozen=True, slots=True)
class MetricRequest:
    """A question as sent. ``identity`` tells two questions apart for the cache, relative times as written."""

    question: MetricQuestion
    projects: tuple[str, ...]
    explain: bool
    identity: Mapping[str, Any]
    is_open_ended: bool


def metric_request_from_params(params: RequestParams, now: datetime) -> MetricRequest:
    """Read the simple form. Raises :class:`InvalidParameter` or :class:`UnknownMetric`."""
    members: dict[str, Any] = {
        "metrics": list(params.texts("metric", most=MAX_MEASURES)),
        "from": params.text("from"),
        "to": params.text("to"),
        "project_id": list(params.texts("project_id")),
        "group_by": list(params.texts("group_by")),
        "interval": params.text("interval"),
        "max_points": params.integer("max_points", default=MAX_POINTS, low=1, high=MAX_POINTS),
        "time_zone": params.text("time_zone"),
        "fill": params.choice("fill", FILLS, "null"),
        "order_by": params.text("order_by"),
        "order": params.choice("order", _ORDERS, "desc"),
        "limit": params.integer("limit", default=DEFAULT_GROUPS, low=1, high=MAX_GROUPS),
        "other": params.flag("other", default=True),
        "compare": params.text("compare"),
        "explain": params.flag("explain"),
    }
    given = params.filters()
    params.finish()
    tree = filter_from_params(given, now=now)
    try:
        return _request(members, tree, now)
    except (InvalidBody, UnknownMetric) as error:
        raise about_parameters(error) from error


def are_metrics(value: Any) -> bool:
    """Return a list of metrics such as calls and cost."""
    return isinstance(value, list)


def is_metric(value: Any) -> bool:
    """Return a metric such as cost; ``order`` has the direction."""
    return isinstance(value, str | dict)


def is_moment(value: Any) -> bool:
    """Return a text such as now-24h or 2026-11-01T00:00:00Z, or a whole number of seconds or milliseconds since
    1970.
    """
    return isinstance(value, str) or is_whole(value)


def are_projects(value: Any) -> bool:
    """Return a project or a list of them."""
    return isinstance(value, str) or is_texts(value)


def are_dimensions(value: Any) -> bool:
    """Return a list of dimensions such as model and service."""
    return is_texts(value)


def are_conditions(value: Any) -> bool:
    """Return a list of at most 20 objects with metric, operator and value."""
    return isinstance(value, list) and len(value) <= MAX_MEASURES


def is_width(value: Any) -> bool:
    """Return a text such as 30s, 5m, 1h, 1d or auto."""
    return isinstance(value, str)


def is_zone_name(value: Any) -> bool:
    """Return an IANA name such as Europe/Berlin."""
    return isinstance(value, str) and len(value) <= 64


def is_truth(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


DOCUMENT_MEMBERS: Final[dict[str, Callable[[Any], bool]]] = {
    "metrics": are_metrics,
    "from": is_moment,
    "to": is_moment,
    "project_id": are_projects,
    "group_by": are_dimensions,
    "filter": is_object,
    "having": are_conditions,
    "interval": is_width,
    "max_points": is_whole,
    "time_zone": is_zone_name,
    "fill": is_text,
    "order_by": is_metric,
    "order": is_text,
    "limit": is_whole,
    "other": is_truth,
    "compare": is_text,
    "explain": is_truth,
}
"""Members of the body of POST /api/v1/metrics/query: those of METRIC_PARAMETERS, ``filter`` and ``having``."""


def metric_request_from_document(document: Mapping[str, Any], now: datetime) -> MetricRequest:
    """Read the body of a query. Raises :class:`InvalidBody` or :class:`UnknownMetric` with a JSON pointer."""
    if document.get("project_id") == []:
        raise InvalidBody.at("/project_id", "must not be empty: name projects, or leave it out for all")
    tree = parse_filter(document["filter"], now=now) if "filter" in document else None
    return _request(document, tree, now)


def _request(members: Mapping[str, Any], tree: Filter | None, now: datetime) -> MetricRequest:
    measures = members.get("metrics") or []
    if not measures:
        raise InvalidBody.at("/metrics", "is required, for example calls or duration.p95")
    if members.get("from") is None:
        raise InvalidBody.at("/from", "is required, for example now-24h or 2026-11-01T00:00:00Z")
    compare = members.get("compare")
    for name, choices in (("compare", COMPARISONS), ("fill", FILLS), ("order", _ORDERS)):
        if members.get(name) is not None and members[name] not in choices:
            raise InvalidBody.at(f"/{name}", f"expected one of {', '.join(choices)}")
    interval = members.get("interval")
    end = members.get("to")
    projects = members.get("project_id") or []
    order_by = members.get("order_by")
    question = MetricQuestion(
        measures=tuple(_measure(item, f"/metrics/{index}") for index, item in enumerate(measures)),
        start=_at("/from", lambda: parse_instant(members["from"], now=now)),
        end=now if end is None else _at("/to", lambda: parse_instant(end, now=now, round_up=True)),
        group_by=tuple(members.get("group_by") or ()),
        filter=tree,
        having=tuple(_having(item, f"/having/{index}") for index, item in enumerate(members.get("having") or ())),
        order_by=None if order_by is None else _measure(order_by, "/order_by"),
        descending=members.get("order", "desc") == "desc",
        limit=members.get("limit", DEFAULT_GROUPS),
        other=members.get("other", True),
        interval=interval if interval in (None, "auto") else _at("/interval", lambda: parse_interval(interval)),
        max_points=members.get("max_points", MAX_POINTS),
        time_zone="UTC" if members.get("time_zone") is None else members["time_zone"],
        fill=members.get("fill", "null"),
        compare=cast(Any, compare),
    )
    identity = {name: value for name, value in members.items() if name not in ("project_id", "explain")}
    return MetricRequest(
        question,
        (projects,) if isinstance(projects, str) else tuple(projects),
        members.get("explain", False),
        identity,
        is_open_ended=end is None or str(end).startswith("now"),
    )


def _measure(item: Any, pointer: str) -> Measure:
    if isinstance(item, str):
        return parse_measure(item)
    if not isinstance(item, dict) or not item.keys() <= {"metric", "aggregation"} or "metric" not in item:
        raise InvalidBody.at(pointer, 'expected a text such as duration.p95, or {"metric", "aggregation"}')
    if not all(isinstance(value, str) for value in item.values()):
        raise InvalidBody.at(pointer, "metric and aggregation must be texts")
    return Measure(item["metric"], item.get("aggregation", ""))


def _having(item: Any, pointer: str) -> Having:
    if not isinstance(item, dict) or item.keys() != {"metric", "operator", "value"}:
        raise InvalidBody.at(pointer, 'expected {"metric", "operator", "value"}')
    if not is_text(item["operator"]) or item["operator"] not in NUMBER_OPERATORS:
        raise InvalidBody.at(f"{pointer}/operator", f"expected one of {', '.join(NUMBER_OPERATORS)}")
    value = item["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        raise InvalidBody.at(f"{pointer}/value", f"expected a number from {-_LARGEST:g} to {_LARGEST:g}")
    return Having(_measure(item["metric"], f"{pointer}/metric"), item["operator"], float(value))


def _at(pointer: str, read: Callable[[], Value]) -> Value:
    try:
        return read()
    except ValueError as error:
        raise InvalidBody.at(pointer, str(error)) from error


def about_parameters(error: ApiError) -> ApiError:
    """Return ``error`` for the simple form, which has parameters instead of a body."""
    renamed = []
    for item in error.errors:
        name = item.get("pointer", "").split("/")[1:2]
        renamed.append({"parameter": {"metrics": "metric"}.get(*name, *name) if name else "", "detail": item["detail"]})
    kind = UnknownMetric if isinstance(error, UnknownMetric) else InvalidParameter
    first = renamed[0] if renamed else {"parameter": "", "detail": error.detail}
    return kind(f"{first['parameter']}: {first['detail']}", errors=renamed)
