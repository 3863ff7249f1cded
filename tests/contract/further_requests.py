"""Requests beside the examples, for the forms of answers that no example gets: by route, as httpx takes them."""

from __future__ import annotations

import time
from typing import Any

from datasource.panel_catalog import TARGETS
from server.rest.openapi.examples import PROJECT, SPAN_ID, TRACE_ID

TARGETS_OF_A_PANEL = 20
Asked = tuple[str, str, dict[str, Any], int]


def further_requests() -> list[Asked]:
    """Return method, path, arguments and expected status of each."""
    now = int(time.time())
    recent = {"start": str(now - 3600), "end": str(now)}
    moments = {"from": "now-24h", "to": "now"}
    asked: list[Asked] = [
        *(
            ("GET", "/prometheus/api/v1/query", {"params": {"query": query, "stats": "all"}}, 200)
            for query in ("1 + 1", '"a text"', "llm_calls_total[1h]", "llm_duration_seconds", "llm_calls_total")
        ),
        *(
            ("GET", "/prometheus/api/v1/query_range", {"params": {"query": query, "step": "10m", **recent}}, 200)
            for query in ("sum by (model) (llm_calls_total)", "llm_duration_seconds", "2")
        ),
        (
            "GET",
            "/prometheus/api/v1/query_exemplars",
            {"params": {"query": "llm_duration_seconds_bucket", **recent}},
            200,
        ),
        ("GET", "/tempo/api/search", {"params": {"q": "{ } | select(span.gen_ai.usage.input_tokens)", **recent}}, 200),
        *(
            ("GET", "/tempo/api/metrics/query_range", {"params": {"q": query, "exemplars": "5", **recent}}, 200)
            for query in ("{ } | rate() by (resource.service.name)", "{ } | quantile_over_time(duration, .5, .9)")
        ),
        *(
            ("GET", "/api/v1/traces", {"params": {"view": view, "include": "scores,children,snippets", **more}}, 200)
            for view in ("spans", "traces")
            for more in (
                {"search": "a", "total": "exact"},
                {"fields": "all", "total": "estimate"},
                {"explain": "1"},
            )
        ),
        *(
            ("GET", "/api/v1/metrics", {"params": {"metric": "cost,duration_p95", **moments, **more}}, 200)
            for more in ({"interval": "1h", "group_by": "model"}, {"compare": "previous_period"}, {"explain": "1"})
        ),
        ("GET", "/api/v1/metrics/summary", {"params": {"from": "now-60d"}}, 200),
        ("GET", "/api/v1/sessions", {"params": {"explain": "1"}}, 200),
        ("GET", "/jaeger/api/traces", {"params": {"limit": "20"}}, 200),
        *(
            (
                "POST",
                "/grafana/query",
                {"json": {"range": moments, "targets": [{"refId": name, "target": name} for name in names]}},
                200,
            )
            for names in _in_parts(list(TARGETS))
        ),
        (
            "POST",
            "/grafana/annotations",
            {"json": {"range": moments, "annotation": {"name": "Errors", "query": "annotations.errors"}}},
            200,
        ),
        *(
            ("POST", path, {"params": {"project": PROJECT}, "json": _payload()}, 200)
            for path in ("/v1/traces/explain", "/v1/traces")
        ),
    ]
    refused: list[Asked] = [
        ("GET", "/prometheus/api/v1/query", {"params": {"query": "sum("}}, 400),
        ("GET", "/jaeger/api/traces", {"params": {"limit": "x"}}, 400),
        ("GET", "/jaeger/api/services", {"headers": {"Authorization": "Bearer wrong"}}, 401),
        ("GET", "/tempo/api/search", {"params": {"q": "{ nonsense"}}, 400),
        ("POST", "/grafana/query", {"json": {"targets": 1}}, 400),
        ("POST", "/oauth/token", {"data": {"grant_type": "client_credentials", "client_id": "a"}}, 401),
        ("POST", "/v1/traces", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("GET", "/api/v1/traces", {"params": {"modle": "x"}}, 400),
    ]
    return asked + refused


def _in_parts(names: list[str]) -> list[list[str]]:
    return [names[first : first + TARGETS_OF_A_PANEL] for first in range(0, len(names), TARGETS_OF_A_PANEL)]


def _payload() -> dict[str, Any]:
    """Return a span that began a minute ago, and one that is too old to be stored."""
    now = time.time_ns()
    span = {
        "traceId": TRACE_ID[::-1],
        "spanId": SPAN_ID,
        "name": "chat gpt-4.1-mini",
        "startTimeUnixNano": str(now - 60 * 10**9),
        "endTimeUnixNano": str(now - 59 * 10**9),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4.1-mini"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1200"}},
        ],
    }
    old = {**span, "startTimeUnixNano": "1000000000", "endTimeUnixNano": "2000000000"}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span, old]}]}]}
