"""The metric engine over HTTP: rows, series, summary, catalogue, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from server.queries.filters.span_fields import FIELDS, FieldType
from server.queries.metrics import source_plan
from server.queries.metrics.metric_catalog import METRICS
from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

HOUR = (datetime.now(UTC) - timedelta(days=2)).replace(hour=10, minute=0, second=0, microsecond=0)
FROM, TO = HOUR.isoformat().replace("+00:00", "Z"), (HOUR + timedelta(hours=3)).isoformat().replace("+00:00", "Z")


@pytest.fixture
async def http(
    app_server: AppServer, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator's client of a project with three calls."""
    await project("alpha")
    await store(
        app_server.services,
        "alpha",
        [
            make_span(ts=HOUR, model="small", duration_ms=100.0, total_tokens=10, total_cost_usd=Decimal("0.01")),
            make_span(ts=HOUR + timedelta(minutes=70), model="small", duration_ms=200.0, status_code="ERROR"),
            make_span(ts=HOUR + timedelta(minutes=75), model="large", duration_ms=300.0, total_cost_usd=Decimal("0.5")),
        ],
    )
    headers = bearer("admin", ["alpha"])
    async with httpx.AsyncClient(base_url=app_server.base_url, headers=headers, timeout=30) as client:
        yield client


async def test_rows_are_flat_and_have_the_same_keys(http: httpx.AsyncClient) -> None:
    params = {"metric": "calls,cost", "from": FROM, "to": TO, "group_by": "model", "interval": "1h"}
    answer = await http.get("/api/v1/metrics", params=params)
    body = answer.json()
    assert answer.status_code == 200
    assert {tuple(row) for row in body["data"]} == {("time", "time_ms", "metric", "value", "model")}
    large = [row for row in body["data"] if row["model"] == "large" and row["metric"] == "cost"]
    assert [row["value"] for row in large] == [None, 0.5, None]
    assert large[0]["time"] == HOUR.strftime("%Y-%m-%dT%H:00:00.000Z")
    assert large[0]["time_ms"] == int(HOUR.timestamp() * 1000)
    meta = body["meta"]
    assert (meta["source"], meta["precision"], meta["interval_seconds"]) == ("rollup", "exact", 3600)


async def test_rows_take_the_filters_of_traces(http: httpx.AsyncClient) -> None:
    params = {"metric": "calls", "from": FROM, "to": TO, "model": "small", "status": "error"}
    answer = await http.get("/api/v1/metrics", params=params)
    assert [row["value"] for row in answer.json()["data"]] == [1]


async def test_a_query_gives_series_by_group_with_comparison(http: httpx.AsyncClient) -> None:
    document = {
        "metrics": ["calls", {"metric": "duration", "aggregation": "max"}],
        "from": TO,
        "to": (HOUR + timedelta(hours=6)).isoformat(),
        "compare": "previous_period",
        "filter": {"field": "model", "operator": "eq", "value": "small"},
    }
    answer = await http.post("/api/v1/metrics/query", json=document)
    (group,) = answer.json()["data"]["groups"]
    assert group["values"] == {"calls": [None], "duration_max": [None]}
    assert group["compared"]["calls"] == [2]
    assert answer.json()["meta"]["no_change_reason"] is None
    assert group["compared"]["duration_max"] == [pytest.approx(200, rel=0.01)]


async def test_the_same_question_gives_the_same_number_in_both_forms(http: httpx.AsyncClient) -> None:
    rows = await http.get("/api/v1/metrics", params={"metric": "cost_per_call", "from": FROM, "to": TO})
    series = await http.post("/api/v1/metrics/query", json={"metrics": ["cost_per_call"], "from": FROM, "to": TO})
    (group,) = series.json()["data"]["groups"]
    assert rows.json()["data"][0]["value"] == group["values"]["cost_per_call"][0] == 0.17


