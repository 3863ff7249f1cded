"""Price settings of a project, made over HTTP, are in force with its next span."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import ProjectMaker
from tests.ingest.otlp_payloads import PROTOBUF, export_request

PATH = "/api/v1/projects/alpha/ingest-settings"
PRICES = {
    "deployments": {"Prod-Chat": {"provider": "azure_openai", "model": "gpt-4o"}, "plain": {"model": "gpt-4o"}},
    "currencies": {"EUR": 1.25},
}

Bearer = Callable[..., dict[str, str]]


async def test_deployments_and_currencies_price_the_next_span(
    client: httpx.AsyncClient, bearer: Bearer, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    admin, sender = bearer("admin", ["alpha"]), {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    sent = 0

    async def priced(**attributes: Any) -> tuple[Decimal | None, str, str | None, Any]:
        nonlocal sent
        sent += 1
        request = export_request(1, attributes={name.replace("__", "."): value for name, value in attributes.items()})
        for span in request.resource_spans[0].scope_spans[0].spans:
            span.trace_id, span.span_id = sent.to_bytes(16, "big"), sent.to_bytes(8, "big")
        assert (await client.post("/v1/traces", content=request.SerializeToString(), headers=sender)).status_code == 200
        row = await owner.fetchrow("SELECT * FROM llm_traces WHERE trace_id = $1", f"{sent:032x}")
        assert row is not None
        return row["total_cost_usd"], row["cost_source"], row["price_version"], row["usage_details"]

    named = {"gen_ai__request__model": "prod-chat", "gen_ai__response__model": "prod-chat"}
    euros = {"gen_ai__usage__cost__amount": 2.0, "gen_ai__usage__cost__currency": "eur"}
    assert (await priced(**named))[:2] == (None, "none")
    unknown = await priced(**named, **euros)
    assert unknown[:2] == (None, "none")
    assert '"cost_amount": 2' in unknown[3]

    response = await client.put(PATH, json={"prices": PRICES}, headers=admin)
    assert response.status_code == 200
    assert (await client.get(PATH, headers=admin)).json()["data"]["prices"] == PRICES
    cost, source, version, _ = await priced(**named)
    assert cost is not None
    assert (cost > 0, source) == (True, "computed")
    assert "azure/gpt-4o" in (version or "")
    assert (await priced(**named, **euros))[:2] == (Decimal("2.5"), "reported")
    dollars = {"gen_ai__usage__cost__amount": 2.0, "gen_ai__usage__cost__currency": "USD"}
    assert (await priced(**named, **dollars))[:2] == (Decimal(2), "reported")

    assert (await client.put(PATH, json={}, headers=admin)).json()["data"]["prices"] == {}
    assert (await priced(**named))[:2] == (None, "none")


@pytest.mark.parametrize(
    ("prices", "pointer"),
    [
        ({"rates": {}}, "/prices/rates"),
        ({"deployments": []}, "/prices/deployments"),
        ({"deployments": {"a": {"provider": "azure"}}}, "/prices/deployments/a/model"),
        ({"deployments": {"a": {"model": "m", "region": "eu"}}}, "/prices/deployments/a"),
        ({"currencies": {"euro": 1.1}}, "/prices/currencies/euro"),
        ({"currencies": {"EUR": "1.1"}}, "/prices/currencies/EUR"),
        ({"currencies": {"EUR": 0}}, "/prices/currencies/EUR"),
        ({"currencies": {"EUR": True}}, "/prices/currencies/EUR"),
    ],
)
async def test_settings_that_cannot_be_used_are_refused_at_their_place(
    client: httpx.AsyncClient, bearer: Bearer, project: ProjectMaker, prices: dict[str, Any], pointer: str
) -> None:
    await project("alpha")
    response = await client.put(PATH, json={"prices": prices}, headers=bearer("admin", ["alpha"]))
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == pointer
