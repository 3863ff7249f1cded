"""Liveness, readiness and health say what is true, with a body, whatever is down."""

from __future__ import annotations

import httpx

from tests.conftest import AppFactory


async def test_live_and_ready_answer_200_with_a_body(client: httpx.AsyncClient) -> None:
    for path in ("/live", "/ready", "/health"):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert answer.json()["status"] == "ok"


async def test_ready_is_503_and_live_200_while_postgresql_is_away(start_app: AppFactory) -> None:
    server = await start_app(
        database_url="postgresql://nobody@127.0.0.1:1/none", database_worker_url="postgresql://nobody@127.0.0.1:1/none"
    )
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        assert (await http.get("/live")).status_code == 200
        answer = await http.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["database"] == "unreachable"


async def test_a_lost_redis_degrades_but_stays_ready(start_app: AppFactory) -> None:
    server = await start_app(redis_url="redis://127.0.0.1:1/0")
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        answer = await http.get("/ready")
        assert answer.status_code == 200
        assert answer.json() | {"status": "degraded", "redis": "unreachable"} == answer.json()


async def test_metrics_name_no_version_and_callers_make_no_labels(client: httpx.AsyncClient) -> None:
    for number in range(3):
        assert (await client.request(f"BREW{number}", "/api/v1/traces")).status_code == 405
    text = (await client.get("/metrics")).text
    assert 'method="_OTHER"' in text
    assert "BREW" not in text
    assert "python_info" not in text


async def test_an_unknown_address_is_a_problem_document(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "not_found"
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_no_empty_headers_are_sent(client: httpx.AsyncClient) -> None:
    assert all(value for value in (await client.get("/live")).headers.values())
