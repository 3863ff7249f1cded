"""Nothing that a tenant can ask, and nothing that is open to everybody, tells about another tenant's rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from server.telemetry.prometheus import ProviderNames
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.ingest.otlp_payloads import JSON, as_json, export_request
from tests.span_factory import make_span, store

Headers = Callable[..., dict[str, str]]
NOW = datetime.now(UTC)
# Values that only beta has, as parameters of a list.
OF_BETA = (
    "user_id=ceo@beta", "session_id=beta-session", "model=beta-model", "service_name=beta-service", "tag=beta-tag",
    "error_type=BetaError", "search=betaword", "environment=beta-env", "min_total_cost_usd=0.5",
)  # fmt: skip


@pytest.fixture
async def neighbours(app_server: AppServer, project: ProjectMaker, owner: asyncpg.Connection) -> None:
    """Alpha with a few ordinary rows, beta with many of its own kind, and statistics over both."""
    for name in ("alpha", "beta"):
        await project(name)
    await store(
        app_server.services, "alpha", [make_span(trace_id=f"a{n}", ts=NOW - timedelta(minutes=n)) for n in range(3)]
    )
    spans = [
        make_span(
            trace_id=f"b{n}", ts=NOW - timedelta(seconds=n), user_id="ceo@beta", session_id="beta-session",
            model="beta-model", service_name="beta-service", tags=("beta-tag",), error_type="BetaError",
            input_text="betaword", environment="beta-env",
        )
        for n in range(300)
    ]  # fmt: skip
    await store(app_server.services, "beta", spans)
    await owner.execute("ANALYZE")


@pytest.mark.parametrize("view", ["spans", "traces"])
async def test_an_estimated_total_knows_only_the_own_project(
    client: httpx.AsyncClient, neighbours: None, bearer: Headers, view: str
) -> None:
    async def total(question: str, project: str) -> int:
        path = f"/api/v1/traces?from=now-1d&view={view}&total=estimate&limit=1&{question}"
        answer = await client.get(path, headers=bearer("viewer", [project]))
        if answer.status_code == 400:
            return -1  # not a filter of this view
        total = answer.json()["pagination"]["total"]
        return int(total["value"] if isinstance(total, dict) else total)

    asked = [question for question in OF_BETA if await total(question, "beta") >= 0]
    assert len(asked) >= 4
    for question in asked:
        assert await total(question, "alpha") == 0, question
    assert await total("user_id=ceo@beta", "beta") == 300, "a small project is counted"
    assert await total("", "alpha") == 3


@pytest.mark.parametrize(
    "path", ["traces", "sessions", "users", "traces/a1", "facets/model", "metrics", "traces?view=traces"]
)
async def test_plans_are_for_who_may_see_every_project(
    client: httpx.AsyncClient, neighbours: None, bearer: Headers, path: str
) -> None:
    route, _, question = path.partition("?")
    address = f"/api/v1/{route}?explain=true&{question or ('metric=calls' if route == 'metrics' else '')}"
    if route != "traces/a1":
        address += "&from=now-1d"
    refused = await client.get(address, headers=bearer("admin", ["alpha", "beta"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    answer = await client.get(address, headers=bearer("admin", ["*"]))
    assert answer.status_code == 200, answer.text


async def test_the_open_metrics_page_takes_no_text_of_telemetry(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Headers
) -> None:
    await project("beta")
    names = "gen_ai.provider.name gen_ai.operation.name gen_ai.agent.name service.name error.type user.id"
    odd = dict.fromkeys([*names.split(), "gen_ai.request.model", "gen_ai.response.model"], "tenantsecret")
    sent = {**bearer("developer", ["beta"]), "Content-Type": JSON}
    body = as_json(export_request(attributes=odd, name="tenantsecret"))
    assert (await client.post("/v1/traces", headers=sent, content=body)).status_code == 200
    await client.request("TENANTSECRET", "/tenantsecret?tenantsecret=1", headers={"User-Agent": "tenantsecret"})
    page = (await client.get("/metrics")).text
    assert "observatory_spans_unpriced_total" in page
    assert "tenantsecret" not in page.lower()


async def test_metrics_move_to_the_admin_port(start_app: AppFactory) -> None:
    server = await start_app(admin_port=9)
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        assert (await http.get("/metrics")).status_code == 404
        assert (await http.get("/live")).status_code == 200


def test_named_providers_are_bounded() -> None:
    names = ProviderNames()
    assert names.label("secret") == "any"
    names.are_shown = True
    labels = {names.label(f"provider {number}") for number in range(1000)}
    assert len(labels) == ProviderNames.MOST + 1
    assert names.label("provider 0") == "provider 0"
    assert names.label("x" * 101) == ProviderNames.OTHER
    assert all(re.fullmatch("provider [0-9]+|other", label) for label in labels)
