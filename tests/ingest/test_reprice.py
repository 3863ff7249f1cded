"""Price overrides, re-pricing, models without a price, and deletion of traces."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from server.http.services import Services
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.stored_state import counted_totals, everything, recomputed_summaries, stored_summaries
from tests.span_factory import make_span, store

Ask = Callable[..., Any]
OVERRIDE = {"provider": "openai", "model": "GPT-4o", "input_usd_per_mtok": 10, "output_usd_per_mtok": "40.5"}


@pytest.fixture
async def ask(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker) -> Ask:
    """Asks as an admin of project alpha."""
    await project("alpha")
    headers = bearer("admin", ["alpha"])

    async def send(method: str, path: str, body: Any = None, **params: str) -> httpx.Response:
        return await client.request(method, f"/api/v1{path}", json=body, params=params, headers=headers)

    return send


@pytest.fixture
def services(app_server: AppServer) -> Services:
    """The services of the server under test."""
    return app_server.services


def call(**overrides: Any) -> Any:
    values: dict[str, Any] = {
        "prompt_tokens": 1_000_000, "completion_tokens": 100_000, "total_tokens": 1_100_000,
        "prompt_cost_usd": Decimal("2.5"), "completion_cost_usd": Decimal("1.0"), "total_cost_usd": Decimal("3.5"),
        "cost_source": "computed", "price_version": "test", "session_id": "s1", "user_id": "u1",
    }  # fmt: skip
    return make_span(**(values | overrides))


def window() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"from": (now - timedelta(days=2)).isoformat(), "to": (now + timedelta(minutes=1)).isoformat()}


async def test_overrides_are_stored_listed_replaced_and_deleted(ask: Ask) -> None:
    assert (await ask("POST", "/prices", OVERRIDE)).status_code == 201
    assert (await ask("POST", "/prices", {**OVERRIDE, "input_usd_per_mtok": 11})).status_code == 200
    (row,) = (await ask("GET", "/prices")).json()["data"]
    assert (row["provider"], row["model"], row["input_usd_per_mtok"], row["output_usd_per_mtok"]) == (
        "openai", "gpt-4o", 11, 40.5,
    )  # fmt: skip
    named = {"provider": "openai", "model": "gpt-4o"}
    assert (await ask("DELETE", "/prices", **named)).status_code == 200
    assert (await ask("DELETE", "/prices", **named)).status_code == 404
    assert (await ask("GET", "/prices")).json()["data"] == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"input_usd_per_mtok": -1}, "/input_usd_per_mtok"),
        ({"input_usd_per_mtok": "NaN"}, "/input_usd_per_mtok"),
        ({"output_usd_per_mtok": None}, "/output_usd_per_mtok"),
        ({"cache_read_usd_per_mtok": "x"}, "/cache_read_usd_per_mtok"),
        ({"valid_from": "soon"}, "/valid_from"),
        ({"valid_from": True}, "/valid_from"),
        ({"input_usd_per_mtok": "1e-400"}, "/input_usd_per_mtok"),
        ({"input_usd_per_mtok": "1e-50"}, "/input_usd_per_mtok"),
        ({"input_usd_per_mtok": "１２"}, "/input_usd_per_mtok"),
        ({"input_usd_per_mtok": "1_0"}, "/input_usd_per_mtok"),
        ({"input_usd_per_mtok": True}, "/input_usd_per_mtok"),
        ({"price": 1}, "/price"),
    ],
)
async def test_a_bad_override_is_400_and_names_the_place(ask: Ask, change: dict[str, Any], pointer: str) -> None:
    response = await ask("POST", "/prices", {**OVERRIDE, **change})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, pointer)


async def test_a_dry_run_tells_the_difference_and_changes_nothing(
    ask: Ask, services: Services, owner: asyncpg.Connection
) -> None:
    await ask("POST", "/prices", OVERRIDE)
    await store(
        services, "alpha", [call(), call(), call(cost_source="reported"), call(model="gpt-9", cost_source="none")]
    )
    before = await everything(owner)
    answer = (await ask("POST", "/costs/reprice", window())).json()["data"]
    assert answer["dry_run"] is True
    model = next(row for row in answer["models"] if row["model"] == "gpt-4o")
    assert (model["calls"], model["changed"]) == (2, 2)
    assert (model["old_cost_usd"], model["new_cost_usd"], model["difference_usd"]) == (7, 28.1, 21.1)
    assert answer["continue_from"] is None
    assert await everything(owner) == before


async def test_applied_prices_reach_rows_summaries_and_rollups(
    ask: Ask, services: Services, owner: asyncpg.Connection
) -> None:
    await ask("POST", "/prices", OVERRIDE)
    reported = call(cost_source="reported")
    await store(services, "alpha", [*(call() for _ in range(30)), reported])
    answer = (await ask("POST", "/costs/reprice", {**window(), "dry_run": False})).json()["data"]
    assert (answer["total"]["changed"], answer["total"]["new_cost_usd"]) == (30, 421.5)
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert {row["total_cost_usd"] for row in rows if row["cost_source"] == "override"} == {Decimal("14.05")}
    assert [row["total_cost_usd"] for row in rows if row["cost_source"] == "reported"] == [Decimal("3.5")]
    assert await stored_summaries(owner) == recomputed_summaries(rows)
    assert (await counted_totals(owner))["total_cost"] == Decimal("425")
    again = (await ask("POST", "/costs/reprice", {**window(), "dry_run": False})).json()["data"]
    assert again["total"]["changed"] == 0


async def test_a_filter_narrows_what_is_priced_anew(ask: Ask, services: Services, owner: asyncpg.Connection) -> None:
    await ask("POST", "/prices", OVERRIDE)
    await store(services, "alpha", [call(environment="test"), call(environment="production")])
    only = {"field": "environment", "operator": "eq", "value": "test"}
    await ask("POST", "/costs/reprice", {**window(), "dry_run": False, "filter": only})
    rows = await owner.fetch("SELECT environment, cost_source FROM llm_traces ORDER BY environment")
    assert [tuple(row) for row in rows] == [("production", "computed"), ("test", "override")]


async def test_an_override_counts_from_its_day_on(ask: Ask, services: Services, owner: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await ask("POST", "/prices", {**OVERRIDE, "valid_from": (now - timedelta(hours=1)).isoformat()})
    await store(services, "alpha", [call(ts=now - timedelta(hours=2)), call(ts=now - timedelta(minutes=5))])
    await ask("POST", "/costs/reprice", {**window(), "dry_run": False})
    rows = await owner.fetch("SELECT cost_source FROM llm_traces ORDER BY ts")
    assert [row["cost_source"] for row in rows] == ["computed", "override"]


async def test_models_without_a_price_are_listed_with_their_calls(ask: Ask, services: Services) -> None:
    nothing = {"total_cost_usd": None, "prompt_cost_usd": None, "completion_cost_usd": None, "cost_source": "none"}
    await store(services, "alpha", [call(model="home-made", **nothing) for _ in range(3)] + [call()])
    failed = call(model="failed", **nothing | dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens")))
    await store(services, "alpha", failed)
    hour_ago = int((datetime.now(UTC) - timedelta(hours=1)).timestamp())
    total = (await ask("POST", "/costs/reprice", {"from": hour_ago})).json()["data"]["total"]
    assert (total["calls"], total["unpriced"]) == (5, 3), "a call without tokens has nothing to price"
    (row,) = (await ask("GET", "/costs/unpriced")).json()["data"]
    assert (row["provider"], row["model"], row["calls"], row["total_tokens"]) == ("openai", "home-made", 3, 3_300_000)


async def test_a_developer_may_not_set_prices_nor_delete_traces(
    ask: Ask, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    headers = bearer("developer", ["alpha"])
    for method, path, body in (
        ("POST", "/api/v1/prices", OVERRIDE),
        ("POST", "/api/v1/costs/reprice", window()),
        ("DELETE", f"/api/v1/traces/{'a' * 32}", None),
    ):
        assert (await client.request(method, path, json=body, headers=headers)).status_code == 403


async def test_a_deleted_trace_leaves_no_row_and_no_sum(
    ask: Ask, services: Services, owner: asyncpg.Connection
) -> None:
    gone, kept = call(), call()
    await store(services, "alpha", [gone, kept])
    await owner.execute(
        "INSERT INTO scores (project_id, score_id, trace_id, name, data_type, value, source, ts)"
        " VALUES ('alpha', 's', $1, 'n', 'numeric', 1, 'api', now())",
        gone.trace_id,
    )
    response = await ask("DELETE", f"/traces/{gone.trace_id}")
    assert (response.status_code, response.json()["data"]["deleted_spans"]) == (200, 1)
    assert (await ask("DELETE", f"/traces/{gone.trace_id}")).status_code == 404
    rows = await owner.fetch("SELECT * FROM llm_traces")
    assert [row["trace_id"] for row in rows] == [kept.trace_id]
    assert await stored_summaries(owner) == recomputed_summaries(rows)
    assert (await counted_totals(owner))["total_cost"] == Decimal("3.5")
    assert await owner.fetchval("SELECT count(*) FROM scores") == 0


async def test_a_trace_of_another_project_is_not_found(
    ask: Ask, services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("beta")
    foreign = call()
    await store(services, "beta", foreign)
    assert (await ask("DELETE", f"/traces/{foreign.trace_id}")).status_code == 404
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 1
