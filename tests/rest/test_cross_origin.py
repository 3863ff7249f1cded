"""Browsers of named origins may call the API; others get no header that would let them."""

from __future__ import annotations

import httpx

from tests.conftest import AppFactory

ORIGIN = {"Origin": "https://app.example"}


async def test_without_the_setting_no_page_may_call(client: httpx.AsyncClient) -> None:
    answer = await client.get("/live", headers=ORIGIN)
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_named_origin_may_call_and_a_similar_one_may_not(start_app: AppFactory) -> None:
    server = await start_app(cors_origins=("https://app.example",))
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        allowed = await http.get("/live", headers=ORIGIN)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-ratelimit-remaining" in allowed.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        for origin in ("https://app.example.evil.test", "https://appxexample", "http://app.example", "null"):
            refused = await http.get("/live", headers={"Origin": origin})
            assert "access-control-allow-origin" not in refused.headers, origin


async def test_a_preflight_names_methods_and_headers(start_app: AppFactory) -> None:
    server = await start_app(cors_origins=("https://app.example",))
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        answer = await http.options(
            "/api/v1/traces",
            headers={
                **ORIGIN,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization,x-evil",
            },
        )
    assert answer.status_code == 204
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization"
    assert answer.headers["access-control-max-age"] == "600"
