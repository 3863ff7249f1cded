"""The same question on every REST surface returns the same rows and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]
Row = dict[str, Any]
START = datetime.now(UTC) - timedelta(hours=2)
PLACE = {"depth", "placement", "child_count"}

QUESTIONS: tuple[tuple[str, Row], ...] = (
    ("", {}),
    ("model=gpt-4o", {"filter": {"field": "model", "operator": "in", "value": ["gpt-4o"]}}),
    ("model!=gpt-4o", {"filter": {"field": "model", "operator": "not_in", "value": ["gpt-4o"]}}),
    ("status=error&from=now-1d", {"filter": {"field": "status", "operator": "eq", "value": "error"}, "from": "now-1d"}),
    (
        "min_tokens=30&sort_by=total_tokens&sort_order=asc",
        {
            "filter": {"field": "total_tokens", "operator": "gte", "value": 30},
            "sort": [{"field": "total_tokens", "order": "asc"}],
        },
    ),
    ("tags=a,b", {"filter": {"field": "tags", "operator": "any", "value": ["a", "b"]}}),
    ("attribute.team=red", {"filter": {"field": "attribute.team", "operator": "in", "value": ["red"]}}),
    ("search=lighthouse", {"filter": {"field": "text", "operator": "search", "value": "lighthouse"}}),
    ("view=traces&sort_by=total_cost_usd", {"view": "traces", "sort": [{"field": "total_cost_usd"}]}),
    ("fields=core,usage&limit=3", {"fields": ["core", "usage"], "limit": 3}),
    ("fields=all&include=scores", {"fields": ["all"], "include": ["scores"]}),
)


@pytest.fixture
async def headers(app_server: AppServer, project: ProjectMaker, bearer: Bearer) -> dict[str, str]:
    """Six traces of three spans with all kinds of values; headers of a developer who may see them."""
    await project("alpha")
    spans = []
    for n in range(18):
        trace, place = divmod(n, 3)
        spans.append(
            make_span(
                trace_id=f"t{trace}",
                span_id=f"s{n}",
                parent_span_id=None if place == 0 else f"s{trace * 3}",
                ts=START + timedelta(seconds=n),
                model="gpt-4o" if n % 2 else "claude",
                status_code="ERROR" if n % 5 == 0 else "OK",
                error_message="refused" if n % 5 == 0 else None,
                total_tokens=n * 10,
                total_cost_usd=Decimal(n) / 1000,
                cost_source="computed",
                tags=[("a", "b", "c")[n % 3]],
                attributes={"team": "red" if n % 4 else "blue", "big": 2**53 + 1},
                input_text="the lighthouse keeper" if n % 6 == 0 else "nobody",
                session_id=f"conversation {trace % 2}",
                user_id="u",
            )
        )
    await store(app_server.services, "alpha", spans)
    return bearer("developer", ["alpha"])


async def rows_of(client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], **more: Any) -> list[Row]:
    answer = await client.request(method, path, headers=headers, **more)
    assert answer.status_code == 200, answer.text
    found: list[Row] = answer.json()["data"]
    return found


async def test_get_post_and_query_give_the_same_rows(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for parameters, document in QUESTIONS:
        listed = await rows_of(client, "GET", f"/api/v1/traces?{parameters}", headers)
        searched = await rows_of(client, "POST", "/api/v1/traces/search", headers, json=document)
        queried = await rows_of(client, "QUERY", "/api/v1/traces", headers, json=document)
        assert listed == searched == queried, parameters
        assert listed, parameters


async def test_a_span_is_the_same_in_lists_traces_and_alone(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for row in await rows_of(client, "GET", "/api/v1/traces?fields=all", headers):
        trace = (await client.get(f"/api/v1/traces/{row['trace_id']}", headers=headers)).json()["data"]
        (in_tree,) = (span for span in trace["spans"] if span["span_id"] == row["span_id"])
        assert {name: value for name, value in in_tree.items() if name not in PLACE} == row
        path = f"/api/v1/traces/{row['trace_id']}/spans/{row['span_id']}"
        alone = (await client.get(path, headers=headers)).json()["data"]
        assert {name: value for name, value in alone.items() if name != "scores"} == row


async def test_sums_of_traces_sessions_and_users_are_those_of_the_spans(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    spans = await rows_of(client, "GET", "/api/v1/traces?fields=core,usage,cost,identity", headers)
    tokens = sum(span["total_tokens"] for span in spans)
    traces = await rows_of(client, "GET", "/api/v1/traces?view=traces", headers)
    sessions = await rows_of(client, "GET", "/api/v1/sessions", headers)
    users = await rows_of(client, "GET", "/api/v1/users", headers)
    for rows in (traces, sessions, users):
        assert sum(row["total_tokens"] for row in rows) == tokens
        assert sum(row["error_count"] for row in rows) == sum(span["status_code"] == "ERROR" for span in spans)
    details = [
        (await client.get(f"/api/v1/traces/{trace['trace_id']}", headers=headers)).json()["data"] for trace in traces
    ]
    assert sum(detail["totals"]["total_tokens"] for detail in details) == tokens
    assert sum(detail["totals"]["span_count"] for detail in details) == len(spans)


async def test_facets_count_what_lists_show(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for parameters in ("", "status=ok", "tags=a,b", "min_tokens=30"):
        rows = await rows_of(client, "GET", f"/api/v1/traces?fields=all&{parameters}", headers)
        for field in ("model", "status_code", "session_id", "trace_id"):
            values = await rows_of(client, "GET", f"/api/v1/facets/{field}?{parameters}", headers)
            assert {item["value"]: item["count"] for item in values} == Counter(row[field] for row in rows)
        tags = await rows_of(client, "GET", f"/api/v1/facets/tags?{parameters}", headers)
        assert {item["value"]: item["count"] for item in tags} == Counter(tag for row in rows for tag in row["tags"])
