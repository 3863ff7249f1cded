"""Schemas of ``data`` in answers other than spans, traces and summaries: reports, records made by people, audit
entries.

By route name. Figures come from the tables of the reports where those have one; a test holds every answer of an example
against its schema, member by member.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from server.export.formats import COMPRESSIONS, FORMATS
from server.queries.metrics.metric_catalog import METRICS
from server.queries.records.agent_figures import SPLITS
from server.reports import analytics_report, cost_report
from server.reports.budget_report import STATUSES
from server.reports.report_window import measures_of
from server.rest.openapi.schemas import COUNT, MONEY, TEXT, TIME, Schema, list_of, nullable, object_of

NUMBER: Final[Schema] = {"type": "number"}
FIGURE: Final[Schema] = {"type": ["number", "null"]}
FLAG: Final[Schema] = {"type": "boolean"}
TEXTS: Final[Schema] = list_of(TEXT)
NAME: Final[Schema] = nullable(TEXT)
MOMENT: Final[Schema] = nullable(TIME)
DAY: Final[Schema] = {"type": "string", "format": "date"}
REASONS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
FREE: Final[Schema] = {"type": "object", "additionalProperties": True}


def record(**members: Schema) -> Schema:
    """Return an object that always has exactly ``members``."""
    return object_of(members, required=tuple(members))


def choice(values: Iterable[str]) -> Schema:
    """Return one of ``values``."""
    return {"type": "string", "enum": list(values)}


def _figures(measures: Iterable[str]) -> dict[str, Schema]:
    return {measure.key: FIGURE for measure in measures_of(*measures)}


def _split(measures: Iterable[str], dimension: str, **more: Schema) -> Schema:
    return list_of(record(**{dimension: NAME}, is_other=FLAG, **_figures(measures), **more))


def _overview(kind: str, measures: tuple[str, ...], **more: Schema) -> Schema:
    point = record(time=TIME, **_figures(analytics_report.SERIES[kind]), incomplete=FLAG)
    return record(
        totals=record(**_figures(measures)),
        change_pct=record(**_figures(measures)),
        no_change_reasons=REASONS,
        time_series=list_of(point),
        interval_seconds={"type": ["integer", "number"]},
        source=TEXT,
        precision=TEXT,
        **more,
    )


def _public(measures: Iterable[str]) -> dict[str, Schema]:
    return {cost_report.public_name(name): FIGURE for name in measures}


_MODEL_FIGURES: Final = _figures(analytics_report.MODELS)
_SHARE: Final = record(name=NAME, is_other=FLAG, **_public(cost_report.SPLIT), cost_share_pct=FIGURE)
_TREND: Final = list_of(record(time=TIME, total_cost_usd=FIGURE, calls=FIGURE, incomplete=FLAG))
_POINT: Final[Mapping[str, Schema]] = {"cost_usd": NUMBER, "lower_usd": NUMBER, "upper_usd": NUMBER}

BUDGET: Final = record(
    project_id=TEXT,
    budget_id=TEXT,
    name=TEXT,
    amount_usd=MONEY,
    period=TEXT,
    time_zone=TEXT,
    dimension=NAME,
    value=NAME,
    warning_pct=NUMBER,
    critical_pct=NUMBER,
    created_at=TIME,
    updated_at=TIME,
    created_by=TEXT,
    period_start=TIME,
    period_end=TIME,
    elapsed_pct=NUMBER,
    spent_usd=MONEY,
    remaining_usd=MONEY,
    used_pct=NUMBER,
    burn_usd_per_day=MONEY,
    projected_usd=MONEY,
    projected_pct=NUMBER,
    exhausted_at=MOMENT,
    status=choice(STATUSES),
    status_level={"type": "integer", "minimum": 0, "maximum": len(STATUSES) - 1},
)
_KEY_MEMBERS: Final[Mapping[str, Schema]] = {
    "key_id": TEXT,
    "label": TEXT,
    "kind": TEXT,
    "role": TEXT,
    "scopes": nullable(TEXTS),
    "projects": TEXTS,
    "owner": NAME,
    "rate_limit_per_minute": nullable(COUNT),
    "created_at": TIME,
    "created_by": TEXT,
    "expires_at": TIME,
    "last_used_at": MOMENT,
    "revoked_at": MOMENT,
    "revoked_by": NAME,
}
KEY: Final = record(**_KEY_MEMBERS)
_CLIENT_MEMBERS: Final[Mapping[str, Schema]] = {
    "client_id": TEXT,
    "client_name": TEXT,
    "token_endpoint_auth_method": TEXT,
    "role": TEXT,
    "scopes": nullable(TEXTS),
    "projects": TEXTS,
    "created_at": TIME,
    "created_by": TEXT,
    "last_used_at": MOMENT,
    "disabled_at": MOMENT,
    "disabled_by": NAME,
}
CLIENT: Final = record(**_CLIENT_MEMBERS)
_EXPORT_MEMBERS: Final[Mapping[str, Schema]] = {
    "export_id": TEXT,
    "kind": TEXT,
    "state": TEXT,
    "format": choice(FORMATS),
    "compression": choice(COMPRESSIONS),
    "projects": TEXTS,
    "rows": COUNT,
    "rows_before": COUNT,
    "bytes": COUNT,
    "sha256": NAME,
    "snapshot_at": TIME,
    "hidden_fields": TEXTS,
    "problem": NAME,
    "created_by": TEXT,
    "created_at": MOMENT,
    "finished_at": MOMENT,
    "expires_at": MOMENT,
    "question": FREE,
}
_FILE: Final = record(name=TEXT, rows=COUNT, bytes=COUNT, sha256=NAME)
EXPORT: Final = record(**_EXPORT_MEMBERS, files=list_of(_FILE), after=NAME, resume_bytes=nullable(COUNT))
ANNOTATION: Final = record(
    project_id=TEXT,
    annotation_id=TEXT,
    time=TIME,
    time_end=MOMENT,
    title=TEXT,
    text=TEXT,
    tags=TEXTS,
    created_at=TIME,
    created_by=TEXT,
)
PRICE: Final = record(
    project_id=TEXT,
    provider=TEXT,
    model=TEXT,
    valid_from=TIME,
    input_usd_per_mtok=MONEY,
    output_usd_per_mtok=MONEY,
    cache_read_usd_per_mtok=nullable(MONEY),
    cache_write_usd_per_mtok=nullable(MONEY),
    created_at=TIME,
    created_by=TEXT,
)
AUDIT_ENTRY: Final = record(
    audit_id=COUNT,
    ts=TIME,
    action=TEXT,
    outcome=TEXT,
    reason=NAME,
    actor=NAME,
    actor_kind=NAME,
    credential_id=NAME,
    viewer=NAME,
    target_type=NAME,
    target_id=NAME,
    project_id=NAME,
    client_address=NAME,
    request_id=NAME,
    occurrences=COUNT,
    detail=FREE,
)
SCORE: Final = record(
    project_id=TEXT,
    score_id=TEXT,
    trace_id=TEXT,
    span_id=NAME,
    name=TEXT,
    data_type=TEXT,
    value=FIGURE,
    string_value=NAME,
    source=TEXT,
    comment=NAME,
    ts=TIME,
    created_at=TIME,
    created_by=TEXT,
)
_REPRICED: Final[Mapping[str, Schema]] = {
    **dict.fromkeys(("calls", "changed", "unpriced"), COUNT),
    **dict.fromkeys(("old_cost_usd", "new_cost_usd", "difference_usd"), MONEY),
}
# One schema with several types: for a oneOf with a list in it, the Java generator writes code that does not compile.
_VALUE: Final[Schema] = {"type": ["number", "array", "null"], "items": record(le=NUMBER, count=COUNT)}
_VALUES: Final[Schema] = {"type": "object", "additionalProperties": list_of(_VALUE)}
_SERIES: Final = record(labels={"type": "object", "additionalProperties": NAME}, is_other=FLAG, values=_VALUES,
                        compared=nullable(_VALUES))  # fmt: skip
_TOTAL: Final = record(value=FIGURE, previous=FIGURE, change_percent=FIGURE, unit=TEXT)
_SPLITS_OF_FIGURES: Final = tuple(name for name in SPLITS if name != "day")
_EXPLAINED: Final = object_of(
    {
        "index": COUNT,
        "span_id": TEXT,
        "stored": FLAG,
        "reason": TEXT,
        "detail": TEXT,
        "dialect": NAME,
        "columns": list_of(object_of({"column": TEXT, "value": {}, "from": NAME, "rule": NAME}, required=("column",))),
        "price": nullable(FREE),
        "unused": TEXTS,
        "dropped": FREE,
    },
    required=("index", "span_id", "stored"),
)
_SETTINGS: Final = record(ingest=FREE, redaction=FREE, prices=FREE)

ANSWERS: Final[Mapping[str, Schema]] = {
    "analytics.costs": _overview(
        "costs",
        analytics_report.COSTS,
        **{
            f"by_{name}": _split(("cost", "calls"), name, cost_share_pct=FIGURE)
            for name in ("provider", "model", "user")
        },
    ),
    "analytics.performance": _overview(
        "performance",
        analytics_report.PERFORMANCE,
        by_model=_split(("calls", "duration_p50", "duration_p95", "duration_p99"), "model"),
    ),
    "analytics.quality": _overview(
        "quality",
        analytics_report.QUALITY,
        errors_by_type=_split(("errors",), "error_type", share_pct=FIGURE),
        finish_reasons=_split(("calls",), "finish_reason"),
        scores_by_name=_split(("scores", "score_average", "score_pass_rate"), "score_name"),
    ),
    "analytics.models": list_of(record(provider=NAME, model=NAME, is_other=FLAG, **_MODEL_FIGURES)),
    "analytics.models_compare": record(
        models=list_of(record(model=TEXT, is_other=FLAG, **_MODEL_FIGURES)),
        summary=record(fastest_model=NAME, cheapest_model=NAME, most_reliable_model=NAME),
    ),
    "analytics.optimization": record(
        recommendations=list_of(FREE),
        potential_savings_usd=MONEY,
        scores=record(cost=FIGURE, performance=FIGURE, reliability=FIGURE),
        overall_score=FIGURE,
    ),
    "coding_agents.figures": list_of(
        object_of(
            {"figure": TEXT, "value": FIGURE, "day": DAY, **dict.fromkeys(_SPLITS_OF_FIGURES, NAME)},
            required=("figure", "value"),
            closed=True,
        )
    ),
    "annotations.add_annotation": ANNOTATION,
    "annotations.list_annotations": list_of(ANNOTATION),
    "annotations.delete_annotation": record(annotation_id=TEXT, deleted=FLAG),
    "audit.list_audit": list_of(AUDIT_ENTRY),
    "budgets.list": list_of(BUDGET),
    "budgets.show": BUDGET,
    "budgets.put": BUDGET,
    "budgets.delete": record(deleted=TEXT),
    "clients.create_client": record(**_CLIENT_MEMBERS, client_secret=NAME),
    "clients.list_clients": list_of(CLIENT),
    "clients.disable_client": CLIENT,
    "clients.enable_client": CLIENT,
    "costs.attribution": record(
        dimension=TEXT, items=list_of(_SHARE), total=record(**_public(cost_report.SPLIT)), values_total=COUNT
    ),
    "costs.forecast": record(
        model=TEXT,
        confidence=NUMBER,
        historical=list_of(record(date=DAY, cost_usd=FIGURE, calls=FIGURE)),
        forecast=list_of(record(date=DAY, **_POINT)),
        summary=record(total=record(**_POINT), daily_average_usd=NUMBER, projected_month_usd=NUMBER),
        backtest=nullable(
            record(
                days=COUNT,
                mean_absolute_error_usd=NUMBER,
                mape_pct=FIGURE,
                interval_coverage_pct=NUMBER,
                error_versus_same_day_last_week=FIGURE,
            )
        ),
    ),
    "costs.summary": record(
        overview=record(
            **_public(cost_report.OVERVIEW),
            **dict.fromkeys(
                ("cost_change_pct", "calls_change_pct", "day_over_day_change_pct", "week_over_week_change_pct"), FIGURE
            ),
            no_change_reasons=REASONS,
        ),
        **{f"by_{name}": list_of(_SHARE) for name in cost_report.SUMMARY_SPLITS},
        trends=record(daily=_TREND, weekly=_TREND),
    ),
    "erasure.erase_user": record(
        user_id=TEXT,
        project_id=TEXT,
        deleted_traces=COUNT,
        deleted_spans=COUNT,
        deleted_figures=COUNT,
        is_complete=FLAG,
    ),
    "export_jobs.create": EXPORT,
    "export_jobs.list": list_of(record(**_EXPORT_MEMBERS)),
    "export_jobs.read": EXPORT,
    "export_jobs.cancel": record(export_id=TEXT, cancelled=FLAG),
    "ingest_settings.read": _SETTINGS,
    "ingest_settings.replace": _SETTINGS,
    "keys.create_key": record(**_KEY_MEMBERS, key=TEXT),
    "keys.list_keys": list_of(KEY),
    "keys.read_key": KEY,
    "keys.revoke_key": KEY,
    "metrics.catalog": record(
        metrics=list_of(
            record(
                name=choice(METRICS),
                unit=TEXT,
                aggregations=TEXTS,
                default_aggregation=TEXT,
                description=TEXT,
                permission=TEXT,
                family=TEXT,
            )
        ),
        dimensions=list_of(
            record(
                name=TEXT,
                description=TEXT,
                rolled_up=FLAG,
                many_values=FLAG,
                several_values_per_span=FLAG,
                family=TEXT,
            )
        ),
    ),
    "metrics.query": record(
        times=list_of(TIME), units={"type": "object", "additionalProperties": TEXT}, groups=list_of(_SERIES)
    ),
    "metrics.summary": record(
        totals={"type": "object", "additionalProperties": _TOTAL},
        no_change_reasons=REASONS,
        top={"type": "object", "additionalProperties": list_of({"type": "object", "additionalProperties": True})},
    ),
    "otlp.explain_traces": record(spans=list_of(_EXPLAINED)),
    "prices.list": list_of(PRICE),
    "prices.store": PRICE,
    "prices.delete": record(provider=TEXT, model=TEXT, valid_from=TIME, deleted=FLAG),
    "prices.unpriced": list_of(
        record(
            project_id=TEXT,
            provider=NAME,
            model=NAME,
            calls=COUNT,
            total_tokens=COUNT,
            first_seen=TIME,
            last_seen=TIME,
            reason=TEXT,
            detail=TEXT,
        )
    ),
    "prices.reprice": record(
        dry_run=FLAG,
        models=list_of(record(provider=NAME, model=NAME, **_REPRICED)),
        total=record(**_REPRICED),
        continue_from=MOMENT,
    ),
    "prices.delete_trace": record(trace_id=TEXT, project_id=TEXT, deleted_spans=COUNT),
    "projects.list_projects": list_of(record(project_id=TEXT, name=TEXT, created_at=TIME)),
    "projects.create_project": record(project_id=TEXT, name=TEXT, created_at=TIME),
    "projects.delete_project": FREE,
    "scores.create_score": SCORE,
    "scores.create_scores": list_of(SCORE),
    "scores.delete_score": record(score_id=TEXT, deleted=FLAG),
}

PAGED: Final = frozenset({"annotations.list_annotations", "audit.list_audit", "budgets.list"})
"""Those of the lists above that have ``pagination``."""