async def test_histograms_are_lists_of_bins(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/metrics", params={"metric": "duration.histogram", "from": FROM, "to": TO})
    bins = answer.json()["data"][0]["value"]
    assert [(item["le"], item["count"]) for item in bins if item["count"]] == [(100.0, 1), (200.0, 1), (500.0, 1)]


async def test_the_summary_has_totals_with_change_and_top_lists(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/metrics/summary", params={"from": FROM, "to": TO})
    data = answer.json()["data"]
    assert data["totals"]["calls"] == {"value": 3, "previous": None, "change_percent": None, "unit": "short"}
    assert data["no_change_reasons"]["calls"] == "there are no data before this period."
    assert data["totals"]["cost"]["value"] == 0.51
    assert data["top"]["model"] == [
        {"model": "large", "cost": 0.5, "calls": 1},
        {"model": "small", "cost": 0.01, "calls": 2},
    ]


async def test_the_catalog_lists_every_metric_with_its_permission(http: httpx.AsyncClient) -> None:
    data = (await http.get("/api/v1/metrics/catalog")).json()["data"]
    assert {item["name"]: item["permission"] for item in data["metrics"]} == {
        name: metric.permission for name, metric in METRICS.items()
    }
    assert "attribute.KEY" in {item["name"] for item in data["dimensions"]}


async def test_money_needs_its_own_scope(http: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]) -> None:
    headers = bearer("viewer", ["alpha"], scopes=["metrics:read"])
    refused = await http.get("/api/v1/metrics", params={"metric": "cost", "from": FROM}, headers=headers)
    assert refused.status_code == 403
    given = await http.get("/api/v1/metrics", params={"metric": "calls", "from": FROM}, headers=headers)
    assert given.status_code == 200
    summary = await http.get("/api/v1/metrics/summary", params={"from": FROM, "to": TO}, headers=headers)
    assert "cost" not in summary.json()["data"]["totals"]


MONEY_FIELDS = [name for name, field in FIELDS.items() if field.type is FieldType.MONEY]
MONEY_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    *(({"filter": {"field": name, "operator": "gt", "value": 0}}, f"A filter by {name}") for name in MONEY_FIELDS),
    ({"filter": {"not": {"field": "total_cost_usd", "operator": "lt", "value": 1}}}, "A filter by total_cost_usd"),
    (
        {"filter": {"trace": {"has": {"field": "total_cost_usd", "operator": "exists", "value": True}}}},
        "A filter by total_cost_usd",
    ),
    ({"metrics": ["calls", "cost"]}, "cost"),
    ({"group_by": ["model"], "order_by": "cost_per_call"}, "cost_per_call"),
    ({"group_by": ["user"], "having": [{"metric": "cost", "operator": "gt", "value": 0.4}]}, "cost"),
]


@pytest.mark.parametrize(("more", "named"), MONEY_QUESTIONS)
async def test_money_cannot_be_found_out_by_counting(
    http: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], more: dict[str, Any], named: str
) -> None:
    poor, rich = (bearer("viewer", ["alpha"], scopes=["metrics:read", *more]) for more in ([], ["costs:read"]))
    body = {"metrics": ["calls"], "from": FROM, "to": TO, **more}
    refused = await http.post("/api/v1/metrics/query", json=body, headers=poor)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    assert refused.json()["detail"] == f"{named} needs the scope costs:read."
    # Nor from what was remembered for somebody else.
    assert (await http.post("/api/v1/metrics/query", json=body, headers=rich)).status_code == 200
    assert (await http.post("/api/v1/metrics/query", json=body, headers=poor)).status_code == 403


@pytest.mark.parametrize(
    "path", ["metrics?metric=calls", "metrics/summary?", "analytics/performance?", "analytics/quality?"]
)
async def test_no_report_filters_by_money_without_its_scope(
    http: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], path: str
) -> None:
    poor = bearer("viewer", ["alpha"], scopes=["metrics:read"])
    address = f"/api/v1/{path}&from={FROM}&to={TO}"
    assert (await http.get(address, headers=poor)).status_code == 200
    refused = await http.get(f"{address}&min_cost=0.1", headers=poor)
    assert refused.status_code == 403
    assert refused.json()["detail"] == "A filter by total_cost_usd needs the scope costs:read."
    assert (await http.get(f"{address}&min_cost=0.1")).status_code == 200


async def test_attributes_are_content(http: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]) -> None:
    params = {"metric": "calls", "from": FROM, "group_by": "attribute.team"}
    assert (await http.get("/api/v1/metrics", params=params, headers=bearer("billing", ["alpha"]))).status_code == 403
    assert (await http.get("/api/v1/metrics", params=params)).status_code == 200


