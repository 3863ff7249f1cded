"""``/api/v1/metrics``: the metric engine over HTTP, as series, as flat rows, as a summary, and its catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.access.principal import Principal
from server.cache.result_cache import Answer, CacheQuestion
from server.errors import InvalidBody, PayloadTooLarge
from server.fairness.off_loop import off_loop
from server.http.conditional import cached_success
from server.http.envelope import success
from server.http.guard import requires, row_scope
from server.http.json_body import TYPED_JSON_TYPES, read_object
from server.http.request_params import RequestParams
from server.http.services import Services, services_of
from server.queries.filters.filter_tree import canonical
from server.queries.metrics.metric_answer import MetricAnswer, MetricMeta, Value
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS
from server.queries.metrics.metric_question import Measure, MetricQuestion
from server.queries.metrics.metric_reader import query_metrics
from server.reports.report_window import change, reasons
from server.rest.metric_request import (
    DOCUMENT_MEMBERS,
    MetricRequest,
    about_parameters,
    metric_request_from_document,
    metric_request_from_params,
)
from server.rest.report_request import ReportRequest
from server.storage.row_scope import RowScope
from server.text.instants import format_instant

metric_api = Blueprint("metrics", url_prefix="/api/v1/metrics")

LARGEST_QUESTION: Final = 1 << 18
SUMMARY_RANGE: Final = timedelta(days=1)

_SUMMARY: Final = (
    Measure("calls"), Measure("traces"), Measure("errors"), Measure("error_rate"), Measure("duration", "p50"),
    Measure("duration", "p95"), Measure("total_tokens"), Measure("users"), Measure("sessions"), Measure("cost"),
    Measure("cache_savings"),
)  # fmt: skip
_TOP: Final = ("model", "service", "user", "error_type")


@metric_api.get("", name="rows")
@requires("metrics:read", cost=2)
async def list_metric_rows(request: Request) -> HTTPResponse:
    """Return metrics as flat rows ``{time, time_ms, metric, value, <labels>}``, for Grafana's Infinity data source and
    spreadsheets."""
    asked = metric_request_from_params(RequestParams.of(request), datetime.now(UTC))
    try:
        return await _answer(request, asked, "rows", render_rows)
    except InvalidBody as error:
        # Only the engine can detect these faults, once it knows the number of groups.
        raise about_parameters(error) from error


@metric_api.post("/query", name="query")
@requires("metrics:read", cost=2)
async def query(request: Request) -> HTTPResponse:
    """Return metrics as series by group; the body is a question."""
    if len(request.body) > LARGEST_QUESTION:
        raise PayloadTooLarge(f"A question has at most {LARGEST_QUESTION} bytes.")
    RequestParams.of(request).finish()
    document = read_object(request, DOCUMENT_MEMBERS, media_types=TYPED_JSON_TYPES)
    asked = metric_request_from_document(document, datetime.now(UTC))
    return await _answer(request, asked, "series", render_series)


@metric_api.get("/catalog", name="catalog")
@requires("metrics:read")
async def show_catalog(request: Request) -> HTTPResponse:
    """List every metric with its unit, aggregations and required scope, and every dimension."""
    RequestParams.of(request).finish()
    return success(
        request,
        {
            "metrics": [
                {
                    "name": metric.name,
                    "unit": metric.unit,
                    "aggregations": metric.aggregations,
                    "default_aggregation": metric.aggregations[0],
                    "description": metric.sentence,
                    "permission": metric.permission,
                    "family": metric.family,
                }
                for metric in METRICS.values()
            ],
            "dimensions": [
                {
                    "name": dimension.name,
                    "description": dimension.sentence,
                    "rolled_up": dimension.is_rolled_up,
                    "many_values": dimension.has_many_values,
                    "several_values_per_span": dimension.is_multiple,
                    "family": dimension.family,
                }
                for dimension in DIMENSIONS.values()
            ]
            + [
                {
                    "name": "attribute.KEY",
                    "description": "Any attribute of a span, by its key; needs the scope content:read.",
                    "rolled_up": False,
                    "many_values": True,
                    "several_values_per_span": False,
                    "family": "spans",
                }
            ],
        },
    )


@metric_api.get("/summary", name="summary")
@requires("metrics:read", cost=3)
async def show_summary(request: Request) -> HTTPResponse:
    """Return totals with those of the previous period, and the top models, services, users and kinds of error."""
    asked = ReportRequest(request, default_range=SUMMARY_RANGE)
    top = asked.params.integer("top", default=5, low=1, high=50)
    window = asked.window()
    source = await asked.source()
    principal: Principal = request.ctx.principal
    measures = tuple(item for item in _SUMMARY if item.definition.permission in principal.scopes)
    about: dict[str, Any] = {
        "start": window.start, "end": window.end, "filter": window.filter, "time_zone": window.time_zone
    }  # fmt: skip
    total = await source.ask(MetricQuestion(measures=measures, compare="previous_period", **about))
    ranked = tuple(item for item in measures if item.metric in {"calls", "cost"})
    tops = {}
    for dimension in _TOP:
        by = (Measure("errors"),) if dimension == "error_type" else ranked[::-1]
        found = await source.ask(MetricQuestion(measures=by, group_by=(dimension,), limit=top, other=False, **about))
        tops[dimension] = [
            {dimension: group.labels[dimension], **{key: values[0] for key, values in group.values.items()}}
            for group in found.groups
        ]
    data = {**_totals(total), "top": tops}
    return success(request, data, meta_fields=render_meta(total.meta))


def _totals(answer: MetricAnswer) -> dict[str, Any]:
    group = answer.groups[0]
    before: Mapping[str, tuple[Value, ...]] = group.compared or {}
    changes = {
        key: change(values[0], before[key][0], answer.meta.no_change_reason) for key, values in group.values.items()
    }
    totals = {
        key: {
            "value": values[0],
            "previous": before[key][0],
            "change_percent": changes[key].percent,
            "unit": answer.units[key],
        }
        for key, values in group.values.items()
    }
    return {"totals": totals, "no_change_reasons": reasons(changes)}


async def _answer(request: Request, asked: MetricRequest, form: str, render: Any) -> HTTPResponse:
    principal: Principal = request.ctx.principal
    for permission, what in sorted(asked.question.permissions.items()):
        principal.require(permission, what)
    if asked.explain:
        principal.require_explain()
    services: Services = services_of(request)
    scope = await row_scope(request, asked.projects)

    async def compute() -> Answer:
        return await _computed(services, scope, asked, render)

    if asked.explain:
        return cached_success(request, services.cache.fresh(await _explained(services, scope, asked, render)))
    tree = asked.question.filter
    document = {**asked.identity, "form": form, "filter": tree and canonical(tree)}
    window_end = None if asked.is_open_ended else asked.question.end
    answer = await services.cache.answer(CacheQuestion("metrics", scope, document, window_end=window_end), compute)
    return cached_success(request, answer)


async def _computed(services: Services, scope: RowScope, asked: MetricRequest, render: Any) -> Answer:
    answer = await query_metrics(services.reads, scope, asked.question)
    data = await off_loop(answer.size, lambda: render(answer))
    return Answer(data, None, render_meta(answer.meta), values=answer.size)


async def _explained(services: Services, scope: RowScope, asked: MetricRequest, render: Any) -> Answer:
    plans: list[dict[str, Any]] = []
    answer = await query_metrics(services.reads, scope, asked.question, plans=plans)
    meta = {**render_meta(answer.meta), "tables": list(answer.meta.plan), "explain": plans}
    return Answer(await off_loop(answer.size, lambda: render(answer)), None, meta)


def render_rows(answer: MetricAnswer) -> list[dict[str, Any]]:
    """Return flat rows; each has the same keys."""
    return [
        {
            "time": answered_time(row["time"]),
            "time_ms": int(row["time"].timestamp() * 1000),
            **{
                name: render_value(value) if name in _VALUES else value for name, value in row.items() if name != "time"
            },
        }
        for row in answer.rows()
    ]


_VALUES: Final = frozenset({"value", "compared"})


def render_series(answer: MetricAnswer) -> dict[str, Any]:
    """Return times once, then for each group its labels and one list of values per metric."""

    def columns(values: Mapping[str, tuple[Value, ...]] | None) -> dict[str, list[Any]] | None:
        if values is None:
            return None
        return {key: [render_value(value) for value in column] for key, column in values.items()}

    return {
        "times": [answered_time(time) for time in answer.times],
        "units": answer.units,
        "groups": [
            {
                "labels": group.labels,
                "is_other": group.is_other,
                "values": columns(group.values),
                "compared": columns(group.compared),
            }
            for group in answer.groups
        ],
    }


def render_value(value: Value) -> Any:
    """Return a histogram as a list of bins, and other values unchanged."""
    if isinstance(value, tuple):
        return [{"le": bound, "count": count} for bound, count in value]
    return value


def answered_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds; bucket starts need no more."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_meta(meta: MetricMeta) -> dict[str, Any]:
    """Return the facts about the making of the answer, for the envelope's meta."""
    told: dict[str, Any] = {
        "from": format_instant(meta.start),
        "to": format_instant(meta.end),
        "time_zone": meta.time_zone,
        "source": meta.source,
        "precision": meta.precision,
        "interval": meta.interval,
        "interval_seconds": meta.interval_seconds,
        "incomplete": [answered_time(moment) for moment in meta.incomplete],
        "notices": list(meta.notices),
        "groups_total": meta.groups_total,
        "rows_read": meta.rows_read,
    }
    if meta.compared_start is not None and meta.compared_end is not None:
        told["compared_from"] = format_instant(meta.compared_start)
        told["compared_to"] = format_instant(meta.compared_end)
        told["no_change_reason"] = meta.no_change_reason
    return told
