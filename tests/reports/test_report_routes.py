"""Reports tell what the spans say: known answers on a small data set, asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from server.ingest.mapping.span_record import SpanRecord
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def call(model: str, cost: str, *, days_ago: float, **more: Any) -> SpanRecord:
    """Return a priced model call: prompt 1,000 tokens, answer 200."""
    values: dict[str, Any] = {
        "ts": TODAY - timedelta(days=days_ago) + timedelta(hours=1),
        "model": model,
        "span_name": f"chat {model}",
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "total_cost_usd": Decimal(cost),
        "prompt_cost_usd": Decimal(cost) / 2,
        "completion_cost_usd": Decimal(cost) / 2,
        "cost_source": "computed",
        "duration_ms": 1000.0,
        "user_id": "ann",
        "finish_reason": "stop",
    }
    return make_span(**{**values, **more})


def data_set() -> list[SpanRecord]:
    """Ten complete days: each day three cheap calls and an expensive one, of which one in four fails."""
    spans = []
    for day in range(1, 11):
        spans += [call("mini", "0.001", days_ago=day, user_id="bob", duration_ms=200.0) for _ in range(3)]
        failed = day % 4 == 0
        spans.append(
            call(
                "large",
                "0.1",
                days_ago=day,
                provider="anthropic",
                status_code="ERROR" if failed else "OK",
                error_type="RateLimitError" if failed else None,
                finish_reason=None if failed else "stop",
                duration_ms=4000.0,
            )
        )
    return spans


@pytest.fixture
async def http(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Bearer
) -> httpx.AsyncClient:
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", data_set())
    await store(app_server.services, "beta", call("mini", "99", days_ago=1))
    client.headers.update(bearer("billing", ["alpha"]))
    return client


RANGE = f"from={int((TODAY - timedelta(days=10)).timestamp())}&to={int(TODAY.timestamp())}"


async def ask(http: httpx.AsyncClient, path: str, **headers: str) -> Any:
    answer = await http.get(f"/api/v1/{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_cost_summary_adds_up(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"costs/summary?{RANGE}")
    overview = data["overview"]
    assert overview["total_cost_usd"] == pytest.approx(1.03)
    assert overview["prompt_cost_usd"] == pytest.approx(0.515)
    assert overview["calls"] == 40
    assert overview["total_tokens"] == 48_000
    assert overview["error_cost_usd"] == pytest.approx(0.2)
    assert overview["cost_per_call_usd"] == pytest.approx(1.03 / 40)
    assert overview["cost_change_pct"] is None
    assert overview["no_change_reasons"]["cost_change_pct"] == "there are no data before this period."
    assert overview["day_over_day_change_pct"] == pytest.approx(0)
    by_model = {item["name"]: item for item in data["by_model"]}
    assert by_model["large"]["total_cost_usd"] == pytest.approx(1.0)
    assert by_model["large"]["cost_share_pct"] == pytest.approx(100 / 1.03)
    assert [point["total_cost_usd"] for point in data["trends"]["daily"]] == pytest.approx([0.103] * 10)


async def test_no_change_is_told_where_data_do_not_cover_the_period_before(http: httpx.AsyncClient) -> None:
    """Data of ten days: five days compare with the five before, six would compare with four."""

    async def changes(days: int) -> Any:
        since = int((TODAY - timedelta(days=days)).timestamp())
        window = f"from={since}&to={int(TODAY.timestamp())}"
        costs = (await ask(http, f"costs/summary?{window}"))["overview"]
        quality = await ask(http, f"analytics/quality?{window}")
        totals = await ask(http, f"metrics/summary?{window}")
        return [
            (costs["cost_change_pct"], costs["no_change_reasons"].get("cost_change_pct")),
            (quality["change_pct"]["calls"], quality["no_change_reasons"].get("calls")),
            (totals["totals"]["calls"]["change_percent"], totals["no_change_reasons"].get("calls")),
        ]

    covered, uncovered = await changes(5), await changes(6)
    assert [(pytest.approx(0), None)] * 3 == covered
    assert [value for value, _ in uncovered] == [None] * 3
    assert all("within the previous period" in reason for _, reason in uncovered)


async def test_attribution_shares_are_of_the_whole_and_the_rest_is_other(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"costs/attribution?{RANGE}&dimension=user&limit=1")
    assert [(item["name"], item["is_other"]) for item in data["items"]] == [("ann", False), ("other", True)]
    assert sum(item["total_cost_usd"] for item in data["items"]) == pytest.approx(data["total"]["total_cost_usd"])
    assert data["values_total"] == 2
    least = await ask(http, f"costs/attribution?{RANGE}&dimension=model&min_total_cost=0.5")
    assert [item["name"] for item in least["items"]] == ["large"]


async def test_forecast_of_a_steady_spend_is_that_spend(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"costs/forecast?{RANGE}&period=next_week")
    assert len(data["forecast"]) == 7
    assert data["forecast"][0]["date"] == TODAY.date().isoformat()
    assert data["forecast"][3]["cost_usd"] == pytest.approx(0.103, abs=1e-5)
    assert data["summary"]["total"]["cost_usd"] == pytest.approx(0.721, abs=1e-4)
    assert len(data["historical"]) == 10


async def test_a_forecast_begins_where_its_range_ends(http: httpx.AsyncClient) -> None:
    end = TODAY - timedelta(days=3, hours=-14)
    data = await ask(http, f"costs/forecast?{RANGE.partition('&')[0]}&to={int(end.timestamp())}&days=2")
    assert data["forecast"][0]["date"] == end.date().isoformat()
    assert data["historical"][-1]["date"] == (end - timedelta(days=1)).date().isoformat()


async def test_a_forecast_without_history_says_what_it_needs(http: httpx.AsyncClient) -> None:
    start = int((TODAY - timedelta(days=2)).timestamp())
    answer = await http.get(f"/api/v1/costs/forecast?from={start}&to=now")
    assert answer.status_code == 400
    assert "4 complete days" in answer.json()["detail"]


async def test_performance_has_true_percentiles(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"analytics/performance?{RANGE}&interval=1d")
    assert data["totals"]["duration_p50"] == pytest.approx(200, rel=0.01)
    assert data["totals"]["duration_p95"] == pytest.approx(4000, rel=0.01)
    assert data["totals"]["duration_avg"] == pytest.approx((30 * 200 + 10 * 4000) / 40)
    assert data["interval_seconds"] == 86400
    assert [point["calls"] for point in data["time_series"]] == [4] * 10


async def test_quality_counts_errors_by_kind(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"analytics/quality?{RANGE}&interval=1day")
    assert data["totals"]["errors"] == 2
    assert data["totals"]["error_rate"] == pytest.approx(2 / 40)
    assert [(row["error_type"], row["errors"]) for row in data["errors_by_type"]] == [("RateLimitError", 2)]
    assert {row["finish_reason"]: row["calls"] for row in data["finish_reasons"]} == {"stop": 38, None: 2}


async def test_costs_analytics_splits_by_provider_model_and_user(http: httpx.AsyncClient) -> None:
    data = await ask(http, f"analytics/costs?{RANGE}")
    assert {row["provider"]: row["calls"] for row in data["by_provider"]} == {"openai": 30, "anthropic": 10}
    assert {row["user"] for row in data["by_user"]} == {"ann", "bob"}
    assert data["totals"]["cost"] == pytest.approx(1.03)


async def test_models_and_their_comparison(http: httpx.AsyncClient) -> None:
    rows = await ask(http, f"analytics/models?{RANGE}")
    assert [(row["provider"], row["model"], row["calls"]) for row in rows] == [
        ("openai", "mini", 30),
        ("anthropic", "large", 10),
    ]
    data = await ask(http, f"analytics/models/compare?{RANGE}&models=large,mini,absent")
    assert [row["model"] for row in data["models"]] == ["large", "mini", "absent"]
    assert data["models"][2]["calls"] == 0
    assert len({tuple(row) for row in data["models"]}) == 1
    assert data["summary"] == {
        "fastest_model": "mini",
        "cheapest_model": "mini",
        "most_reliable_model": "mini",
    }


async def test_recommendations_come_with_evidence_and_money_that_was_really_paid(
    http: httpx.AsyncClient, app_server: AppServer
) -> None:
    few = await ask(http, f"analytics/optimization?{RANGE}")
    # Ten calls of the expensive model are too few to speak of it; mini's long prompts are never read from the cache.
    assert [(item["kind"], item["model"]) for item in few["recommendations"]] == [("prompt_caching", "mini")]
    assert few["recommendations"][0]["potential_savings_usd"] is None
    more = [call("large", "0.1", days_ago=day, provider="anthropic", duration_ms=4000.0) for day in range(1, 11)]
    await store(app_server.services, "alpha", more)
    data = await ask(http, f"analytics/optimization?{RANGE}")
    cheaper = next(item for item in data["recommendations"] if item["kind"] == "cheaper_model")
    assert (cheaper["model"], cheaper["evidence"]["alternative"]) == ("large", "mini")
    # 20 calls of 1,200 tokens at mini's price of 0.001 a call instead of 2.00 dollars.
    assert cheaper["potential_savings_usd"] == pytest.approx(2.0 - 20 * 0.001)
    assert {item["kind"] for item in data["recommendations"]} >= {"cheaper_model", "failed_calls", "slow_model"}
    assert 0 <= data["overall_score"] <= 1


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("costs/summary?from=now&to=now-1d", "from"),
        ("costs/summary?top=0", "top"),
        ("costs/summary?projct_id=alpha", "projct_id"),
        ("costs/attribution", "dimension"),
        ("costs/attribution?dimension=password", "dimension"),
        ("costs/attribution?dimension=user&min_total_cost=NaN", "min_total_cost"),
        ("costs/forecast?days=0", "days"),
        ("costs/forecast?confidence=1", "confidence"),
        ("costs/forecast?time_zone=Mars/Olympus", "time_zone"),
        ("analytics/performance?interval=weekly", "interval"),
        ("analytics/models/compare?models=one", "models"),
    ],
)
async def test_bad_questions_are_400_and_name_the_parameter(http: httpx.AsyncClient, path: str, named: str) -> None:
    answer = await http.get(f"/api/v1/{path}")
    assert answer.status_code == 400, answer.text
    assert named in {error.get("parameter") for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("path", "precision", "interval_seconds"),
    [
        ("costs/summary", "exact", None),
        ("costs/attribution?dimension=user", "exact", None),
        ("costs/forecast", "exact", 86400),
        ("analytics/costs?interval=1d", "exact", 86400),
        ("analytics/performance?interval=1h", "sketch", 3600),
        ("analytics/quality?interval=1d", "exact", 86400),
        ("analytics/models", "sketch", None),
        ("analytics/models/compare?models=mini,large", "sketch", None),
        ("analytics/optimization", "sketch", None),
    ],
)
async def test_every_report_says_how_its_figures_came_about(
    http: httpx.AsyncClient, path: str, precision: str, interval_seconds: int | None
) -> None:
    answer = await http.get(f"/api/v1/{path}{'&' if '?' in path else '?'}{RANGE}")
    assert answer.status_code == 200, answer.text
    meta = answer.json()["meta"]
    assert (meta["precision"], meta["interval_seconds"]) == (precision, interval_seconds)
    assert meta["source"] in ("rollup", "raw", "both")
    assert meta["notices"] == []


async def test_another_project_is_forbidden_and_its_money_in_no_sum(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/v1/costs/summary?project_id=beta")).status_code == 403
    assert (await http.get("/api/v1/costs/summary?project_id=unknown")).status_code == 403
    assert (await ask(http, "costs/summary?from=now-30d"))["overview"]["total_cost_usd"] < 2


async def test_public_analytics_open_named_projects_only(start_app: AppFactory, project: ProjectMaker) -> None:
    await project("alpha")
    await project("beta")
    closed = await start_app()
    open_server = await start_app(public_analytics_projects=("alpha",))
    await store(open_server.services, "alpha", call("mini", "0.5", days_ago=1))
    await store(open_server.services, "beta", call("mini", "99", days_ago=1))
    async with httpx.AsyncClient(base_url=closed.base_url) as http:
        assert (await http.get("/api/v1/costs/summary")).status_code == 401
    async with httpx.AsyncClient(base_url=open_server.base_url) as http:
        answer = await http.get("/api/v1/costs/summary")
        assert answer.json()["data"]["overview"]["total_cost_usd"] == pytest.approx(0.5)
        assert (await http.get("/api/v1/costs/summary?project_id=beta")).status_code in (401, 403)
        assert (await http.get("/api/v1/traces")).status_code == 401