async def test_explain_tells_the_sources_to_administrators_only(
    http: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    params = {"metric": "calls", "from": FROM, "to": TO, "explain": "true"}
    answer = await http.get("/api/v1/metrics", params=params, headers=bearer("admin"))
    assert any("slice_1h" in line for line in answer.json()["meta"]["tables"])
    for role in ("viewer", "admin"):
        refused = await http.get("/api/v1/metrics", params=params, headers=bearer(role, ["alpha"]))
        assert refused.status_code == 403


BAD_PARAMETERS: list[tuple[dict[str, str], str, str]] = [
    ({"metric": "cals"}, "metric", "did you mean calls"),
    ({"metric": "latency"}, "metric", "did you mean duration"),
    ({"metric": "calls.p95"}, "metric", "no aggregation p95, only sum; p95 is available for duration"),
    ({"metric": "cost_p95"}, "metric", "cost has no aggregation p95, only sum"),
    ({"metric": "duration_p97"}, "metric", "no aggregation p97, only avg, min"),
    ({"from": "now-1h", "to": "now-2h"}, "to", "reversed"),
    ({"from": "2020-01-01T00:00:00Z"}, "from", "longer than 1100 days"),
    ({"group_by": "modell"}, "group_by", "did you mean model"),
    ({"group_by": "model,provider,service,status,agent,tool"}, "group_by", "leave out 1"),
    ({"group_by": "score_name"}, "group_by", "splits only metrics of scores: scores, score_average"),
    ({"group_by": "attribute."}, "group_by", "and attribute.KEY"),
    ({"limit": "5000"}, "limit", "from 1 to 1000"),
    ({"interval": "5 minutes"}, "interval", "as 30s, 5m"),
    ({"time_zone": "Berlin"}, "time_zone", "Europe/Berlin"),
    ({"compare": "last_week"}, "compare", "previous_period"),
    ({"max_points": "20000"}, "max_points", "11000"),
    ({"order_by": "duration.histogram", "group_by": "model"}, "order_by", "histogram"),
    ({"colour": "red"}, "colour", "unknown"),
    ({"interval": "999999y"}, "interval", "ten years"),
    ({"time_zone": "Europe"}, "time_zone", "Europe/Berlin"),
]


async def test_a_bad_question_is_400_and_says_what_to_do(http: httpx.AsyncClient) -> None:
    for changes, parameter, advice in BAD_PARAMETERS:
        answer = await http.get("/api/v1/metrics", params={"metric": "calls", "from": "now-1h", **changes})
        assert answer.status_code == 400, changes
        (error,) = answer.json()["errors"]
        assert error["parameter"] == parameter, changes
        assert advice in error["detail"], changes


BAD_DOCUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"metrics": []}, "/metrics"),
    ({"metrics": ["nothing"]}, "/metrics/0"),
    ({"metrics": [{"metric": "duration", "aggregation": "median"}]}, "/metrics/0"),
    ({"metrics": [7]}, "/metrics/0"),
    ({"metrics": "calls"}, "/metrics"),
    ({"from": None}, "/from"),
    ({"group_by": "model"}, "/group_by"),
    ({"interval": 3600}, "/interval"),
    ({"order_by": "calls desc", "group_by": ["model"]}, "/order_by"),
    ({"having": [{"metric": "kalls", "operator": "gt", "value": 1}], "group_by": ["model"]}, "/having/0/metric"),
    ({"having": [{"metric": "cost", "operator": "above", "value": 1}]}, "/having/0/operator"),
    ({"having": [{"metric": "cost", "operator": "gt", "value": "1"}]}, "/having/0/value"),
    ({"filter": {"field": "modell", "operator": "eq", "value": "x"}}, "/filter/field"),
    ({"having": [{"metric": "calls", "operator": "gt", "value": 10**400}], "group_by": ["model"]}, "/having/0/value"),
    ({"having": [{"metric": "calls", "operator": "gt", "value": 1}]}, "/having"),
    ({"fill": "blank"}, "/fill"),
    ({"order": "up"}, "/order"),
    ({"project_id": []}, "/project_id"),
    ({"time_zone": ""}, "/time_zone"),
    ({"limit": 0}, "/limit"),
    ({"surprise": 1}, "/surprise"),
]


async def test_too_many_groups_are_400_and_say_what_to_ask_instead(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_plan, "MOST_VALUES", 5)
    params = {"metric": "calls", "from": FROM, "to": TO, "group_by": "model", "interval": "1h"}
    assert (await http.get("/api/v1/metrics", params={**params, "limit": "1", "other": "false"})).status_code == 200
    with_the_rest = await http.get("/api/v1/metrics", params={**params, "limit": "1"})
    assert "too many groups: 2 of them at 3 points" in with_the_rest.json()["detail"]
    refused = await http.get("/api/v1/metrics", params=params)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
    (error,) = refused.json()["errors"]
    assert error["parameter"] == "limit"
    assert error["detail"] == "too many groups: 2 of them at 3 points; ask for fewer or a wider interval"


async def test_a_bad_document_is_400_with_a_pointer(http: httpx.AsyncClient) -> None:
    for changes, pointer in BAD_DOCUMENTS:
        document = {"metrics": ["calls"], "from": "now-1h", **changes}
        answer = await http.post("/api/v1/metrics/query", json=document)
        assert answer.status_code == 400, changes
        assert answer.json()["errors"][0]["pointer"] == pointer, changes


async def test_half_a_surrogate_pair_is_400_wherever_it_stands(http: httpx.AsyncClient) -> None:
    for body in (
        b'{"metrics":["\\ud800"],"from":"now-1h"}',
        b'{"metrics":["calls"],"from":"now-1h","\\udfff":1}',
        b'{"metrics":["calls"],"from":"now-1h","time_zone":"\\uD83D"}',
    ):
        answer = await http.post("/api/v1/metrics/query", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
