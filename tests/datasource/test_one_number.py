"""One question, one number: a panel, the REST API and the stored spans agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.datasource.grafana_client import query_body
from tests.datasource.seed import ACME, Seed, iso

METRICS = ("calls", "errors", "cost", "total_tokens", "duration_p95", "time_to_first_token_p50", "error_rate", "users")
NARROWINGS: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    ({}, {}),
    ({"model": "var-model=gpt-5"}, {"model": "gpt-5"}),
    (
        {"environment": "production", "user": ["user-1", "user-2"]},
        {"environment": "production", "user_id": "user-1,user-2"},
    ),
)


@pytest.mark.parametrize(("payload", "parameters"), NARROWINGS, ids=["all", "one model", "two users"])
async def test_panels_and_rest_give_the_same_figures(
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    seeded_history: Seed,
    payload: dict[str, Any],
    parameters: dict[str, str],
) -> None:
    headers = bearer("viewer", [ACME])
    target = {"target": "stat", "payload": {"metric": list(METRICS), "show": "value", **payload}}
    panel = await client.post("/grafana/query", json=query_body(seeded_history, target), headers=headers)
    assert panel.status_code == 200, panel.text
    range_ = {"from": iso(seeded_history.start), "to": iso(seeded_history.end)}
    rest = await client.get(
        "/api/v1/metrics", params={"metric": ",".join(METRICS), **range_, **parameters}, headers=headers
    )
    assert rest.status_code == 200, rest.text
    values = {row["metric"]: row["value"] for row in rest.json()["data"]}
    assert len(values) == len(METRICS)
    (shown,) = panel.json()[0]["rows"]
    assert shown == [next(value for key, value in values.items() if key.startswith(name)) for name in METRICS]
