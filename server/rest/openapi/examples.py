"""An example of each request, shown in the OpenAPI document, as a cURL command and in the Postman collection.

A test sends each of them to a server. A route without a row here is sent a request without parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PROJECT: Final = "demo"
TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID: Final = "00f067aa0ba902b7"

PATH_VALUES: Final[dict[str, str]] = {
    "trace_id": TRACE_ID,
    "span_id": SPAN_ID,
    "session_id": "conversation-1",
    "user_id": "user-1",
    "project_id": PROJECT,
    "project": PROJECT,
    "budget_id": "monthly",
    "score_id": "score-1",
    "client_id": "nightly-report",
    "field": "model",
    "service": "checkout",
}
"""Values of path parameters in examples."""
MADE_VALUES: Final[dict[str, str]] = {
    "annotation_id": "0199c0de-0000-7000-8000-000000000001",
    "export_id": "0199c0de-0000-7000-8000-000000000002",
    "key_id": "k0v1x2y3z4",
}
"""Placeholders for ids that the server makes: the answer to the creating request has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Query parameters, body (an object is JSON; of a form, its fields) and path parameters of one request."""

    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)


_DAY: Final = {"from": "now-24h"}
_ONE: Final = {"project_id": PROJECT}
_SCORE: Final = {"score_id": "score-1", "trace_id": TRACE_ID, "name": "helpfulness", "value": 0.9}
_PROMQL: Final = {"query": "sum by (model) (increase(llm_calls_total[1h]))"}
_SPAN: Final = {
    "traceId": TRACE_ID,
    "spanId": SPAN_ID,
    "name": "chat gpt-4.1-mini",
    "kind": 3,
    "startTimeUnixNano": "1764000000000000000",
    "endTimeUnixNano": "1764000001500000000",
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.provider.name", "value": {"stringValue": "openai"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4.1-mini"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1200"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "300"}},
    ],
}
_OTLP: Final = {"resourceSpans": [{"scopeSpans": [{"spans": [_SPAN]}]}]}
_PANEL_RANGE: Final = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-08T00:00:00Z"}
_FORM_TIMES: Final = {"start": "1764000000", "end": "1764003600"}

EXAMPLES: Final[dict[str, Example]] = {
    "analytics.coding_agents": Example(query={"from": "now-7d"}),
    "analytics.costs": Example(query={"from": "now-7d", "interval": "1d"}),
    "analytics.models": Example(query={"from": "now-7d", "limit": "5"}),
    "analytics.models_compare": Example(query={"models": "gpt-4.1,gpt-4.1-mini", "from": "now-7d"}),
    "analytics.performance": Example(query={"from": "now-24h", "interval": "1h"}),
    "analytics.quality": Example(query=_DAY),
    "annotations.add_annotation": Example(
        body={"project_id": PROJECT, "title": "Release 1.4", "text": "A new prompt", "tags": ["release"]}
    ),
    "annotations.list_annotations": Example(query={"from": "now-7d", "tags": "release"}),
    "audit.list_audit": Example(query={"from": "now-24h", "limit": "10"}),
    "budgets.put": Example(body={"name": "All models", "amount_usd": 500, "period": "month"}),
    "clients.create_client": Example(
        body={"client_id": "nightly-report", "client_name": "Nightly report", "role": "viewer", "projects": [PROJECT]}
    ),
    "costs.attribution": Example(query={"dimension": "user", "from": "now-7d"}),
    "costs.forecast": Example(query={"from": "now-30d", "period": "next_week"}),
    "costs.summary": Example(query={"from": "now-7d"}),
    "erasure.erase_user": Example(query=_ONE, path={"user_id": "user-2"}),
    "export_jobs.create": Example(body={"format": "ndjson", "from": "now-24h", "project_id": PROJECT}),
    "export_jobs.file": Example(path={"name": "manifest.json"}),
    "exports.stream": Example(query={"from": "now-24h", "format": "csv"}),
    "facets.list_facet_values": Example(query={"from": "now-24h", "limit": "10"}),
    "grafana.annotations": Example(
        body={"range": _PANEL_RANGE, "annotation": {"name": "Errors", "query": "annotations.errors"}}
    ),
    "grafana.payload_options": Example(body={"metric": "timeseries", "name": "metric", "payload": {}}),
    "grafana.query": Example(
        body={
            "range": _PANEL_RANGE,
            "intervalMs": 3600000,
            "maxDataPoints": 200,
            "targets": [{"refId": "A", "target": "timeseries", "payload": {"metric": "cost", "group_by": ["model"]}}],
        }
    ),
    "grafana.search": Example(body={"target": "stat"}),
    "grafana.tag_keys": Example(body={}),
    "grafana.tag_values": Example(body={"key": "model"}),
    "grafana.targets": Example(body={}),
    "grafana.variable": Example(body={"payload": {"target": "values", "field": "model"}}),
    "ingest_settings.replace": Example(body={"ingest": {"spans_per_minute": 60000}}),
    "jaeger.dependencies": Example(query={"lookback": "3600000"}),
    "jaeger.operation_list": Example(query={"service": "checkout"}),
    "jaeger.search": Example(query={"service": "checkout", "limit": "5"}),
    "keys.create_key": Example(body={"label": "checkout", "kind": "ingest", "projects": [PROJECT]}),
    "live.events": Example(query={"status": "error"}),
    "live.socket": Example(query={"min_cost": "0.1"}),
    "mcp.messages": Example(body={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    "metrics.query": Example(
        body={"metrics": ["calls", "cost"], "from": "now-24h", "interval": "1h", "group_by": ["model"]}
    ),
    "metrics.rows": Example(query={"metric": "calls,cost", "from": "now-24h", "interval": "1h", "group_by": "model"}),
    "metrics.summary": Example(query=_DAY),
    "oauth.introspect": Example(body={"token": "TOKEN", "client_id": "CLIENT", "client_secret": "SECRET"}),
    "oauth.revoke": Example(body={"token": "TOKEN", "client_id": "CLIENT", "client_secret": "SECRET"}),
    "oauth.token": Example(body={"grant_type": "client_credentials", "client_id": "CLIENT", "client_secret": "SECRET"}),
    "otlp.explain_traces": Example(query={"project": PROJECT}, body=_OTLP),
    "otlp.export_logs": Example(query={"project": PROJECT}, body={"resourceLogs": []}),
    "otlp.export_metrics": Example(query={"project": PROJECT}, body={"resourceMetrics": []}),
    "otlp.export_traces": Example(query={"project": PROJECT}, body=_OTLP),
    "prices.delete": Example(query={**_ONE, "provider": "openai", "model": "house-model"}),
    "prices.delete_trace": Example(query=_ONE),
    "prices.list": Example(query=_ONE),
    "prices.reprice": Example(query=_ONE, body={"from": "now-7d", "dry_run": True}),
    "prices.store": Example(
        query=_ONE,
        body={"provider": "openai", "model": "house-model", "input_usd_per_mtok": 1, "output_usd_per_mtok": 4},
    ),
    "prices.unpriced": Example(query={"from": "now-7d"}),
    "projects.create_project": Example(body={"project_id": "search", "name": "Search team"}),
    "projects.delete_project": Example(path={"project_id": "search"}),
    "prometheus.format_query": Example(query=_PROMQL),
    "prometheus.format_query_form": Example(body=_PROMQL),
    "prometheus.label_values": Example(path={"name": "model"}),
    "prometheus.label_values_form": Example(path={"name": "model"}, body={"match[]": ["llm_calls_total"]}),
    "prometheus.labels_form": Example(body={"match[]": ["llm_calls_total"]}),
    "prometheus.metadata": Example(query={"metric": "llm_calls_total"}),
    "prometheus.parse_query": Example(query=_PROMQL),
    "prometheus.parse_query_form": Example(body=_PROMQL),
    "prometheus.query": Example(query=_PROMQL),
    "prometheus.query_exemplars": Example(query={"query": "llm_duration_seconds_bucket", **_FORM_TIMES}),
    "prometheus.query_exemplars_form": Example(body={"query": "llm_duration_seconds_bucket", **_FORM_TIMES}),
    "prometheus.query_form": Example(body=_PROMQL),
    "prometheus.query_range": Example(query={**_PROMQL, **_FORM_TIMES, "step": "1m"}),
    "prometheus.query_range_form": Example(body={**_PROMQL, **_FORM_TIMES, "step": "1m"}),
    "prometheus.series": Example(query={"match[]": "llm_calls_total"}),
    "prometheus.series_form": Example(body={"match[]": ["llm_calls_total"]}),
    "scores.create_score": Example(query=_ONE, body=_SCORE),
    "scores.create_scores": Example(query=_ONE, body={"scores": [_SCORE]}),
    "scores.delete_score": Example(query=_ONE),
    "sessions.list_sessions": Example(query={"from": "now-24h", "limit": "10"}),
    "sessions.list_users": Example(query={"from": "now-24h", "sort_by": "total_cost_usd"}),
    "tempo.search": Example(query={"q": "{ status = error }", "limit": "5"}),
    "tempo.tag_values_v1": Example(path={"name": "service.name"}),
    "tempo.tag_values_v2": Example(path={"name": "resource.service.name"}),
    "tempo_metrics.instant": Example(query={"q": "{ } | rate()", "since": "1h"}),
    "tempo_metrics.range": Example(query={"q": "{ } | rate() by (resource.service.name)", "since": "1h"}),
    "trace_detail.get_span": Example(query={"fields": "core,io"}),
    "traces.list": Example(query={"from": "now-24h", "model": "gpt-4.1-mini", "min_cost": "0.0001", "limit": "10"}),
    "traces.query": Example(body={"from": "now-24h", "limit": 10}),
    "traces.search": Example(
        body={
            "from": "now-24h",
            "filter": {"field": "model", "operator": "in", "value": ["gpt-4.1", "gpt-4.1-mini"]},
            "sort": [{"field": "total_cost_usd", "order": "desc"}],
            "limit": 10,
        }
    ),
}


def example_of(name: str) -> Example:
    """Return the example of the route called ``name``."""
    return EXAMPLES.get(name, _NOTHING)


_NOTHING: Final = Example()
